/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What BLOCK_STATUS of a view says, and what its reads return when something fails: with a model of
 * sectors, with views that keep blocks for each other, and with a disk that answers in pieces.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <string.h>

#define UNIT UINT64_C(4096)

static struct node_io *open_view(struct view *v)
{
    struct node_io *io;

    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    return io;
}

/* All of [offset, offset + length) has these flags. Where an answer is short, ask for the rest. */
static void expect_flags(struct view *v, uint64_t offset, uint64_t length, uint32_t flags)
{
    struct node_io *io = open_view(v);

    for (uint64_t at = offset; at < offset + length;) {
        struct extents e = EXTENTS_INIT;

        g_assert_cmpint(node_extents(io, offset + length - at, at, 0, &e), ==, 0);
        g_assert_cmpuint(e.count, ==, 1);
        g_assert_cmpuint(e.total, >, 0);
        g_assert_cmpuint(e.total, <=, offset + length - at);
        g_assert_cmpuint(e.list[0].flags, ==, flags);
        at += e.total;
        extents_free(&e);
    }
    node_io_close(io);
}

/* ---- what is where ---- */

struct part {
    uint64_t length;
    uint32_t flags;
};

static void expect_parts(struct view *v, uint64_t at, const struct part *parts, unsigned n)
{
    struct node_io *io = open_view(v);
    uint64_t length = 0, walked = 0;

    for (unsigned i = 0; i < n; i++)
        length += parts[i].length;
    while (walked < length) {
        struct extents e = EXTENTS_INIT;
        uint64_t begun = walked;

        g_assert_cmpint(node_extents(io, length - walked, at + walked, 0, &e), ==, 0);
        g_assert_cmpuint(e.count, >, 0);
        for (size_t k = 0; k < e.count; k++)
            for (uint64_t end = walked + e.list[k].length; walked < end; walked += 512) {
                uint64_t before = 0;
                unsigned i = 0;

                for (; before + parts[i].length <= walked; i++)
                    before += parts[i].length;
                g_assert_cmpuint(e.list[k].flags, ==, parts[i].flags);
            }
        g_assert_cmpuint(walked, ==, begun + e.total);
        g_assert_cmpuint(walked, <=, length);
        extents_free(&e);
    }
    node_io_close(io);
}

enum { DATA = 0, ZERO = EXTENT_ZERO, HOLE = EXTENT_HOLE | EXTENT_ZERO };

/* A view tells data and holes, and blocks that are both: before and after the blocks have been
 * kept, by it and by newer views, and for any length of the disk's answers. */
static void test_parts(gconstpointer answer)
{
    static const struct part parts[] = {
        {UNIT, DATA},     {512, HOLE},  {UNIT - 512, DATA}, {2 * UNIT, HOLE},
        {UNIT, DATA},     {UNIT, HOLE}, {3 * UNIT, DATA},   {4 * 1024 * UNIT, HOLE},
        {2 * UNIT, DATA}, {UNIT, HOLE}, {512, DATA},        {UNIT - 512, HOLE},
    };
    /* A block that is partly a hole is kept whole, as data, also where the hole is its end. */
    static const struct part kept[] = {
        {2 * UNIT, DATA},        {2 * UNIT, HOLE}, {UNIT, DATA}, {UNIT, HOLE}, {3 * UNIT, DATA},
        {4 * 1024 * UNIT, HOLE}, {2 * UNIT, DATA}, {UNIT, HOLE}, {UNIT, DATA},
    };
    struct rig *r = rig_new(20 * MIB, 0);
    struct view *v, *middle, *newest;
    uint64_t at = 0;

    if (answer)
        fake_backend_set_most_extents(r->backend, GPOINTER_TO_UINT(answer));
    for (unsigned i = 0; i < G_N_ELEMENTS(parts); at += parts[i++].length)
        if (parts[i].flags == DATA)
            rig_fill(r, at, parts[i].length, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    expect_parts(v, 0, parts, G_N_ELEMENTS(parts));
    /* With answers for less than a block, every block would be kept as allocated. */
    if (answer && GPOINTER_TO_UINT(answer) < UNIT)
        fake_backend_set_most_extents(r->backend, UINT64_MAX);
    middle = rig_view(r, "middle", CBW_BREAK_SNAPSHOT, 0);
    newest = rig_view(r, "newest", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, at, 'b');
    expect_parts(newest, 0, kept, G_N_ELEMENTS(kept));
    expect_parts(v, 0, kept, G_N_ELEMENTS(kept));
    rig_delete(r, newest);
    expect_parts(v, 0, kept, G_N_ELEMENTS(kept));
    rig_delete(r, middle);
    expect_parts(v, 0, kept, G_N_ELEMENTS(kept));
    assert_view(v, 0, UNIT, 'a');
    assert_view(v, UNIT, 512, 0);
    assert_view(v, UNIT + 512, UNIT - 512, 'a');
    assert_view(v, 2 * UNIT, 2 * UNIT, 0);
    rig_free(r);
}

/* The nearer of two newer views is not the one whose blocks come first. */
static void test_two_newer_views(void)
{
    struct rig *r = rig_new(64 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0), *newest;

    rig_view(r, "middle", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 16 * MIB, UNIT, 'a');
    newest = rig_view(r, "newest", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 32 * MIB, UNIT, 'b');
    rig_fill(r, 8 * MIB, UNIT, 'b');
    expect_flags(v, 0, 64 * MIB, HOLE);
    expect_flags(newest, 16 * MIB, UNIT, DATA);
    rig_free(r);
}

/* Allocated zeroes stay allocated, in small writes and in large ones. */
static void test_zeroes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    rig_fill(r, 0, 512 * KIB, 0);
    rig_fill(r, 768 * KIB + 512, UNIT - 512, 0); /* its begin is a hole */
    fake_backend_set_most_extents(r->backend, 8 * UNIT);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 768 * KIB, UNIT, 'b');
    rig_fill(r, 0, 1 * MIB, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 0);
    expect_flags(v, 0, 512 * KIB, ZERO);
    expect_flags(v, 512 * KIB, 256 * KIB, HOLE);
    expect_flags(v, 768 * KIB, UNIT, ZERO);
    expect_flags(v, 768 * KIB + UNIT, 256 * KIB - UNIT, HOLE);
    rig_free(r);
}

