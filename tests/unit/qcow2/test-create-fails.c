/* SPDX-License-Identifier: BSD-3-Clause */
/* A new image whose file cannot be written, at each call: what is left is taken for no image. */
#include "common/qcow2/q2-create.h"
#include "tests/rigs/qcow2-oracle.h"
#include "tests/rigs/stream-file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const struct q2_create_options small = {
    .size = 3 << 20,
    .cluster_bits = 12,
    .refcount_order = 4,
    .preallocation = Q2_PREALLOCATION_METADATA,
};

static int create(const struct qcow2_rig *r, enum stream_fault fault, unsigned call)
{
    g_autofree char *path = qcow2_rig_path(r, "i.qcow2");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600), result;
    struct q2_error err = {0};

    g_assert_cmpint(fd, >=, 0);
    stream_file_watch(fd);
    stream_file_fault(fault, call, ENOSPC);
    result = q2_create(fd, -1, &small, &err);
    g_assert_false(stream_file_header_was_early());
    if (result < 0)
        g_assert_cmpint(err.number, ==, ENOSPC);
    else
        g_assert_true(stream_file_all_synced());
    stream_file_watch(-1);
    close(fd);
    return result;
}

static unsigned count_calls(const struct qcow2_rig *r)
{
    g_autofree char *path = qcow2_rig_path(r, "i.qcow2");
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    struct q2_error err;
    unsigned calls;

    stream_file_watch(fd);
    g_assert_cmpint(q2_create(fd, -1, &small, &err), ==, 0);
    calls = stream_file_calls();
    stream_file_watch(-1);
    close(fd);
    return calls;
}

static void test_fails(void)
{
    struct qcow2_rig r;
    unsigned calls;

    if (!qcow2_rig_begin(&r))
        return;
    calls = count_calls(&r);
    g_assert_cmpuint(calls, >, 6);
    for (unsigned i = 0; i < calls; i++) {
        g_assert_cmpint(create(&r, FAULT_ONCE, i), ==, -1);
        /* The last sync is of a file that is whole. */
        if (i < calls - 1)
            qcow2_assert_refused(&r, "i.qcow2", Q2_REFERENCES_NONE, "no qcow2 file");
    }
    g_assert_cmpint(create(&r, FAULT_ONCE, calls), ==, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

static void test_interrupted(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    g_assert_cmpint(create(&r, FAULT_SHORT, 0), ==, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    for (unsigned i = 0; i < count_calls(&r); i++)
        g_assert_cmpint(create(&r, FAULT_INTERRUPT, i), ==, 0);
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/create-fails/each", test_fails);
    g_test_add_func("/create-fails/interrupted", test_interrupted);
    return g_test_run();
}
