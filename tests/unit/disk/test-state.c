/* SPDX-License-Identifier: BSD-3-Clause */
/* What instants ask of a store that keeps bitmaps over a restart, and in which order. */
#include "common/util/error.h"
#include "tests/rigs/disk-harness.h"

/* A store that notes the calls that it gets. Its bits are in memory. */
struct store {
    struct rig *rig;
    GString *calls;
    bool fails;     /* prepare fails */
    bool bits_fail; /* bits_new fails, and so does user_prepares */
    unsigned bits;  /* bitmaps that it has made and that are still in use */
};

struct stored_bits {
    struct store *store;
    uint64_t *words;
};

static void release_bits(void *opaque)
{
    struct stored_bits *s = opaque;

    s->store->bits--;
    g_free(s->words);
    g_free(s);
}

static struct bitmap *bits_new(void *opaque, struct disk *d, const char *bitmap, uint64_t size,
                               uint32_t granularity, GError **err)
{
    struct store *store = opaque;
    struct stored_bits *s;

    g_string_append_printf(store->calls, "new %s/%s; ", disk_name(d), bitmap);
    if (store->bits_fail) {
        fail(err, "no room");
        return NULL;
    }
    s = g_new0(struct stored_bits, 1);
    s->store = store;
    s->words = g_new0(uint64_t, bitmap_words(size, granularity));
    store->bits++;
    return bitmap_new_over(s->words, size, granularity, release_bits, s, err);
}

static int prepare(void *opaque, const struct state_change *changes, unsigned n, void **transaction,
                   GError **err)
{
    struct store *store = opaque;

    g_string_append(store->calls, "prepare");
    for (unsigned k = 0; k < n; k++) {
        const struct state_change *c = &changes[k];

        g_assert_false(atomic_load(&c->disk->gate.closed));
        g_string_append_printf(store->calls, " %s/%s", disk_name(c->disk), c->bitmap);
        if (c->bits)
            g_string_append_printf(store->calls, "=%u%s", (unsigned)bitmap_count(c->bits),
                                   c->recording ? "" : "!");
    }
    g_string_append(store->calls, "; ");
    if (store->fails)
        return fail(err, "disk full");
    *transaction = store->calls;
    return 0;
}

static void flipped(void *opaque, void *transaction)
{
    struct store *store = opaque;

    g_assert_true(transaction == store->calls);
    g_assert_false(atomic_load(&store->rig->disk->gate.closed));
    g_string_append(store->calls, "flipped; ");
}

static void state_abort(void *opaque, void *transaction)
{
    struct store *store = opaque;

    g_assert_true(transaction == store->calls);
    g_string_append(store->calls, "abort; ");
}

static const struct state_ops ops = {
    .bits_new = bits_new,
    .prepare = prepare,
    .flipped = flipped,
    .abort = state_abort,
};

static struct store *store_new(void)
{
    struct store *store = g_new0(struct store, 1);

    store->calls = g_string_new(NULL);
    store->rig = rig_new(1 * MIB, 0);
    store->rig->disk->state = &ops;
    store->rig->disk->store = store;
    return store;
}

static void store_free(struct store *store)
{
    rig_free(store->rig);
    g_assert_cmpuint(store->bits, ==, 0);
    g_string_free(store->calls, TRUE);
    g_free(store);
}

/* The store has got these calls since the last assertion. */
static void assert_heard(struct store *store, const char *calls)
{
    g_assert_cmpstr(store->calls->str, ==, calls);
    g_string_truncate(store->calls, 0);
}

static void add(struct store *store, struct instant *i, const char *name, bool recording)
{
    g_assert_cmpint(instant_bitmap_add(i, store->rig->disk, name, 4096, recording, NULL), ==, 0);
}

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

static void assert_fails(struct instant *i, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, why);
}

static void test_order(void)
{
    struct store *store = store_new();
    struct disk *d = store->rig->disk;
    struct instant *i = instant_new();

    add(store, i, "a", true);
    add(store, i, "b", false);
    commit(i);
    assert_heard(store, "new vda/a; new vda/b; prepare vda/a=0 vda/b=0!; flipped; ");

    rig_fill(store->rig, 0, 4096, 'x');
    i = instant_new();
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_clear(i, d, "a", NULL), ==, 0);
    commit(i);
    assert_heard(store, "new vda/b; new vda/a; prepare vda/a=0 vda/b=4096!; flipped; ");

    i = instant_new();
    g_assert_cmpint(instant_bitmap_remove(i, d, "a", NULL), ==, 0);
    g_assert_cmpint(instant_bitmap_record(i, d, "b", true, NULL), ==, 0);
    commit(i);
    assert_heard(store, "prepare vda/a vda/b=4096; flipped; ");
    g_assert_cmpuint(store->bits, ==, 1);

    g_assert_cmpint(disk_resize(d, 2 * MIB, NULL), ==, 0);
    assert_heard(store, "new vda/b; prepare vda/b=1052672; flipped; ");
    g_assert_cmpuint(store->bits, ==, 1);
    store_free(store);
}