/* The disk reports zeroes that are no hole, and the view reports the same. */
static void test_known_zeroes(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    fake_backend_set_holes(r->backend, EXTENT_ZERO, 0);
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 256 * KIB, 'b');
    g_assert_cmpuint(rig_kept(v), ==, 0);
    expect_flags(v, 0, 1 * MIB, ZERO);
    rig_free(r);
}

/* The disk answers for one block only. A kept block behind that is still told at its own place. */
static void test_short_answer(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct view *v;

    rig_fill(r, 4 * UNIT, UNIT, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 4 * UNIT, UNIT, 'b');
    fake_backend_set_most_extents(r->backend, UNIT);
    expect_flags(v, 0, 4 * UNIT, HOLE);
    expect_flags(v, 4 * UNIT, UNIT, DATA);
    expect_parts(v, 0, (const struct part[]){{4 * UNIT, HOLE}, {UNIT, DATA}, {3 * UNIT, HOLE}}, 3);
    rig_free(r);
}

/* A run reaches from one piece of the map (4 MiB of disk) into the next. */
static void test_across_pieces(void)
{
    struct rig *r = rig_new(16 * MIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    struct node_io *io = open_view(v);

    rig_fill(r, 4 * MIB - UNIT, 2 * UNIT, 'a');
    expect_flags(v, 0, 16 * MIB, HOLE);
    rig_fill(r, 12 * MIB - 2 * UNIT, 3 * UNIT, 'a');
    g_assert_cmpint(node_trim(io, 2 * UNIT, 8 * MIB - UNIT, 0), ==, 0);
    rig_fill(r, 8 * MIB - 4 * UNIT, 8 * UNIT, 'a');
    expect_flags(v, 0, 16 * MIB, HOLE);
    assert_view(v, 0, 16 * MIB, 0);
    node_io_close(io);
    rig_free(r);
}

/* What a view's client has trimmed reads as zeroes and is a hole, whatever it was before. */
static void test_trimmed(void)
{
    struct rig *r = rig_new(16 * MIB, 0);
    struct view *v;
    struct node_io *io;

    rig_fill(r, 0, 64 * KIB, 'a');
    rig_fill(r, 8 * MIB, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    io = open_view(v);
    g_assert_cmpint(node_trim(io, UNIT, 8 * MIB, 0), ==, 0); /* where nothing was kept */
    expect_flags(v, 8 * MIB, UNIT, HOLE);
    expect_flags(v, 8 * MIB + UNIT, UNIT, DATA);
    rig_fill(r, 0, UNIT, 'b');
    g_assert_cmpint(node_trim(io, 2 * UNIT, 0, 0), ==, 0); /* one kept, one not */
    expect_flags(v, 0, 2 * UNIT, HOLE);
    expect_flags(v, 2 * UNIT, 14 * UNIT, DATA);
    rig_fill(r, 0, 64 * KIB, 'c');
    expect_flags(v, 0, 2 * UNIT, HOLE);
    expect_flags(v, 2 * UNIT, 14 * UNIT, DATA);
    assert_view(v, 0, 2 * UNIT, 0);
    assert_view(v, 2 * UNIT, 14 * UNIT, 'a');
    assert_view(v, 8 * MIB, UNIT, 0);
    assert_view(v, 8 * MIB + UNIT, 15 * UNIT, 'a');
    node_io_close(io);
    rig_free(r);
}

/* When the list is full, the answer is shorter. */
static void test_full_list(void)
{
    const uint64_t size = 2 * (EXTENTS_MAX + 2) * UINT64_C(512);
    struct rig *r = rig_new(size, 0);
    struct view *v;
    struct node_io *io;
    struct extents e = EXTENTS_INIT;

    for (uint64_t at = 0; at < size; at += 1024)
        rig_fill(r, at, 512, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    io = open_view(v);
    g_assert_cmpint(node_extents(io, size, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, EXTENTS_MAX);
    g_assert_cmpuint(e.total, ==, EXTENTS_MAX * UINT64_C(512));
    extents_clear(&e);
    /* The view itself keeps the first block now. */
    rig_fill(r, 0, UNIT, 'b');
    g_assert_cmpint(node_extents(io, size, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, <=, EXTENTS_MAX);
    g_assert_cmpuint(e.list[0].length, ==, UNIT + 512);
    extents_free(&e);
    node_io_close(io);
    rig_free(r);
}

/* The disk's own list just fits, and what is kept makes it longer. */
static void test_overfull_list(void)
{
    const uint64_t scattered = (EXTENTS_MAX - 1) * UINT64_C(512), begin = scattered + 512;
    struct rig *r = rig_new(begin + 1 * MIB, 0);
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    struct view *v;

    g_assert_cmpuint(begin % UNIT, ==, 0);
    for (uint64_t at = 0; at < scattered; at += 1024)
        rig_fill(r, at, 512, 'a');
    for (uint64_t at = begin + UNIT; at < begin + 1 * MIB; at += 2 * UNIT)
        rig_fill(r, at, UNIT, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_trim(r->io, 1 * MIB, begin, 0), ==, 0);
    io = open_view(v);
    g_assert_cmpint(node_extents(io, begin + 1 * MIB, 0, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, EXTENTS_MAX);
    g_assert_cmpuint(e.total, ==, begin + UNIT);
    extents_free(&e);
    node_io_close(io);
    rig_free(r);
}

/* ---- a guest is quicker than a reader ---- */

static int write_first(void *rig, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct rig *r = rig;

    if (call == FAKE_READ) {
        fake_backend_set_hook(r->backend, NULL, NULL);
        rig_fill(r, UNIT, 2 * UNIT, 'b');
        rig_fill(r, 5 * UNIT, UNIT, 'b');
    }
    return 0;
}

/* The reader has seen that nothing is kept. Before it reads the disk, some blocks are kept and
 * changed: it reads the kept data. */
static void test_overtaken(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    fake_backend_set_hook(r->backend, write_first, r);
    assert_view(v, 0, 64 * KIB, 'a');
    g_assert_cmpuint(rig_kept(v), ==, 3 * UNIT);
    rig_free(r);
}

/* ---- when something fails ---- */

/* The client of a view gets the error that the disk gives to a read or a question for extents. */
static void test_disk_fails(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct fake_failure f = {.call = FAKE_READ, .error = 0};
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    struct view *v;
    char buf[2 * 4096];

    rig_fill(r, 0, 64 * KIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    io = open_view(v);
    rig_fill(r, 0, UNIT, 'b');
    fake_backend_fail(r->backend, &f);
    f.error = -ENXIO;
    g_assert_cmpint(node_read(io, buf, UNIT, 0, 0), ==, 0); /* kept */
    g_assert_cmpint(node_read(io, buf, UNIT, UNIT, 0), ==, -ENXIO);
    g_assert_cmpint(node_read(io, buf, 2 * UNIT, 0, 0), ==, -ENXIO);
    f.call = FAKE_EXTENTS;
    g_assert_cmpint(node_extents(io, 64 * KIB, 0, 0, &e), ==, -ENXIO);
    f.error = 0;
    g_assert_cmpint(node_read(io, buf, UNIT, UNIT, 0), ==, 0);
    extents_free(&e);
    node_io_close(io);
    rig_free(r);
}

static int break_it(void *opaque, enum disk_point point, uint64_t offset)
{
    if (point == POINT_VIEW_BASE_READ)
        view_break(opaque, "for the test");
    return 0;
}

/* A view that breaks while it is read, or asked for extents, gives an error: the disk's answer may
 * be newer than the view. From then on it takes no TRIM either. */
static void test_breaks_meanwhile(gconstpointer what)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct disk_hooks hooks = {.at = break_it};
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    char buf[4096];

    rig_fill(r, 0, 64 * KIB, 'a');
    hooks.opaque = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    io = open_view(hooks.opaque);
    r->disk->hooks = &hooks;
    if (strcmp(what, "read") == 0)
        g_assert_cmpint(node_read(io, buf, UNIT, 0, 0), ==, -EIO);
    else
        g_assert_cmpint(node_extents(io, UNIT, 0, 0, &e), ==, -EIO);
    r->disk->hooks = &r->hooks;
    g_assert_cmpint(node_read(io, buf, UNIT, 0, 0), ==, -EIO);
    g_assert_cmpint(node_extents(io, UNIT, 0, 0, &e), ==, -EIO);
    g_assert_cmpint(node_trim(io, UNIT, 0, 0), ==, -EIO);
    extents_free(&e);
    node_io_close(io);
    rig_free(r);
}

/* Only the first reason counts, and control hears of it once. */
static void test_breaks_once(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    struct view_info info;

    view_break(v, "first");
    view_break(v, "second");
    view_info(v, &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==, "first");
    g_assert_cmpuint(atomic_load(&r->broken_events), ==, 1);
    rig_free(r);
}

/* Clients without the right to write, or to trim, cannot change a disk or a view. */
static void test_rights(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    struct node_io *io;

    g_assert_cmpint(node_io_open(view_node(v), true, false, NULL, &io, NULL), ==, 0);
    g_assert_true(node_io_info(io)->readonly);
    g_assert_false(node_io_info(io)->can_trim);
    g_assert_cmpint(node_write(io, "x", 1, 0, 0), ==, -EPERM);
    g_assert_cmpint(node_zero(io, UNIT, 0, 0), ==, -EPERM);
    g_assert_cmpint(node_trim(io, UNIT, 0, 0), ==, -EPERM);
    node_io_close(io);
    g_assert_cmpint(node_io_open(disk_node(r->disk), false, false, NULL, &io, NULL), ==, 0);
    g_assert_true(node_io_info(io)->readonly);
    g_assert_cmpint(node_write(io, "x", 1, 0, 0), ==, -EPERM);
    g_assert_cmpint(node_zero(io, UNIT, 0, 0), ==, -EPERM);
    g_assert_cmpint(node_trim(io, UNIT, 0, 0), ==, -EPERM);
    node_io_close(io);
    g_assert_cmpuint(fake_backend_calls(r->backend, FAKE_WRITE), ==, 0);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_data_func("/view-status/parts", NULL, test_parts);
    g_test_add_data_func("/view-status/parts/in-small-answers", GUINT_TO_POINTER(3 * 512),
                         test_parts);
    g_test_add_data_func("/view-status/parts/in-large-answers", GUINT_TO_POINTER(9 * 4096 + 512),
                         test_parts);
    g_test_add_func("/view-status/two-newer-views", test_two_newer_views);
    g_test_add_func("/view-status/zeroes", test_zeroes);
    g_test_add_func("/view-status/known-zeroes", test_known_zeroes);
    g_test_add_func("/view-status/short-answer", test_short_answer);
    g_test_add_func("/view-status/across-pieces", test_across_pieces);
    g_test_add_func("/view-status/trimmed", test_trimmed);
    g_test_add_func("/view-status/full-list", test_full_list);
    g_test_add_func("/view-status/overfull-list", test_overfull_list);
    g_test_add_func("/view-status/overtaken", test_overtaken);
    g_test_add_func("/view-status/disk-fails", test_disk_fails);
    g_test_add_data_func("/view-status/breaks-meanwhile/read", "read", test_breaks_meanwhile);
    g_test_add_data_func("/view-status/breaks-meanwhile/extents", "extents", test_breaks_meanwhile);
    g_test_add_func("/view-status/breaks-once", test_breaks_once);
    g_test_add_func("/view-status/rights", test_rights);
    return g_test_run();
}
