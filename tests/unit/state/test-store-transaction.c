/* SPDX-License-Identifier: BSD-3-Clause */
/* Transactions of a store: what there is after a crash at each of their steps. */
#include "server/state/store-private.h"
#include "tests/rigs/store-rig.h"

#include <glib/gstdio.h>
#include <string.h>

/* How far a transaction comes before the server dies. */
enum point { ATTACHED, PREPARED, FLIPPED, COMMITTED, ENDED, POINTS };

/* A clear of a bitmap that had a dirty granule: writes go where a disk would mark them. */
static void clear_until(struct rig_disk *d, struct bitmap *old, enum point point)
{
    struct bitmap *new = rig_bits(d), *both[] = {old, new, NULL}, *after[] = {new, NULL};
    struct state_change c = rig_say(d, "b", new);
    struct state_transaction *t = NULL;
    g_autoptr(GError) error = NULL;

    if (point >= PREPARED)
        store_ops.prepare(d->rig->store, &c, 1, &t, &error);
    g_assert_no_error(error);
    if (point >= FLIPPED)
        rig_change(d, both, 8 * MIB, 1);
    if (point >= COMMITTED)
        store_ops.commit(d->rig->store, t, &error);
    g_assert_no_error(error);
    if (point >= COMMITTED)
        rig_change(d, after, 16 * MIB, 1);
    if (point >= ENDED)
        store_ops.end(d->rig->store, g_steal_pointer(&t), true);
    g_ptr_array_add(d->bits, new);
    rig_kill(d->rig);
    if (t)
        store_ops.end(NULL, t, false);
}

static void test_clear(void)
{
    for (enum point point = ATTACHED; point < POINTS; point++) {
        struct store_rig *r = rig_new();
        struct rig_disk *d = &r->disks[0];
        struct bitmap *old[] = {NULL, NULL};

        rig_start(r, 1);
        old[0] = rig_add(d, "b");
        rig_change(d, old, 0, 1);
        clear_until(d, old[0], point);
        rig_start(r, 1);
        g_assert_cmpstr(d->recovered, ==, "exact");
        rig_expect(d, "b", (point >= FLIPPED ? 2 : 1) * 65536);
        g_assert_true(bitmap_test(rig_found(d, "b")->bits, 0) == (point < COMMITTED));
        g_assert_true(bitmap_test(rig_found(d, "b")->bits, 16 * MIB) == (point >= COMMITTED));
        g_assert_cmpuint(rig_bits_files(r), ==, 1);
        rig_free(r);
    }
}

/* Several disks: wholly or not at all. */
static void test_atomic(void)
{
    struct store_rig *r = rig_new();
    struct state_change c[3];
    g_autoptr(GError) error = NULL;

    rig_start(r, 3);
    rig_add(&r->disks[0], "old");
    for (unsigned i = 0; i < 3; i++) {
        struct bitmap *bits = rig_bits(&r->disks[i]);

        g_ptr_array_add(r->disks[i].bits, bits);
        c[i] = rig_say(&r->disks[i], "new", bits);
    }
    c[2].bits = r->disks[0].bits->pdata[0]; /* another disk's: it is refused */
    g_assert_cmpint(rig_commit(r, c, 3, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "bitmap 'new' of disk disk2 cannot be kept"));
    rig_restart(r, 3);
    g_assert_cmpuint(r->disks[0].found->len, ==, 1);
    g_assert_cmpuint(r->disks[1].found->len, ==, 0);
    rig_expect(&r->disks[0], "old", 0);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

/* Removed, made transient, and made anew under the same name in one transaction. */
static void test_remove(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct state_change c[3];
    struct bitmap *a, *anew;

    rig_start(r, 1);
    a = rig_add(d, "a");
    rig_add(d, "b");
    rig_add(d, "c");
    bitmap_set(a, 0, 1);
    anew = rig_bits(d);
    g_ptr_array_add(d->bits, anew);
    c[0] = rig_say(d, "a", NULL);
    c[1] = rig_say(d, "a", anew);
    c[2] = rig_say(d, "b", d->bits->pdata[1]);
    c[2].persistent = false;
    g_assert_cmpint(rig_commit(r, c, 3, NULL), ==, 0);
    c[0] = rig_say(d, "c", NULL);
    g_assert_cmpint(rig_commit(r, c, 1, NULL), ==, 0);
    rig_restart(r, 1);
    g_assert_cmpuint(d->found->len, ==, 1);
    rig_expect(d, "a", 0);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

/* Removed, made anew as one that does not survive, and removed again. */
static void test_remove_twice(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct state_change c[3];
    struct bitmap *transient;

    rig_start(r, 1);
    rig_add(d, "a");
    rig_add(d, "b");
    transient = bitmap_alloc(d->size, 65536);
    c[0] = rig_say(d, "a", NULL);
    c[1] = rig_say(d, "a", transient);
    c[1].persistent = false;
    c[2] = c[0];
    g_assert_cmpint(rig_commit(r, c, 3, NULL), ==, 0);
    bitmap_unref(transient);
    rig_restart(r, 1);
    g_assert_cmpuint(d->found->len, ==, 1);
    rig_expect(d, "b", 0);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

/* A bitmap that does not record any more is not widened, and lacks nothing. */
static void test_disable(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct state_change c;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, MIB, 1);
    c = rig_say(d, "b", bits[0]);
    c.recording = false;
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    g_assert_false(rig_found(d, "b")->recording);
    rig_free(r);
}

static void test_inconsistent(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits, *again;
    struct state_change c;

    rig_start(r, 1);
    bits = rig_add(d, "b");
    c = rig_say(d, "b", bits);
    c.inconsistent = "it rained";
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "it rained");
    /* It has bits for the disk that are not the store's, and stays what it is. */
    bits = bitmap_alloc(d->size, 65536);
    c = rig_say(d, "b", bits);
    c.inconsistent = "it rained";
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    bitmap_unref(bits);
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "it rained");
    /* It is cleared. */
    again = rig_add(d, "b");
    bitmap_set(again, 0, 1);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

/* ---- resizes ---- */

/* The server dies after the resize has begun: the image has the one size or the other. */
static void resize_and_die(uint64_t to, bool resized, uint64_t count)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autoptr(GError) error = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_change(d, bits, 40 * MIB, 1);
    store_ops.resize_begin(d->state.disk, to, &error);
    g_assert_no_error(error);
    rig_kill(r);
    if (resized)
        d->size = to;
    for (unsigned i = 0; i < 2; i++) {
        rig_start(r, 1);
        rig_expect(d, "b", count);
        g_assert_cmpuint(bitmap_size(rig_found(d, "b")->bits), ==, d->size);
        g_assert_cmpuint(d->state.disk->bits->len, ==, 1); /* nothing is left of the old ones */
        rig_stop(r);
    }
    rig_start(r, 1);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

static void test_resize_killed(void)
{
    resize_and_die(96 * MIB, false, 2 * 65536);
    resize_and_die(96 * MIB, true, 2 * 65536 + 32 * MIB);
    resize_and_die(32 * MIB, false, 2 * 65536);
    resize_and_die(32 * MIB, true, 65536);
}

static void test_resize(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits;
    struct state_change c;

    rig_start(r, 1);
    rig_add(d, "b");
    g_assert_cmpint(store_ops.resize_begin(d->state.disk, 96 * MIB, NULL), ==, 0);
    d->size = 96 * MIB;
    bits = rig_bits(d);
    bitmap_set(bits, 64 * MIB, 32 * MIB);
    c = rig_say(d, "b", bits);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    g_ptr_array_add(d->bits, bits);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 32 * MIB);
    /* One that failed: only the size that it has fits then. */
    g_assert_cmpint(store_ops.resize_begin(d->state.disk, 32 * MIB, NULL), ==, 0);
    store_ops.resize_cancel(d->state.disk);
    rig_stop(r);
    d->size = 32 * MIB;
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was resized while it was not served");
    rig_free(r);
}

