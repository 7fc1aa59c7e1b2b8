/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests that know nothing of blocks write to an image that takes whole blocks only (the fake
 * backend fails the test at any other request): each byte is where it was written, whoever else
 * writes beside it.
 */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <sched.h>
#include <string.h>

#define BLOCK 4096u

/* ---- one guest ---- */

struct shadow {
    struct rig *rig;
    uint64_t size;
    char *data; /* what the disk must hold */
    char next;
};

static void check_disk(const struct shadow *s)
{
    g_autofree char *buf = g_malloc(s->size);

    fake_backend_peek(s->rig->backend, buf, s->size, 0);
    for (uint64_t i = 0; memcmp(buf, s->data, s->size) != 0; i++)
        if (buf[i] != s->data[i])
            g_error("byte %" G_GUINT64_FORMAT " is %d, not %d", i, buf[i], s->data[i]);
}

static void read_check(const struct shadow *s, uint64_t offset, uint64_t length)
{
    g_autofree char *buf = g_malloc(length + 2);

    buf[0] = buf[length + 1] = '?';
    g_assert_cmpint(node_read(s->rig->io, buf + 1, (uint32_t)length, offset, 0), ==, 0);
    g_assert_cmpmem(buf + 1, length, s->data + offset, length);
    g_assert_true(buf[0] == '?' && buf[length + 1] == '?');
}

static void write_check(struct shadow *s, uint64_t offset, uint64_t length)
{
    memset(s->data + offset, ++s->next, length);
    rig_fill(s->rig, offset, length, s->next);
    check_disk(s);
}

static void zero_check(struct shadow *s, uint64_t offset, uint64_t length, uint32_t flags)
{
    memset(s->data + offset, 0, length);
    g_assert_cmpint(node_zero(s->rig->io, length, offset, flags), ==, 0);
    check_disk(s);
}

/* Only whole blocks are trimmed; the last one of the disk may be short. */
static void trim_check(struct shadow *s, uint64_t offset, uint64_t length, uint32_t block)
{
    uint64_t first = (offset + block - 1) / block * block, end = offset + length;

    if (end != s->size)
        end = end / block * block;
    if (end > first)
        memset(s->data + first, 0, end - first);
    g_assert_cmpint(node_trim(s->rig->io, length, offset, 0), ==, 0);
    check_disk(s);
}

static void try_all(uint64_t size, uint32_t block)
{
    struct shadow s = {.rig = rig_new_blocks(size, 0, block), .size = size};
    const uint64_t b = block;
    const uint64_t at[] = {0,     1,         b - 1,     b,        b + 1, 2 * b - 1,
                           2 * b, 7 * b / 2, 4 * b - 1, size - 1, size};

    s.data = g_malloc0(size);
    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++) {
        for (unsigned j = 0; j < G_N_ELEMENTS(at); j++) {
            if (at[j] <= at[i])
                continue;
            uint64_t length = at[j] - at[i];
            write_check(&s, at[i], length);
            read_check(&s, at[i], length);
            zero_check(&s, at[i], length, 0);
            write_check(&s, at[i], length);
            zero_check(&s, at[i], length, BACKEND_MAY_TRIM | BACKEND_FUA);
            write_check(&s, at[i], length);
            trim_check(&s, at[i], length, block);
            write_check(&s, at[i], length);
            g_assert_cmpint(node_cache(s.rig->io, length, at[i]), ==, 0);
        }
    }
    g_free(s.data);
    rig_free(s.rig);
}

static void test_all_ranges(void)
{
    try_all(6 * 512, 512);
    try_all(6 * BLOCK, BLOCK);
    try_all(5 * BLOCK + 100, BLOCK);
    try_all(5 * 16384, 16384);
}

