/* SPDX-License-Identifier: BSD-3-Clause */
/* verify --deep is ended at each point at which it tells how far it is: then nothing is said of a disk
 * that it has not read to its end. */
#include "client/base/error.h"
#include "client/repo/sums.h"
#include "client/repo/verify.h"
#include "common/qcow2/q2-stream.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER 65536
#define SIZE    (4 * CLUSTER)

struct rig {
    struct repository r;
    unsigned calls, stop_at; /* stop_at: the call at which it is ended; 0: never */
    unsigned told;           /* disks */
};

static void make_image(const char *path)
{
    const struct q2_stream_options o = {.size = SIZE};
    const struct q2_extent_known all = {.offset = 0, .length = SIZE};
    g_autofree char *data = g_malloc0(SIZE);
    struct q2_error why = {0};
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    memset(data, 1, SIZE);
    if (q2_stream_head(fd, &o, &all, 1, &why) < 0)
        g_error("%s", why.text);
    g_assert_cmpint(write(fd, data, SIZE), ==, SIZE);
    close(fd);
}

/* The file is one piece. Returns the checksum of the file of checksums. */
static char *make_sums(const char *path, uint64_t *bytes)
{
    g_autofree char *sums_path = g_strconcat(path, ".sums", NULL);
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    g_autoptr(GError) error = NULL;
    g_autofree char *data = NULL;
    g_autoptr(sums) s = sums_new();
    uint8_t digest[32];
    gsize n = sizeof digest, length;
    char *hex;

    g_assert_true(g_file_get_contents(path, &data, &length, NULL));
    g_checksum_update(sum, (const uint8_t *)data, (gssize)length);
    g_checksum_get_digest(sum, digest, &n);
    sums_add(s, 0, length, digest);
    *bytes = length;
    hex = sums_write(s, sums_path, length, &error);
    g_assert_no_error(error);
    return hex;
}

static void setup(struct rig *rig, gconstpointer unused)
{
    struct repo_member *m = repo_member_new();
    struct repo_disk *d = repo_disk_new();
    g_autofree char *path = NULL;

    rig->r.path = g_dir_make_tmp("fleece-XXXXXX", NULL);
    rig->r.members = g_ptr_array_new_with_free_func((GDestroyNotify)repo_member_free);
    path = g_build_filename(rig->r.path, "vda.qcow2", NULL);
    make_image(path);
    d->disk = g_strdup("vda");
    d->file = g_strdup("vda.qcow2");
    d->level = REPO_FULL;
    d->parent = -1;
    d->size = SIZE;
    d->sums = make_sums(path, &d->bytes);
    g_ptr_array_add(m->disks, d);
    g_ptr_array_add(rig->r.members, m);
}

static void teardown(struct rig *rig, gconstpointer unused)
{
    g_autofree char *path = g_build_filename(rig->r.path, "vda.qcow2", NULL);
    g_autofree char *sums_path = g_strconcat(path, ".sums", NULL);

    g_unlink(path);
    g_unlink(sums_path);
    g_assert_cmpint(g_rmdir(rig->r.path), ==, 0);
    g_ptr_array_unref(rig->r.members);
    g_free(rig->r.path);
}

static int progress(void *opaque, uint64_t done, GError **err)
{
    struct rig *rig = opaque;

    if (++rig->calls != rig->stop_at)
        return 0;
    return client_fail(err, CLIENT_ERROR_INTERRUPTED, "interrupted");
}

static int take_disk(void *opaque, const struct verify_result *result, GError **err)
{
    struct rig *rig = opaque;

    g_assert_cmpuint(result->wrong->len, ==, 0);
    rig->told++;
    return 0;
}

static int verify(struct rig *rig, unsigned stop_at, GError **err)
{
    static const struct verify_ops ops = {.progress = progress, .disk = take_disk};
    const struct verify_options o = {.deep = true, .threads = 1};

    rig->calls = rig->told = 0;
    rig->stop_at = stop_at;
    return verify_run(&rig->r, NULL, &o, &ops, rig, err);
}

static void test_stops(struct rig *rig, gconstpointer unused)
{
    unsigned all;

    g_assert_cmpint(verify(rig, 0, NULL), ==, 0);
    g_assert_cmpuint(rig->told, ==, 1);
    all = rig->calls;
    /* The checksums of one piece; an L2 table and a block of counts; what is compressed. */
    g_assert_cmpuint(all, >=, 4);
    for (unsigned i = 1; i <= all; i++) {
        g_autoptr(GError) error = NULL;

        g_assert_cmpint(verify(rig, i, &error), ==, -1);
        g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_INTERRUPTED);
        g_assert_cmpuint(rig->calls, ==, i);
        g_assert_cmpuint(rig->told, ==, 0);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add("/verify/stops", struct rig, NULL, setup, test_stops, teardown);
    return g_test_run();
}