/* ---- bits and lines ---- */

/* Bits that are set before there is a file are in it. */
static void test_copied(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits;
    struct state_change c;

    rig_start(r, 1);
    bits = store_ops.bits_new(d->state.disk, d->size, 65536, NULL);
    bitmap_set(bits, 3 * MIB, MIB);
    bitmap_set(bits, d->size - 1, 1);
    g_assert_cmpint(store_ops.bits_attach(d->state.disk, bits, NULL), ==, 0);
    g_assert_cmpuint(bitmap_count(bits), ==, MIB + 65536);
    c = rig_say(d, "b", bits);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    g_ptr_array_add(d->bits, bits);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", MIB + 65536);
    rig_free(r);
}

/* Bits may go without ever having been kept, and outlive the store. */
static void test_bits_alone(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits, *file, *kept;

    rig_start(r, 1);
    bits = store_ops.bits_new(d->state.disk, d->size, 65536, NULL);
    file = rig_bits(d);
    kept = bitmap_ref(rig_add(d, "b"));
    bitmap_unref(bits);
    bitmap_unref(file);
    bits = rig_bits(d);
    rig_stop(r);
    bitmap_set(bits, 0, 1);
    g_assert_cmpuint(bitmap_count(kept), ==, 0);
    bitmap_unref(bits);
    bitmap_unref(kept);
    rig_start(r, 1);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_free(r);
}

/* More clients than there are lines: the last ones share one. */
static void test_lines(void)
{
    static struct live_line *lines[LIVE_LINES];
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    for (unsigned i = 0; i < LIVE_LINES; i++)
        lines[i] = store_ops.line_take(d->state.disk);
    g_assert_true(lines[0] != lines[1]);
    g_assert_true(lines[LIVE_LINES - 1] && lines[LIVE_LINES - 1] == lines[LIVE_LINES - 2]);
    for (unsigned i = 0; i < LIVE_LINES; i++)
        store_ops.line_give(d->state.disk, lines[i]);
    g_assert_true(store_ops.line_take(d->state.disk) == lines[0]);
    rig_free(r);
}

/* A change by a client that has gone is remembered. */
static void test_line_given(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    store_ops.line_give(d->state.disk, d->line);
    d->line = store_ops.line_take(r->disks[0].state.disk);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/transaction/clear", test_clear);
    g_test_add_func("/transaction/atomic", test_atomic);
    g_test_add_func("/transaction/remove", test_remove);
    g_test_add_func("/transaction/remove-twice", test_remove_twice);
    g_test_add_func("/transaction/disable", test_disable);
    g_test_add_func("/transaction/inconsistent", test_inconsistent);
    g_test_add_func("/transaction/resize/killed", test_resize_killed);
    g_test_add_func("/transaction/resize/done", test_resize);
    g_test_add_func("/transaction/bits/copied", test_copied);
    g_test_add_func("/transaction/bits/alone", test_bits_alone);
    g_test_add_func("/transaction/lines/all", test_lines);
    g_test_add_func("/transaction/lines/given", test_line_given);
    return g_test_run();
}