/* More is zeroed than is cleared in one go, with a view and without. */
static void test_long_zero(void)
{
    const uint64_t size = 24 * MIB;
    struct rig *r = rig_new_blocks(size, 0, BLOCK);
    struct view *v;

    rig_fill(r, 0, 12 * MIB, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpint(node_zero(r->io, 20 * MIB, 100, BACKEND_MAY_TRIM), ==, 0);
    g_assert_true(node_is(disk_node(r->disk), 0, 100, 'a'));
    g_assert_true(node_is(disk_node(r->disk), 100, 20 * MIB, 0));
    assert_view(v, 0, 12 * MIB, 'a');
    assert_view(v, 12 * MIB, size - 12 * MIB, 0);
    rig_fill(r, 1, 12 * MIB, 'b');
    g_assert_cmpint(node_zero(r->io, 12 * MIB - 1, 10, 0), ==, 0);
    g_assert_true(node_is(disk_node(r->disk), 1, 9, 'b'));
    g_assert_true(node_is(disk_node(r->disk), 10, 12 * MIB - 1, 0));
    assert_view(v, 0, 12 * MIB, 'a');
    rig_delete(r, v);
    rig_fill(r, 0, size, 'c');
    g_assert_cmpint(node_zero(r->io, 20 * MIB, 10, BACKEND_MAY_TRIM), ==, 0);
    g_assert_true(node_is(disk_node(r->disk), 0, 10, 'c'));
    g_assert_true(node_is(disk_node(r->disk), 10, 20 * MIB, 0));
    g_assert_true(node_is(disk_node(r->disk), 20 * MIB + 10, 4 * MIB - 10, 'c'));
    rig_free(r);
}

static void test_fua_of_every_part(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    g_autofree char *buf = g_malloc0(4 * BLOCK);

    g_assert_cmpint(node_write(r->io, buf, 4 * BLOCK, 100, 0), ==, 0);
    g_assert_cmpuint(fake_backend_fua_calls(r->backend), ==, 0);
    g_assert_cmpint(node_write(r->io, buf, 4 * BLOCK, 100, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_fua_calls(r->backend), ==, 3);
    g_assert_cmpint(node_write(r->io, buf, 1, 100, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_fua_calls(r->backend), ==, 4);
    g_assert_cmpint(node_zero(r->io, 4 * BLOCK, 100, BACKEND_FUA), ==, 0);
    g_assert_cmpuint(fake_backend_fua_calls(r->backend), ==, 7);
    rig_free(r);
}

/* A fast zero that is refused has changed nothing. One that would have to write is refused. */
static void test_fast_zero(void)
{
    struct fake_failure failure = {.call = FAKE_ZERO, .error = -ENOTSUP};
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);

    rig_fill(r, 0, 8 * BLOCK, 'a');
    g_assert_cmpint(node_zero(r->io, 4 * BLOCK, 100, BACKEND_FAST), ==, 0);
    g_assert_true(node_is(disk_node(r->disk), 100, 4 * BLOCK, 0));
    rig_fill(r, 0, 8 * BLOCK, 'a');
    g_assert_cmpint(node_zero(r->io, BLOCK, 100, BACKEND_FAST), ==, -ENOTSUP);
    fake_backend_fail(r->backend, &failure);
    g_assert_cmpint(node_zero(r->io, 4 * BLOCK, 100, BACKEND_FAST), ==, -ENOTSUP);
    g_assert_true(node_is(disk_node(r->disk), 0, 8 * BLOCK, 'a'));
    rig_free(r);
}

/* A block that cannot be read is not written back. */
static void test_a_read_fails(void)
{
    struct fake_failure failure = {.call = FAKE_READ, .error = -EIO};
    struct rig *r = rig_new_blocks(4 * BLOCK, 0, BLOCK);
    char byte = 'b';

    rig_fill(r, 0, 4 * BLOCK, 'a');
    fake_backend_fail(r->backend, &failure);
    g_assert_cmpint(node_write(r->io, &byte, 1, 100, 0), ==, -EIO);
    fake_backend_set_hook(r->backend, NULL, NULL);
    g_assert_true(node_is(disk_node(r->disk), 0, 4 * BLOCK, 'a'));
    rig_fill(r, 100, 1, 'b'); /* the failed write holds its block no more */
    rig_free(r);
}

static void test_extents(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct extents e = EXTENTS_INIT;

    rig_fill(r, 2 * BLOCK, BLOCK, 'a');
    g_assert_cmpint(node_extents(r->io, 2 * BLOCK, BLOCK + 100, 0, &e), ==, 0);
    g_assert_cmpuint(e.count, ==, 3);
    g_assert_cmpuint(e.list[0].length, ==, BLOCK - 100);
    g_assert_cmpuint(e.list[0].flags, ==, EXTENT_HOLE | EXTENT_ZERO);
    g_assert_cmpuint(e.list[1].length, ==, BLOCK);
    g_assert_cmpuint(e.list[1].flags, ==, 0);
    g_assert_cmpuint(e.total, ==, 2 * BLOCK);
    extents_clear(&e);
    g_assert_cmpint(node_extents(r->io, 10, 3 * BLOCK - 5, BACKEND_REQ_ONE, &e), ==, 0);
    g_assert_cmpuint(e.list[0].length, ==, 5);
    g_assert_cmpuint(e.list[0].flags, ==, 0);
    extents_free(&e);
    rig_free(r);
}

static void test_read_now_promises_nothing(void)
{
    struct rig *r = rig_new_blocks(4 * BLOCK, 0, BLOCK);
    char byte = 'b';

    g_assert_cmpint(node_read_now(r->io, &byte, 1, 100), ==, -EAGAIN);
    rig_free(r);
}

/* ---- bitmaps and views ---- */

static void test_all_that_is_written_is_dirty(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);

    rig_bitmap(r, "b", 512);
    rig_fill(r, BLOCK + 100, 1, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, BLOCK);
    rig_fill(r, 3 * BLOCK - 1, 2, 'a');
    g_assert_cmpuint(rig_count(r, "b"), ==, 3 * BLOCK);
    g_assert_cmpint(node_zero(r->io, BLOCK, 4 * BLOCK + 1, 0), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 5 * BLOCK);
    g_assert_cmpint(node_trim(r->io, 2 * BLOCK, 6 * BLOCK - 1, 0), ==, 0);
    g_assert_cmpuint(rig_count(r, "b"), ==, 6 * BLOCK);
    rig_free(r);
}

/* A block that is written in part is kept whole, also where the view's unit is that block. A view
 * can be read at any byte. */
static void test_a_view_sees_old_data(void)
{
    for (uint32_t block = 512; block <= 65536; block *= 2) {
        struct rig *r = rig_new_blocks(512 * KIB, 0, block);
        struct view *v;

        rig_fill(r, 0, 512 * KIB, 'a');
        v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
        rig_fill(r, 3 * block - 1, 2, 'b');
        rig_fill(r, 4 * block + 1, 3 * block, 'c');
        assert_view(v, 0, 512 * KIB, 'a');
        assert_view(v, 3 * block - 7, 100, 'a');
        assert_view(v, 1, 512 * KIB - 2, 'a');
        rig_free(r);
    }
}

static void test_trim_of_a_view(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct view *v;
    struct node_io *io;

    rig_fill(r, 0, 8 * BLOCK, 'a');
    v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(r, 0, 8 * BLOCK, 'b');
    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_trim(io, 3 * BLOCK, BLOCK + 1, 0), ==, 0); /* blocks 2 and 3 */
    assert_view(v, 0, 2 * BLOCK, 'a');
    assert_view(v, 2 * BLOCK, 2 * BLOCK, 0);
    assert_view(v, 4 * BLOCK, 4 * BLOCK, 'a');
    g_assert_cmpuint(rig_kept(v), ==, 6 * BLOCK);
    node_io_close(io);
    rig_free(r);
}

