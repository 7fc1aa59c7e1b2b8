/* SPDX-License-Identifier: BSD-3-Clause */
/* The list of bitmaps, of images that qemu-img makes, and of directories that lie. */
#include "common/qcow2/q2-bitmaps.h"
#include "common/qcow2/q2-image-private.h"
#include "tests/rigs/qcow2-oracle.h"

#include <string.h>

#define EXTENSION 0x23852875

static bool begin(struct qcow2_rig *r)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r, "qemu-img create -q -f qcow2 i.qcow2 1M && "
                     "qemu-img bitmap --add -g 512 i.qcow2 small && "
                     "qemu-img bitmap --add -g 2M --disable i.qcow2 'with a space' && "
                     "cp i.qcow2 good");
    return true;
}

static int read_list(const struct qcow2_rig *r, struct q2_bitmaps *list, struct q2_error *err)
{
    struct q2_image *image = qcow2_open(r, "i.qcow2", Q2_REFERENCES_NONE);
    int result = q2_bitmaps_read(list, &image->file, &image->header, err);

    q2_image_close(image);
    return result;
}

/* Where the data of the header's extension is. */
static uint64_t extension(const struct qcow2_rig *r)
{
    uint64_t at = 112;

    while (qcow2_rig_get(r, "i.qcow2", at, 4) != EXTENSION)
        at += 8 + ((qcow2_rig_get(r, "i.qcow2", at + 4, 4) + 7) & ~UINT64_C(7));
    return at + 8;
}

static uint64_t directory(const struct qcow2_rig *r)
{
    return qcow2_rig_get(r, "i.qcow2", extension(r) + 16, 8);
}

static void test_list(void)
{
    struct q2_bitmaps list;
    struct q2_error err;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    qcow2_rig_put(&r, "i.qcow2", directory(&r) + 12, 4, Q2_BITMAP_AUTO | Q2_BITMAP_IN_USE);
    g_assert_cmpint(read_list(&r, &list, &err), ==, 0);
    g_assert_cmpuint(list.n, ==, 2);
    g_assert_cmpstr(list.at[0].name, ==, "small");
    g_assert_cmpuint(list.at[0].granularity_bits, ==, 9);
    g_assert_cmpuint(list.at[0].flags, ==, Q2_BITMAP_AUTO | Q2_BITMAP_IN_USE);
    g_assert_cmpuint(list.at[0].table_entries, ==, 1);
    g_assert_cmpstr(list.at[1].name, ==, "with a space");
    g_assert_cmpuint(list.at[1].granularity_bits, ==, 21);
    g_assert_cmpuint(list.at[1].flags, ==, 0);
    q2_bitmaps_clear(&list);
    /* Somebody who knows no bitmaps has written: there are none. */
    qcow2_rig_put(&r, "i.qcow2", 88, 8, 0);
    g_assert_cmpint(read_list(&r, &list, &err), ==, 0);
    g_assert_cmpuint(list.n, ==, 0);
    q2_bitmaps_clear(&list);
    qcow2_rig_end(&r);
}

/* Put a value at `offset`, read, and put the file back. */
static void assert_refused(const struct qcow2_rig *r, uint64_t offset, unsigned width,
                           uint64_t value, const char *text)
{
    struct q2_bitmaps list;
    struct q2_error err;

    qcow2_rig_put(r, "i.qcow2", offset, width, value);
    g_assert_cmpint(read_list(r, &list, &err), ==, -1);
    if (!strstr(err.text, text) || !strstr(err.text, "i.qcow2"))
        g_error("'%s' does not say '%s'", err.text, text);
    q2_bitmaps_clear(&list);
    qcow2_rig_run(r, "cp good i.qcow2");
}

static void test_damage(void)
{
    struct qcow2_rig r;
    uint64_t at;

    if (!begin(&r))
        return;
    at = directory(&r);
    assert_refused(&r, at, 8, 0, "where none can be");
    assert_refused(&r, at, 8, 512, "where none can be");
    assert_refused(&r, at, 8, UINT64_C(1) << 50, "where none can be");
    assert_refused(&r, at + 8, 4, 0, "a length that there cannot be");
    assert_refused(&r, at + 8, 4, UINT32_MAX, "a length that there cannot be");
    assert_refused(&r, at + 12, 4, 8, "flags");
    assert_refused(&r, at + 16, 1, 2, "of a type");
    assert_refused(&r, at + 17, 1, 8, "granularity");
    assert_refused(&r, at + 17, 1, 32, "granularity");
    assert_refused(&r, at + 18, 2, 0, "a name of a length");
    assert_refused(&r, at + 18, 2, 1024, "behind its end");
    assert_refused(&r, at + 20, 4, UINT32_MAX, "behind its end");
    assert_refused(&r, at + 24, 1, 0, "NUL");
    assert_refused(&r, extension(&r), 4, 3, "behind its end");
    assert_refused(&r, extension(&r), 4, 1, "one more than the header says");
    assert_refused(&r, extension(&r), 4, 65535, "behind its end");
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bitmaps/list", test_list);
    g_test_add_func("/bitmaps/damage", test_damage);
    return g_test_run();
}