static void assert_as_before(struct store *store)
{
    g_autoptr(GPtrArray) bitmaps = disk_bitmaps(store->rig->disk);

    g_assert_cmpuint(bitmaps->len, ==, 1);
    g_assert_cmpuint(store->bits, ==, 1);
    g_assert_cmpuint(store->rig->disk->tracker->n, ==, 1);
    g_assert_cmpuint(disk_size(store->rig->disk), ==, 1 * MIB);
    g_assert_false(disk_in_instant(store->rig->disk));
}

/* An instant with a merge, so that there are shadows to take back. */
static struct instant *merge_into_new(struct store *store)
{
    struct disk *d = store->rig->disk;
    struct instant *i = instant_new();

    add(store, i, "b", true);
    g_assert_cmpint(instant_bitmap_merge(i, d, "b", d, "a", NULL), ==, 0);
    return i;
}

static struct store *store_with_bitmap(void)
{
    struct store *store = store_new();
    struct instant *i = instant_new();

    add(store, i, "a", true);
    commit(i);
    g_string_truncate(store->calls, 0);
    return store;
}

/* If the store cannot prepare, nothing has changed, and nothing is left behind. */
static void test_prepare_fails(void)
{
    struct store *store = store_with_bitmap();

    store->fails = true;
    assert_fails(merge_into_new(store), "disk full");
    assert_heard(store, "new vda/b; prepare vda/a=0 vda/b=0; ");
    assert_as_before(store);
    g_assert_cmpint(disk_resize(store->rig->disk, 2 * MIB, NULL), ==, -1);
    assert_heard(store, "new vda/a; prepare vda/a=1048576; ");
    assert_as_before(store);
    store->fails = false;
    rig_fill(store->rig, 0, 4096, 'x');
    commit(merge_into_new(store));
    assert_heard(store, "new vda/b; prepare vda/a=4096 vda/b=4096; flipped; ");
    store_free(store);
}

static void test_bits_fail(void)
{
    struct store *store = store_with_bitmap();
    struct instant *i = instant_new();
    GError *error = NULL;

    store->bits_fail = true;
    g_assert_cmpint(instant_bitmap_add(i, store->rig->disk, "b", 4096, true, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "disk vda: bitmap b: no room");
    g_error_free(error);
    instant_abort(i);
    assert_heard(store, "new vda/b; ");
    assert_as_before(store);
    store_free(store);
}

/* If writes under way do not end, a store that has prepared is told to abort. */
static void test_abort(void)
{
    struct store *store = store_with_bitmap();
    struct instant *i = instant_new();
    GThread *writer;

    park_arm(store->rig, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(store->rig, 0, 4096, 'x');
    park_wait(store->rig);
    store->rig->disk->drain_usec = 0;
    add(store, i, "b", true);
    assert_fails(i, "disk vda: writes under way did not end within 0 s");
    assert_heard(store, "new vda/b; prepare vda/a=4096 vda/b=0; abort; ");
    assert_as_before(store);
    park_release(store->rig);
    g_thread_join(writer);
    store_free(store);
}

/* ---- users of an instant ---- */

static int user_prepares(void *opaque, GError **err)
{
    struct store *store = opaque;

    g_string_append(store->calls, "user; ");
    return store->bits_fail ? fail(err, "the user cannot") : 0;
}

static void note_commit(void *opaque)
{
    struct store *store = opaque;

    g_assert_false(disk_in_instant(store->rig->disk));
    g_string_append(store->calls, "commit; ");
}

static void note_abort(void *opaque)
{
    struct store *store = opaque;

    g_assert_false(disk_in_instant(store->rig->disk));
    g_string_append(store->calls, "aborted; ");
}

static void note_end(void *opaque)
{
    g_string_append(((struct store *)opaque)->calls, "end; ");
}

static struct instant *used_instant(struct store *store)
{
    struct instant *i = instant_new();

    instant_on_end(i, note_end, store);
    instant_on_abort(i, note_abort, store);
    instant_on_commit(i, note_commit, store);
    instant_on_prepare(i, user_prepares, store);
    g_assert_cmpint(instant_bitmap_record(i, store->rig->disk, "a", false, NULL), ==, 0);
    return i;
}

static void test_users(void)
{
    struct store *store = store_with_bitmap();

    store->bits_fail = true;
    assert_fails(used_instant(store), "the user cannot");
    assert_heard(store, "user; aborted; end; ");
    assert_as_before(store);
    store->bits_fail = false;
    store->fails = true;
    assert_fails(used_instant(store), "disk full");
    assert_heard(store, "user; prepare vda/a=0!; aborted; end; ");
    store->fails = false;
    commit(used_instant(store));
    assert_heard(store, "user; prepare vda/a=0!; flipped; commit; end; ");
    instant_abort(used_instant(store));
    assert_heard(store, "aborted; end; ");
    store_free(store);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state/order", test_order);
    g_test_add_func("/state/prepare-fails", test_prepare_fails);
    g_test_add_func("/state/bits-fail", test_bits_fail);
    g_test_add_func("/state/abort", test_abort);
    g_test_add_func("/state/users", test_users);
    return g_test_run();
}
