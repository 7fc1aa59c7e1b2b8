/* SPDX-License-Identifier: BSD-3-Clause */
/* Each write and each sync fails, one after the other: the failure is told, and nothing takes the
 * file for an image. The header is the last thing, behind a sync of all else. */
#include "tests/rigs/stream-file.h"
#include "tests/rigs/stream-rig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct q2_stream_options options = {
    .size = GIB, .compress = true, .compression = Q2_ZSTD, .detect_zeroes = true};

/* Some of each kind. 0, or -1 and *err. */
static int write_some(struct stream_rig *r, struct q2_error *err)
{
    const uint64_t at[] = {0, 512 * MIB - 3 * 65536, 700 * MIB};

    for (size_t i = 0; i < G_N_ELEMENTS(at); i++) {
        size_t length = 6 * 65536;
        g_autofree uint8_t *bytes = stream_data(DATA_MIXED, at[i], length);
        struct q2_piece piece = {at[i], length, bytes};

        if (q2_stream_below(r->stream, at[i], err) < 0 ||
            q2_stream_write(r->stream, 0, &piece, 1, err) < 0)
            return -1;
    }
    return 0;
}

static int write_all(struct stream_rig *r, struct q2_error *err)
{
    return write_some(r, err) < 0 ? -1 : q2_stream_finish(r->stream, err);
}

/* How many calls it takes. */
static unsigned calls_of_all(void)
{
    struct stream_rig r;
    struct q2_error err;
    unsigned calls;

    stream_rig_new(&r, &options);
    stream_file_watch(r.fd);
    g_assert_cmpint(write_all(&r, &err), ==, 0);
    calls = stream_file_calls();
    stream_file_watch(-1);
    stream_rig_free(&r);
    return calls;
}

static void fail_at(enum stream_fault fault, unsigned call, int error)
{
    struct stream_rig r;
    struct q2_error err = {0};

    stream_rig_new(&r, &options);
    stream_file_watch(r.fd);
    stream_file_fault(fault, call, error);
    g_assert_cmpint(write_all(&r, &err), ==, -1);
    g_assert_cmpint(err.number, ==, error);
    g_assert_nonnull(strstr(err.text, strerror(error)));
    /* Whoever does not listen gets no image either. */
    stream_file_fault(FAULT_NONE, 0, 0);
    err = (struct q2_error){0};
    g_assert_cmpint(q2_stream_finish(r.stream, &err), ==, -1);
    g_assert_cmpint(err.number, ==, error); /* and hears of what failed first */
    g_assert_nonnull(strstr(err.text, strerror(error)));
    stream_file_watch(-1);
    stream_rig_no_image(&r);
    stream_rig_free(&r);
}

static void test_each(void)
{
    unsigned calls = calls_of_all();

    g_assert_cmpuint(calls, >, 10);
    for (unsigned i = 0; i < calls; i++) {
        fail_at(FAULT_FAIL, i, i % 2 ? ENOSPC : EIO);
        fail_at(FAULT_ONCE, i, EIO);
    }
    /* The last one is a sync, of which there is no half. */
    for (unsigned i = 0; i + 1 < calls; i++)
        fail_at(FAULT_CUT, i, ENOSPC);
}

/* Writes that are short, or are interrupted, go on. */
static void test_goes_on(void)
{
    unsigned calls = calls_of_all();

    for (unsigned i = 0; i <= calls && stream_can_check(); i++) {
        struct stream_rig r;
        struct q2_error err;

        stream_rig_new(&r, &options);
        stream_file_watch(r.fd);
        stream_file_fault(i == calls ? FAULT_SHORT : FAULT_INTERRUPT, i % calls, 0);
        g_assert_cmpint(write_all(&r, &err), ==, 0);
        stream_file_watch(-1);
        g_free(stream_run(
            r.folder, (const char *[]){"qemu-img", "check", "-q", "-f", "qcow2", r.path, NULL}));
        stream_rig_check_told(&r);
        stream_rig_free(&r);
    }
}

static void test_order(void)
{
    struct stream_rig r;
    struct q2_error err;

    stream_rig_new(&r, &options);
    stream_file_watch(r.fd);
    g_assert_cmpint(write_some(&r, &err), ==, 0);
    stream_rig_no_image(&r);
    g_assert_cmpint(q2_stream_finish(r.stream, &err), ==, 0);
    g_assert_false(stream_file_header_was_early());
    g_assert_true(stream_file_all_synced());
    stream_file_watch(-1);
    stream_rig_free(&r);
}

/* A process that is killed when it has written all but the end. */
static void test_killed(void)
{
    struct stream_rig r;
    int status;
    pid_t child;

    stream_rig_new(&r, &options);
    child = fork();
    if (child == 0) {
        struct q2_error err;

        if (write_some(&r, &err) == 0 && q2_stream_below(r.stream, GIB, &err) == 0)
            raise(SIGKILL);
        _exit(1);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status));
    stream_rig_no_image(&r);
    stream_rig_free(&r);
}

/* Who is told says no. */
static int refuse(void *opaque, uint64_t offset, const struct iovec *iov, size_t n,
                  struct q2_error *err)
{
    unsigned *left = opaque;

    return (*left)-- == 0 ? q2_fail(err, "not this one") : 0;
}

static void test_told(void)
{
    for (unsigned i = 0; i < 8; i++) {
        struct stream_rig r;
        struct q2_stream_options o = options;
        struct q2_error err;
        unsigned left = i;

        stream_rig_new(&r, &options);
        q2_stream_free(r.stream);
        o.wrote = refuse;
        o.opaque = &left;
        o.lanes = 1;
        r.stream = q2_stream_new(r.fd, &o, &err);
        g_assert_cmpint(write_all(&r, &err), ==, -1);
        g_assert_cmpstr(err.text, ==, "not this one");
        stream_rig_no_image(&r);
        stream_rig_free(&r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/fails/each", test_each);
    g_test_add_func("/fails/goes-on", test_goes_on);
    g_test_add_func("/fails/order", test_order);
    g_test_add_func("/fails/killed", test_killed);
    g_test_add_func("/fails/told", test_told);
    return g_test_run();
}
