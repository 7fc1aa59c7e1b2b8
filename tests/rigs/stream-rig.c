/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/stream-rig.h"

#include "common/base/file-io.h"
#include "common/qcow2/q2-image.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* What was told of one range. */
struct told {
    uint64_t offset, length;
    char *hash; /* of what was there then, as hex; NULL: zeroes */
};

bool stream_can_check(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");

    if (!path)
        g_test_skip("qemu-img is not installed");
    return path;
}

char *stream_run(const char *folder, const char *const *argv)
{
    g_autoptr(GError) error = NULL;
    char *out = NULL;
    g_autofree char *complaint = NULL;
    int status;

    g_spawn_sync(folder, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &complaint,
                 &status, &error);
    g_assert_no_error(error);
    if (!g_spawn_check_wait_status(status, &error))
        g_error("%s %s: %s\n%s%s", argv[0], argv[1], error->message, out, complaint);
    return out;
}

/* ---- what is told ---- */

static int on_wrote(void *opaque, uint64_t offset, const struct iovec *iov, size_t n,
                    struct q2_error *err)
{
    struct stream_rig *r = opaque;
    g_autoptr(GChecksum) sum = g_checksum_new(G_CHECKSUM_SHA256);
    struct told told = {.offset = offset};

    for (size_t i = 0; i < n; i++) {
        told.length += iov[i].iov_len;
        if (iov[i].iov_base && !r->unread)
            g_checksum_update(sum, iov[i].iov_base, (gssize)iov[i].iov_len);
        else if (!iov[i].iov_base)
            g_assert_cmpuint(n, ==, 1);
    }
    if (iov[0].iov_base)
        told.hash = g_strdup(g_checksum_get_string(sum));
    pthread_mutex_lock(&r->lock);
    g_array_append_val(r->told, told);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static int by_offset(const void *a, const void *b)
{
    const struct told *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* One range is in the file as it was told. */
static void check_range(struct stream_rig *r, const struct told *t)
{
    g_autofree uint8_t *bytes = g_malloc0(t->length);
    g_autoptr(GChecksum) is = g_checksum_new(G_CHECKSUM_SHA256);
    g_autoptr(GChecksum) zero = g_checksum_new(G_CHECKSUM_SHA256);

    g_checksum_update(zero, bytes, (gssize)t->length);
    g_assert_cmpint(pread_all(r->fd, bytes, t->length, t->offset), ==, 0);
    g_checksum_update(is, bytes, (gssize)t->length);
    g_assert_cmpstr(t->hash ? t->hash : g_checksum_get_string(zero), ==, g_checksum_get_string(is));
}

void stream_rig_check_told(struct stream_rig *r)
{
    uint64_t end = 0;

    g_array_sort(r->told, by_offset);
    for (guint i = 0; i < r->told->len; i++) {
        const struct told *t = &g_array_index(r->told, struct told, i);

        g_assert_cmpuint(t->offset, ==, end);
        g_assert_cmpuint(t->length, >, 0);
        if (!r->unread)
            check_range(r, t);
        end += t->length;
    }
    g_assert_cmpint(lseek(r->fd, 0, SEEK_END), ==, (off_t)end);
    g_assert_cmpuint(q2_stream_file_size(r->stream), ==, end);
}

/* ---- begin and end ---- */

void stream_rig_new(struct stream_rig *r, const struct q2_stream_options *o)
{
    const char *top = g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : g_get_tmp_dir();
    struct q2_error err = {0};

    r->folder = g_mkdtemp(g_build_filename(top, "stream-XXXXXX", NULL));
    g_assert_nonnull(r->folder);
    r->path = g_build_filename(r->folder, "it.qcow2", NULL);
    r->model_path = g_build_filename(r->folder, "model.raw", NULL);
    r->fd = g_open(r->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    r->model = g_open(r->model_path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    g_assert_cmpint(r->fd, >=, 0);
    g_assert_cmpint(ftruncate(r->model, (off_t)((o->size + 511) / 512 * 512)), ==, 0);
    r->unread = false;
    pthread_mutex_init(&r->lock, NULL);
    r->told = g_array_new(FALSE, FALSE, sizeof(struct told));
    r->o = *o;
    r->o.lanes = MAX(o->lanes, 1);
    r->o.wrote = on_wrote;
    r->o.opaque = r;
    r->stream = q2_stream_new(r->fd, &r->o, &err);
    if (!r->stream)
        g_error("%s", err.text);
}

void stream_rig_free(struct stream_rig *r)
{
    g_autofree char *base = g_build_filename(r->folder, "base.raw", NULL);

    q2_stream_free(r->stream);
    close(r->fd);
    close(r->model);
    g_unlink(r->path);
    g_unlink(r->model_path);
    g_unlink(base);
    g_assert_cmpint(g_rmdir(r->folder), ==, 0);
    for (guint i = 0; i < r->told->len; i++)
        g_free(g_array_index(r->told, struct told, i).hash);
    g_array_free(r->told, TRUE);
    pthread_mutex_destroy(&r->lock);
    g_free(r->folder);
    g_free(r->path);
    g_free(r->model_path);
}

/* Data of the base, in the model, too, as far as the disk goes. */
static void put_base(struct stream_rig *r, int fd, uint64_t offset, uint64_t end)
{
    size_t length = offset < end ? (size_t)(MIN(end, offset + 100 * KIB) - offset) : 0;
    g_autofree uint8_t *bytes = stream_data(DATA_RANDOM, offset + 7 * 512, length);

    g_assert_cmpint(pwrite_all(fd, bytes, length, offset), ==, 0);
    if (length > 0 && offset < r->o.size)
        g_assert_cmpint(pwrite_all(r->model, bytes, MIN(length, r->o.size - offset), offset), ==,
                        0);
}

void stream_rig_base(struct stream_rig *r, uint64_t size)
{
    g_autofree char *path = g_build_filename(r->folder, "base.raw", NULL);
    int fd = g_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

    g_assert_cmpint(ftruncate(fd, (off_t)size), ==, 0);
    put_base(r, fd, 0, size);
    put_base(r, fd, 3 * MIB, size);
    put_base(r, fd, (size - 1) / (64 * KIB) * (64 * KIB), size);
    close(fd);
}

/* ---- what is written ---- */

/* The next random number; splitmix64. */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Bytes of a cluster, which are all zero before. */
static void fill_cluster(uint8_t *bytes, size_t n, enum stream_data kind, uint64_t state)
{
    /* Text is in more or less of the cluster, so that lengths differ. */
    size_t end = kind == DATA_TEXT ? next_random(&state) % n + 1 : n;
    uint64_t random = 0;

    for (size_t i = 0; i < end; i++, random >>= 8) {
        if (i % 8 == 0)
            random = next_random(&state);
        bytes[i] = (uint8_t)(kind == DATA_TEXT ? 'a' + random % 16 : random);
    }
}

uint8_t *stream_data(enum stream_data kind, uint64_t offset, size_t length)
{
    uint8_t *bytes = g_malloc0(MAX(length, 1));

    for (size_t at = 0; at < length; at += Q2_STREAM_CLUSTER) {
        uint64_t state = (offset + at) / 512;
        enum stream_data one = kind == DATA_MIXED ? next_random(&state) % 3 : kind;

        if (one != DATA_ZERO)
            fill_cluster(bytes + at, MIN(length - at, Q2_STREAM_CLUSTER), one, state);
    }
    return bytes;
}

void stream_rig_write(struct stream_rig *r, unsigned lane, enum stream_data kind, uint64_t offset,
                      size_t length)
{
    g_autofree uint8_t *bytes = stream_data(kind, offset, length);
    struct q2_piece piece = {offset, length, bytes};
    struct q2_error err = {0};

    if (q2_stream_write(r->stream, lane, &piece, 1, &err) < 0)
        g_error("%s", err.text);
    g_assert_cmpint(pwrite_all(r->model, bytes, length, offset), ==, 0);
}

void stream_rig_zero(struct stream_rig *r, unsigned lane, uint64_t offset, uint64_t length)
{
    struct q2_error err = {0};

    if (q2_stream_zero(r->stream, lane, offset, length, &err) < 0)
        g_error("%s", err.text);
    g_assert_cmpint(fallocate(r->model, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                              (off_t)length),
                    ==, 0);
}

void stream_rig_below(struct stream_rig *r, uint64_t offset)
{
    struct q2_error err = {0};

    if (q2_stream_below(r->stream, offset, &err) < 0)
        g_error("%s", err.text);
}

void stream_rig_finish(struct stream_rig *r)
{
    struct q2_error err = {0};

    if (q2_stream_finish(r->stream, &err) < 0)
        g_error("%s", err.text);
}

/* ---- what has come out ---- */

/* Our own reader finds the file clean, too. */
static void check_by_ours(struct stream_rig *r)
{
    struct q2_error err = {0};
    struct q2_image *image = q2_image_open(r->path, Q2_REFERENCES_NONE, &err);
    uint64_t leaks, corruptions;

    if (!image || q2_image_check(image, &leaks, &corruptions, &err) < 0 || corruptions > 0)
        g_error("%s", err.text);
    g_assert_cmpuint(leaks, ==, 0);
    g_assert_cmpuint(q2_image_size(image), ==, (r->o.size + 511) / 512 * 512);
    q2_image_close(image);
}

void stream_rig_compare(struct stream_rig *r)
{
    const char *check[] = {"qemu-img", "check", "-q", "-f", "qcow2", r->path, NULL};
    const char *compare[] = {"qemu-img", "compare", "-q",          "-f",    "raw",
                             "-F",       "qcow2",   r->model_path, r->path, NULL};

    g_free(stream_run(r->folder, check));
    g_free(stream_run(r->folder, compare));
    check_by_ours(r);
}

void stream_rig_check(struct stream_rig *r)
{
    stream_rig_compare(r);
    stream_rig_check_told(r);
}

void stream_rig_no_image(struct stream_rig *r)
{
    uint8_t magic[4] = {0};

    g_assert_cmpint(pread(r->fd, magic, sizeof magic, 0), >=, 0);
    g_assert_cmpint(memcmp(magic, "\0\0\0\0", 4), ==, 0);
}
