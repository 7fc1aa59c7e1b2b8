/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of internal snapshots, of images that qemu-img makes, and of tables that lie. */
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-snapshots.h"
#include "tests/rigs/qcow2-oracle.h"

#include <string.h>

#define SIZE (UINT64_C(1) << 20)

/* Snapshots "first" (1) and "2" (2) of a disk of 1 MiB. */
static bool begin(struct qcow2_rig *r, const char *options)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r,
                  "qemu-img create -q -f qcow2 %s i.qcow2 1M && qemu-img snapshot -c first i.qcow2 "
                  "&& qemu-io -f qcow2 -c 'write -q 0 64k' i.qcow2 && "
                  "qemu-img snapshot -c 2 i.qcow2 && cp i.qcow2 good",
                  options);
    return true;
}

static int read_list(const struct qcow2_rig *r, struct q2_snapshots *list, struct q2_error *err)
{
    struct q2_image *image = qcow2_open(r, "i.qcow2", Q2_REFERENCES_NONE);
    int result = q2_snapshots_read(list, &image->file, &image->header, err);

    q2_image_close(image);
    return result;
}

static void test_list(void)
{
    static const char *const options[] = {"", "-o compat=0.10", "-o cluster_size=512",
                                          "-o extended_l2=on"};
    struct q2_snapshots list;
    struct q2_error err;
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!begin(&r, options[i]))
            return;
        g_assert_cmpint(read_list(&r, &list, &err), ==, 0);
        g_assert_cmpuint(list.n, ==, 2);
        g_assert_cmpstr(list.at[0].id, ==, "1");
        g_assert_cmpstr(list.at[0].name, ==, "first");
        g_assert_cmpuint(list.at[0].size, ==, SIZE);
        g_assert_cmpuint(list.at[0].vm_state_size, ==, 0);
        g_assert_cmpint(ABS(g_get_real_time() / G_USEC_PER_SEC - list.at[0].date_sec), <, 3600);
        g_assert_cmpuint(list.at[1].l1_offset, >, 0);
        g_assert_cmpuint(list.at[1].l1_entries, >, 0);
        g_assert_cmpuint(list.bytes, >, 80);
        /* An ID is looked for before names are. */
        g_assert_true(q2_snapshots_find(&list, "2") == &list.at[1]);
        g_assert_true(q2_snapshots_find(&list, "first") == &list.at[0]);
        g_assert_null(q2_snapshots_find(&list, "3"));
        q2_snapshots_clear(&list);
        qcow2_rig_end(&r);
    }
}

/* The disk has grown since: each snapshot says how large it was. */
static void test_sizes(void)
{
    struct q2_snapshots list;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r, ""))
        return;
    qcow2_rig_run(&r, "qemu-img resize -q -f qcow2 i.qcow2 3M && qemu-img snapshot -c 1 i.qcow2");
    g_assert_cmpint(read_list(&r, &list, &err), ==, 0);
    g_assert_cmpuint(list.n, ==, 3);
    g_assert_cmpuint(list.at[1].size, ==, SIZE);
    g_assert_cmpuint(list.at[2].size, ==, 3 * SIZE);
    g_assert_true(q2_snapshots_find(&list, "1") == &list.at[0]);
    q2_snapshots_clear(&list);
    qcow2_rig_end(&r);
}

static void test_none(void)
{
    struct q2_snapshots list;
    struct q2_error err;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 1M");
    g_assert_cmpint(read_list(&r, &list, &err), ==, 0);
    g_assert_cmpuint(list.n, ==, 0);
    g_assert_null(q2_snapshots_find(&list, "1"));
    q2_snapshots_clear(&list);
    qcow2_rig_end(&r);
}

/* Put a value at `offset`, read, and put the file back. */
static void assert_refused(const struct qcow2_rig *r, uint64_t offset, unsigned width,
                           uint64_t value, const char *text)
{
    struct q2_snapshots list;
    struct q2_error err;

    qcow2_rig_put(r, "i.qcow2", offset, width, value);
    g_assert_cmpint(read_list(r, &list, &err), ==, -1);
    if (!strstr(err.text, text) || !strstr(err.text, "i.qcow2"))
        g_error("'%s' does not say '%s'", err.text, text);
    q2_snapshots_clear(&list);
    qcow2_rig_run(r, "cp good i.qcow2");
}

static void test_damage(void)
{
    struct qcow2_rig r;
    uint64_t at;

    if (!begin(&r, ""))
        return;
    at = qcow2_rig_get(&r, "i.qcow2", 64, 8);
    assert_refused(&r, at, 8, 512, "where none can be");
    assert_refused(&r, at, 8, 0, "where none can be");
    assert_refused(&r, at, 8, UINT64_MAX << 16, "behind the end");
    assert_refused(&r, at + 8, 4, UINT32_MAX, "too large");
    assert_refused(&r, at + 8, 4, 0, "too small");
    assert_refused(&r, at + 36, 4, UINT32_MAX, "extra data");
    assert_refused(&r, at + 36, 4, 8, "extra data");
    assert_refused(&r, at + 40 + 8, 8, UINT64_MAX, "too small");
    assert_refused(&r, at + 40 + 24, 1, 0, "NUL");
    assert_refused(&r, 60, 4, 65536, "");
    /* Where the file ends. */
    qcow2_rig_put(&r, "i.qcow2", 64, 8, qcow2_rig_get(&r, "i.qcow2", 40, 8));
    qcow2_rig_run(&r, "truncate -s $((%" G_GUINT64_FORMAT " + 30)) i.qcow2", at);
    qcow2_rig_put(&r, "i.qcow2", 64, 8, at);
    assert_refused(&r, 60, 4, 1, "behind the end of the file");
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/snapshots/list", test_list);
    g_test_add_func("/snapshots/sizes", test_sizes);
    g_test_add_func("/snapshots/none", test_none);
    g_test_add_func("/snapshots/damage", test_damage);
    return g_test_run();
}