/* A client that rewrites whole blocks and a client that writes bytes would lose each other's data.
 * So all clients of a disk have the disk's blocks, whatever the plugin says for a later handle. */
static void test_one_minimum_for_all(void)
{
    for (unsigned later = 0; later < 2; later++) {
        uint32_t first = later ? BLOCK : 1, then = later ? 1 : BLOCK;
        struct rig *r = rig_new_blocks(8 * BLOCK, 0, first);
        struct node_io *io;

        fake_backend_set_multi_conn(r->backend, true);
        r->disk->handle->can_multi_conn = true;
        fake_backend_set_min_block(r->backend, then);
        g_assert_cmpint(node_io_open(disk_node(r->disk), true, false,
                                     &(struct backend_client){.socket = -1}, &io, NULL),
                        ==, 0);
        g_assert_cmpuint(node_io_info(io)->min_block, ==, first);
        g_assert_false(node_io_info(io)->can_multi_conn);
        fake_backend_set_min_block(r->backend, first);
        g_assert_cmpint(node_write(io, "x", 1, 100, 0), ==, 0);
        g_assert_true(node_is(disk_node(r->disk), 100, 1, 'x'));
        node_io_close(io);
        rig_free(r);
    }
}

/* ---- neighbours ---- */

struct neighbour {
    struct rig *rig;
    uint64_t offset, length;
    char byte;
    atomic_bool done;
    GThread *thread;
};

