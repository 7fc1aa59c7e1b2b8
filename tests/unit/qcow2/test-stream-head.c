/* SPDX-License-Identifier: BSD-3-Clause */
/* Images whose map is known, which are written from their begin to their end, as into a pipe. */
#include "tests/rigs/stream-rig.h"

#include "common/base/file-io.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Write all of an image to the rig's file, data into the model, too. */
static void write_image(struct stream_rig *r, const struct q2_extent_known *extents, size_t n)
{
    struct q2_error err = {0};

    if (q2_stream_head(r->fd, &r->o, extents, n, &err) < 0)
        g_error("%s", err.text);
    for (size_t i = 0; i < n; i++) {
        const struct q2_extent_known *e = &extents[i];
        uint64_t whole = (e->length + 65535) / 65536 * 65536;
        g_autofree uint8_t *bytes = g_malloc0(whole);
        g_autofree uint8_t *data = stream_data(DATA_RANDOM, e->offset, e->length);

        if (e->zero) {
            stream_rig_zero(r, 0, e->offset, e->length); /* the model's is what matters */
            continue;
        }
        memcpy(bytes, data, e->length);
        g_assert_cmpint(pwrite_all(r->model, bytes, e->length, e->offset), ==, 0);
        g_assert_cmpint(write(r->fd, bytes, whole), ==, (ssize_t)whole);
    }
}

static void check_image(const struct q2_stream_options *o, uint64_t base,
                        const struct q2_extent_known *extents, size_t n)
{
    struct stream_rig r;

    stream_rig_new(&r, o);
    if (base > 0)
        stream_rig_base(&r, base);
    write_image(&r, extents, n);
    stream_rig_compare(&r);
    stream_rig_free(&r);
}

static void test_images(void)
{
    const struct q2_extent_known some[] = {{0, 65536, false},
                                           {131072, 3 * MIB, true},
                                           {4 * MIB, MIB, false},
                                           {5 * MIB, 65536, true},
                                           {6 * MIB, 100 * KIB + 512, false}};
    /* Over the borders of tables; tables without entries between. */
    const struct q2_extent_known far[] = {{512 * MIB - 65536, 2 * 65536, false},
                                          {GIB, GIB, true},
                                          {3 * GIB - 65536, 65536, true},
                                          {3 * GIB, 65536, false},
                                          {5 * TIB, 65536, false}};

    if (!stream_can_check())
        return;
    check_image(&(struct q2_stream_options){.size = 0}, 0, NULL, 0);
    check_image(&(struct q2_stream_options){.size = 700}, 0, NULL, 0);
    check_image(&(struct q2_stream_options){.size = 6 * MIB + 100 * KIB + 512}, 0, some, 5);
    check_image(&(struct q2_stream_options){.size = 6 * TIB}, 0, far, 5);
    check_image(&(struct q2_stream_options){.size = 6 * MIB + 100 * KIB + 512,
                                            .backing = "base.raw",
                                            .backing_format = "raw"},
                7 * MIB, some, 5);
    check_image(&(struct q2_stream_options){.size = 6 * TIB,
                                            .backing = "base.raw",
                                            .backing_format = "raw"},
                3 * GIB, far, 5);
}

/* The head is complete before any data: an image of more than one refcount block. */
static void test_counts(void)
{
    const struct q2_extent_known all[] = {{0, 5 * GIB, false}};
    struct q2_stream_options o = {.size = 5 * GIB};
    struct q2_error err = {0};
    struct stream_rig r;

    if (!stream_can_check())
        return;
    stream_rig_new(&r, &o);
    g_assert_cmpint(q2_stream_head(r.fd, &o, all, 1, &err), ==, 0);
    g_assert_cmpint(ftruncate(r.fd, lseek(r.fd, 0, SEEK_CUR) + 5 * (off_t)GIB), ==, 0);
    stream_rig_compare(&r);
    stream_rig_free(&r);
}

static void refuse(const struct q2_stream_options *o, const struct q2_extent_known *extents,
                   size_t n, const char *why)
{
    struct q2_error err = {0};

    g_assert_cmpint(q2_stream_head(-1, o, extents, n, &err), ==, -1);
    if (!strstr(err.text, why))
        g_error("not '%s', but '%s'", why, err.text);
}

static void test_refused(void)
{
    struct q2_stream_options o = {.size = 10 * 65536 + 512};
    const struct q2_extent_known unaligned[] = {{512, 65536, false}};
    const struct q2_extent_known short_one[] = {{0, 512, false}};
    const struct q2_extent_known far[] = {{0, 11 * 65536, false}};
    const struct q2_extent_known again[] = {{0, 2 * 65536, false}, {65536, 65536, true}};

    refuse(&o, unaligned, 1, "are not clusters");
    refuse(&o, short_one, 1, "are not clusters");
    refuse(&o, far, 1, "are not clusters");
    refuse(&o, again, 2, "are not clusters");
    refuse(&o, NULL, 0, "cannot write the head");
    o.compress = true;
    refuse(&o, NULL, 0, "cannot be compressed");
    refuse(&(struct q2_stream_options){.size = 3 * 1024 * TIB}, NULL, 0, "larger than qcow2");
    refuse(&(struct q2_stream_options){.backing = "base"}, NULL, 0, "is not stated");
}

/* Read all that comes through a pipe: its length. */
static void *drain(void *opaque)
{
    uint8_t buffer[4096];
    size_t *length = opaque;
    int fd = (int)*length;
    ssize_t n;

    for (*length = 0; (n = read(fd, buffer, sizeof buffer)) > 0;)
        *length += (size_t)n;
    return NULL;
}

/* A pipe that does not block, and is shorter than the head. */
static void test_pipe_that_does_not_block(void)
{
    const struct q2_stream_options o = {.size = MIB};
    const struct q2_extent_known all = {.offset = 0, .length = MIB};
    struct q2_error err = {0};
    size_t length;
    GThread *reader;
    int fds[2];

    g_assert_cmpint(pipe2(fds, O_CLOEXEC), ==, 0);
    g_assert_cmpint(fcntl(fds[1], F_SETFL, O_NONBLOCK), ==, 0);
    length = (size_t)fds[0];
    reader = g_thread_new("reader", drain, &length);
    if (q2_stream_head(fds[1], &o, &all, 1, &err) < 0)
        g_error("%s", err.text);
    close(fds[1]);
    g_thread_join(reader);
    close(fds[0]);
    g_assert_cmpuint(length, ==, 5 * 65536); /* header and four tables */
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/head/images", test_images);
    g_test_add_func("/head/counts", test_counts);
    g_test_add_func("/head/refused", test_refused);
    g_test_add_func("/head/pipe-that-does-not-block", test_pipe_that_does_not_block);
    return g_test_run();
}
