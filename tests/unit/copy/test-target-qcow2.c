/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 file as a target of copies: what is written, and the checksums of it. */
#include "common/base/file-io.h"
#include "common/copy/targets.h"

#include <fcntl.h>
#include <gnutls/crypto.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define LANES   4
#define CLUSTER 65536
#define STEP    (8 * CLUSTER)
#define SIZE    (64 * STEP + 1000)

struct sum {
    uint64_t offset, length;
    uint8_t digest[32];
};

struct rig {
    char *path;
    int fd;
    struct copy_target *target;
    GArray *sums;    /* struct sum; by the target's lock alone: TSan looks */
    unsigned inside; /* calls of the callback that are under way */
    int next;        /* step that is next; atomic */
    uint8_t *data;   /* SIZE bytes */
};

static void on_checksum(void *opaque, uint64_t offset, uint64_t length, const uint8_t *digest)
{
    struct rig *r = opaque;
    struct sum sum = {.offset = offset, .length = length};

    g_assert_cmpuint(r->inside++, ==, 0);
    memcpy(sum.digest, digest, sizeof sum.digest);
    g_array_append_val(r->sums, sum);
    r->inside--;
}

static void begin(struct rig *r, struct target_qcow2_options *o)
{
    g_autoptr(GError) error = NULL;

    *r =
        (struct rig){.sums = g_array_new(FALSE, FALSE, sizeof(struct sum)), .data = g_malloc(SIZE)};
    for (size_t i = 0; i < SIZE; i++)
        r->data[i] = (uint8_t)(i / CLUSTER % 3 == 0 ? g_test_rand_int() : (int)(i / 1000));
    r->fd = g_file_open_tmp("target-XXXXXX", &r->path, &error);
    g_assert_no_error(error);
    o->checksum = on_checksum;
    o->opaque = r;
    o->lanes = LANES;
    r->target = target_qcow2_new(r->fd, "it.qcow2", o, &error);
    g_assert_no_error(error);
    g_assert_cmpuint(r->target->size, ==, o->size);
    g_assert_cmpuint(r->target->align, ==, CLUSTER);
    g_assert_cmpuint(r->target->lanes, ==, LANES);
}

static void finish(struct rig *r)
{
    copy_target_free(r->target);
    g_array_free(r->sums, TRUE);
    close(r->fd);
    g_unlink(r->path);
    g_free(r->path);
    g_free(r->data);
}

struct worker {
    struct rig *rig;
    unsigned lane;
};

/* Two pieces a call; the odd ones of eight calls are zeroes. */
static gpointer work(gpointer data)
{
    struct worker *me = data;
    struct rig *r = me->rig;
    struct copy_target *t = r->target;
    g_autoptr(GError) error = NULL;
    int i;

    while ((i = g_atomic_int_add(&r->next, 1)) * STEP < SIZE) {
        uint64_t at = (uint64_t)i * STEP, length = MIN(STEP, SIZE - at);
        size_t first = MIN(3 * CLUSTER, length);
        struct copy_piece pieces[] = {{at, first, r->data + at},
                                      {at + first, length - first, r->data + at + first}};

        if (i % 8 == 3) {
            memset(r->data + at, 0, length);
            t->ops->zero(t, me->lane, at, length, &error);
        } else {
            t->ops->write(t, me->lane, pieces, length > first ? 2 : 1, &error);
        }
        g_assert_no_error(error);
    }
    return NULL;
}

static void write_all(struct rig *r)
{
    struct worker workers[LANES];
    GThread *threads[LANES];

    for (unsigned i = 0; i < LANES; i++) {
        workers[i] = (struct worker){r, i};
        threads[i] = g_thread_new("lane", work, &workers[i]);
    }
    for (unsigned i = 0; i < LANES; i++)
        g_thread_join(threads[i]);
}

static int by_offset(const void *a, const void *b)
{
    const struct sum *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* The sums cover the file, and are of what is in it. */
static void check_sums(struct rig *r)
{
    uint64_t end = 0;

    g_array_sort(r->sums, by_offset);
    for (guint i = 0; i < r->sums->len; i++) {
        struct sum *s = &g_array_index(r->sums, struct sum, i);
        g_autofree uint8_t *bytes = g_malloc(s->length);
        uint8_t digest[32];

        g_assert_cmpuint(s->offset, ==, end);
        g_assert_cmpint(pread_all(r->fd, bytes, s->length, s->offset), ==, 0);
        g_assert_cmpint(gnutls_hash_fast(GNUTLS_DIG_SHA256, bytes, s->length, digest), ==, 0);
        g_assert_cmpmem(digest, 32, s->digest, 32);
        end += s->length;
    }
    g_assert_cmpuint(end, ==, (uint64_t)lseek(r->fd, 0, SEEK_END));
    g_assert_cmpuint(end, ==, target_qcow2_file_size(r->target));
}

/* qemu-img reads what was written. */
static void check_data(struct rig *r)
{
    g_autofree char *raw = g_strconcat(r->path, ".raw", NULL), *is = NULL;
    g_autofree char *line = g_strdup_printf("qemu-img check -q -f qcow2 %s && "
                                            "qemu-img convert -f qcow2 -O raw %s %s",
                                            r->path, r->path, raw);
    const char *argv[] = {"sh", "-c", line, NULL};
    gsize length;
    int status;

    g_assert_true(g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, NULL,
                               NULL, &status, NULL));
    g_assert_true(g_spawn_check_wait_status(status, NULL));
    g_assert_true(g_file_get_contents(raw, &is, &length, NULL));
    g_unlink(raw);
    g_assert_cmpuint(length, ==, (SIZE + 511) / 512 * 512);
    g_assert_true(memcmp(is, r->data, SIZE) == 0);
}

static void test_copies(void)
{
    g_autofree char *qemu = g_find_program_in_path("qemu-img");

    for (int way = 0; way < 3; way++) {
        struct rig r;
        g_autoptr(GError) error = NULL;
        struct target_qcow2_options o = {
            .size = SIZE, .compress = way > 0, .compression = way == 1 ? Q2_ZLIB : Q2_ZSTD};

        begin(&r, &o);
        write_all(&r);
        g_assert_cmpint(r.target->ops->below(r.target, SIZE, &error), ==, 0);
        g_assert_cmpint(r.target->ops->finish(r.target, &error), ==, 0);
        check_sums(&r);
        if (qemu)
            check_data(&r);
        finish(&r);
    }
}

static void test_fails(void)
{
    g_autoptr(GError) error = NULL;
    struct target_qcow2_options o = {.size = SIZE};
    struct copy_piece wrong = {.offset = 512};
    struct copy_target *t;
    struct rig r;

    begin(&r, &o);
    t = r.target;
    wrong.data = r.data;
    wrong.length = CLUSTER;
    g_assert_cmpint(t->ops->write(t, 0, &wrong, 1, &error), ==, -1);
    g_assert_true(g_str_has_prefix(error->message, "it.qcow2: 65536 bytes at 512"));
    g_clear_error(&error);
    g_assert_cmpint(t->ops->finish(t, &error), ==, -1);
    g_assert_true(g_str_has_prefix(error->message, "it.qcow2: "));
    g_clear_error(&error);
    o.backing = "base";
    g_assert_null(target_qcow2_new(r.fd, "it.qcow2", &o, &error));
    g_assert_true(g_str_has_prefix(error->message, "it.qcow2: "));
    finish(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/target-qcow2/copies", test_copies);
    g_test_add_func("/target-qcow2/fails", test_fails);
    return g_test_run();
}