static gpointer neighbour_main(gpointer p)
{
    struct neighbour *n = p;

    rig_fill(n->rig, n->offset, n->length, n->byte);
    atomic_store(&n->done, true);
    return NULL;
}

/* Begin the neighbour's write. Return when it has ended, or when `waiting` writes are waiting. */
static void neighbour_begin(struct neighbour *n, unsigned waiting)
{
    n->thread = g_thread_new("neighbour", neighbour_main, n);
    while (!atomic_load(&n->done) && range_lock_waiting(&n->rig->disk->changing) < waiting)
        sched_yield();
}

static void write_beside(uint64_t offset, uint64_t length)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct neighbour n = {.rig = r, .offset = offset, .length = length, .byte = 'n'};

    rig_fill(r, 0, 8 * BLOCK, 'a');
    park_arm(r, POINT_EDGE_READ, 2 * BLOCK);
    GThread *guest = rig_fill_thread(r, 2 * BLOCK + 100, 100, 'g');
    park_wait(r);
    neighbour_begin(&n, 1);
    park_release(r);
    g_thread_join(guest);
    g_thread_join(n.thread);
    g_assert_true(node_is(disk_node(r->disk), offset, length, 'n'));
    if (offset > 2 * BLOCK + 100)
        g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK + 100, 100, 'g'));
    rig_free(r);
}

/* A write of whole blocks comes between the read of an unaligned write and its write: it waits. */
static void test_a_whole_block_is_not_lost(void)
{
    write_beside(2 * BLOCK, BLOCK);
    write_beside(0, 8 * BLOCK);
}

static void test_two_in_one_block(void)
{
    write_beside(2 * BLOCK + 200, 10);
    write_beside(2 * BLOCK + 4000, 2 * BLOCK);
}

/* A write of a whole block is under way when an unaligned one comes. The unaligned one waits, and
 * reads what the first has written. */
static void test_reads_what_was_under_way(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct neighbour n = {.rig = r, .offset = 2 * BLOCK + 5, .length = 5, .byte = 'n'};

    rig_fill(r, 0, 8 * BLOCK, 'a');
    park_arm(r, POINT_WRITE_MARKED, 2 * BLOCK);
    GThread *guest = rig_fill_thread(r, 2 * BLOCK, BLOCK, 'g');
    park_wait(r);
    neighbour_begin(&n, 1);
    g_assert_false(atomic_load(&n.done));
    park_release(r);
    g_thread_join(guest);
    g_thread_join(n.thread);
    g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK, 5, 'g'));
    g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK + 5, 5, 'n'));
    g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK + 10, BLOCK - 10, 'g'));
    rig_free(r);
}

static void zero_or_trim_beside(bool trim)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct neighbour n = {.rig = r, .offset = 2 * BLOCK + 5, .length = 5, .byte = 'n'};

    rig_fill(r, 0, 8 * BLOCK, 'a');
    park_arm(r, POINT_EDGE_READ, 2 * BLOCK);
    n.thread = g_thread_new("neighbour", neighbour_main, &n);
    park_wait(r);
    /* Whole blocks before and behind the neighbour's. */
    g_assert_cmpint(trim ? node_trim(r->io, 2 * BLOCK, 0, 0)
                         : node_zero(r->io, 2 * BLOCK, 0, BACKEND_MAY_TRIM),
                    ==, 0);
    g_assert_cmpint(trim ? node_trim(r->io, 5 * BLOCK, 3 * BLOCK, 0)
                         : node_zero(r->io, 5 * BLOCK, 3 * BLOCK, BACKEND_MAY_TRIM),
                    ==, 0);
    g_assert_false(atomic_load(&n.done));
    park_release(r);
    g_thread_join(n.thread);
    g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK + 5, 5, 'n'));
    g_assert_true(node_is(disk_node(r->disk), 2 * BLOCK + 10, BLOCK - 10, 'a'));
    g_assert_true(node_is(disk_node(r->disk), 3 * BLOCK, 5 * BLOCK, 0));
    rig_free(r);
}

static void test_others_go_on(void)
{
    zero_or_trim_beside(false);
    zero_or_trim_beside(true);
}

/* A write of whole blocks does not overtake an unaligned one that came first, so that such writes
 * cannot make it wait for ever. */
static void test_in_order(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct neighbour second = {.rig = r, .offset = 100, .length = BLOCK, .byte = '2'};
    struct neighbour third = {.rig = r, .offset = BLOCK, .length = BLOCK, .byte = '3'};

    park_arm(r, POINT_WRITE_MARKED, 0);
    GThread *first = rig_fill_thread(r, 0, BLOCK, '1');
    park_wait(r);
    neighbour_begin(&second, 1);
    neighbour_begin(&third, 2);
    g_assert_false(atomic_load(&third.done));
    park_release(r);
    g_thread_join(first);
    g_thread_join(second.thread);
    g_thread_join(third.thread);
    g_assert_true(node_is(disk_node(r->disk), 0, 100, '1'));
    g_assert_true(node_is(disk_node(r->disk), 100, BLOCK - 100, '2'));
    g_assert_true(node_is(disk_node(r->disk), BLOCK, BLOCK, '3'));
    rig_free(r);
}

/* ---- an instant ---- */

struct instant_thread {
    struct rig *rig;
    struct view *view;
};

static gpointer make_view(gpointer p)
{
    struct instant_thread *t = p;

    t->view = rig_view(t->rig, "v", CBW_BREAK_SNAPSHOT, 0);
    return NULL;
}

/* An unaligned write is wholly before an instant that comes between its read and its write. */
static void test_an_instant_waits(void)
{
    struct rig *r = rig_new_blocks(8 * BLOCK, 0, BLOCK);
    struct instant_thread t = {.rig = r};

    rig_fill(r, 0, 8 * BLOCK, 'a');
    park_arm(r, POINT_EDGE_READ, 2 * BLOCK);
    GThread *guest = rig_fill_thread(r, 2 * BLOCK + 100, 3 * BLOCK, 'g');
    park_wait(r);
    GThread *control = g_thread_new("control", make_view, &t);
    while (!atomic_load(&r->disk->gate.closed))
        sched_yield();
    park_release(r);
    g_thread_join(guest);
    g_thread_join(control);
    assert_view(t.view, 2 * BLOCK, 100, 'a');
    assert_view(t.view, 2 * BLOCK + 100, 3 * BLOCK, 'g');
    rig_fill(r, 2 * BLOCK, 4 * BLOCK, 'h');
    assert_view(t.view, 2 * BLOCK + 100, 3 * BLOCK, 'g');
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/unaligned/all-ranges", test_all_ranges);
    g_test_add_func("/unaligned/long-zero", test_long_zero);
    g_test_add_func("/unaligned/fua-of-every-part", test_fua_of_every_part);
    g_test_add_func("/unaligned/fast-zero", test_fast_zero);
    g_test_add_func("/unaligned/a-read-fails", test_a_read_fails);
    g_test_add_func("/unaligned/extents", test_extents);
    g_test_add_func("/unaligned/read-now-promises-nothing", test_read_now_promises_nothing);
    g_test_add_func("/unaligned/all-that-is-written-is-dirty", test_all_that_is_written_is_dirty);
    g_test_add_func("/unaligned/a-view-sees-old-data", test_a_view_sees_old_data);
    g_test_add_func("/unaligned/trim-of-a-view", test_trim_of_a_view);
    g_test_add_func("/unaligned/one-minimum", test_one_minimum_for_all);
    g_test_add_func("/unaligned/a-whole-block-is-not-lost", test_a_whole_block_is_not_lost);
    g_test_add_func("/unaligned/two-in-one-block", test_two_in_one_block);
    g_test_add_func("/unaligned/reads-what-was-under-way", test_reads_what_was_under_way);
    g_test_add_func("/unaligned/others-go-on", test_others_go_on);
    g_test_add_func("/unaligned/in-order", test_in_order);
    g_test_add_func("/unaligned/an-instant-waits", test_an_instant_waits);
    return g_test_run();
}
