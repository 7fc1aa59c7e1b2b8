/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/fake-store.h"

#include "common/util/error.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct state_disk {
    struct fake_store *store;
    struct rig *rig;
};

struct state_transaction {
    struct fake_store *store;
    GArray *records; /* struct state_record, as they were told */
};

struct stored_bits {
    struct fake_store *store;
    uint64_t *words;
    struct bitmap *bitmap;
};

G_GNUC_PRINTF(2, 3) static void note(struct fake_store *s, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(&s->lock);
    g_string_append_vprintf(s->calls, format, args);
    pthread_mutex_unlock(&s->lock);
    va_end(args);
}

/* A call that may wait: nobody must be kept waiting by it. */
static void check_may_wait(struct fake_store *s, struct state_disk *d)
{
    if (s->threads)
        g_assert_true(g_thread_self() != s->control);
    g_assert_false(atomic_load(&d->rig->disk->gate.closed));
}

static void release_bits(void *opaque)
{
    struct stored_bits *b = opaque;

    pthread_mutex_lock(&b->store->lock);
    g_hash_table_remove(b->store->attached, b->bitmap);
    pthread_mutex_unlock(&b->store->lock);
    atomic_fetch_sub(&b->store->bits, 1);
    g_free(b->words);
    g_free(b);
}

static bool is_lost(void *opaque)
{
    const struct stored_bits *b = opaque;

    return b->store->lost == b->bitmap;
}

static struct bitmap *bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err)
{
    struct stored_bits *b;

    note(d->store, "new; ");
    if (d->store->fails == FAIL_BITS) {
        fail(err, "no room");
        return NULL;
    }
    b = g_new0(struct stored_bits, 1);
    b->store = d->store;
    b->words = g_new0(uint64_t, bitmap_words(size, granularity));
    b->bitmap = bitmap_new_over(b->words, size, granularity, release_bits, b, err);
    bitmap_set_lost(b->bitmap, is_lost);
    atomic_fetch_add(&d->store->bits, 1);
    return b->bitmap;
}

static int bits_attach(struct state_disk *d, struct bitmap *bits, GError **err)
{
    struct fake_store *s = d->store;

    check_may_wait(s, d);
    note(s, "attach %" PRIu64 "; ", bitmap_count(bits));
    if (s->fails == FAIL_ATTACH)
        return fail(err, "no file");
    pthread_mutex_lock(&s->lock);
    g_assert_true(g_hash_table_add(s->attached, bits));
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static int resize_begin(struct state_disk *d, uint64_t size, GError **err)
{
    check_may_wait(d->store, d);
    note(d->store, "resize %" PRIu64 "; ", size);
    return d->store->fails == FAIL_RESIZE_BEGIN ? fail(err, "cannot note the size") : 0;
}

static void resize_cancel(struct state_disk *d)
{
    g_assert_true(g_thread_self() == d->store->control);
    note(d->store, "cancel; ");
}

static void note_change(struct fake_store *s, const struct state_change *c)
{
    check_may_wait(s, c->disk);
    if (!c->bits) {
        note(s, " -%s", c->bitmap);
        return;
    }
    g_assert_cmpuint(c->size, ==, bitmap_size(c->bits));
    g_assert_cmpuint(c->granularity, ==, bitmap_granularity(c->bits));
    pthread_mutex_lock(&s->lock);
    g_assert_true(g_hash_table_contains(s->attached, c->bits) == c->persistent);
    pthread_mutex_unlock(&s->lock);
    note(s, " %s=%" PRIu64 "%s%s", c->bitmap, bitmap_count(c->bits), c->recording ? "" : "!",
         c->persistent ? "" : "~");
    if (c->inconsistent)
        note(s, "(%s)", c->inconsistent);
}

static int prepare(void *store, const struct state_change *changes, unsigned n,
                   struct state_transaction **t, GError **err)
{
    struct fake_store *s = store;

    note(s, "prepare");
    for (unsigned k = 0; k < n; k++)
        note_change(s, &changes[k]);
    note(s, "; ");
    if (s->fails == FAIL_PREPARE)
        return fail(err, "disk full");
    *t = g_new(struct state_transaction, 1);
    (*t)->store = s;
    (*t)->records = g_array_new(FALSE, FALSE, sizeof(struct state_record));
    atomic_fetch_add(&s->transactions, 1);
    return 0;
}

static void record(struct state_transaction *t, const struct state_record *record)
{
    check_may_wait(t->store, t->store->disk);
    note(t->store, "record %s/%s; ", record->kind, record->name);
    g_array_append_vals(t->records, record, 1);
}

/* Their texts are asked for once, when the flip has been. */
static void note_records(struct fake_store *s, const GArray *records)
{
    for (unsigned k = 0; k < records->len; k++) {
        const struct state_record *r = &g_array_index(records, struct state_record, k);
        g_autofree char *text = r->text ? r->text(r->opaque) : NULL;

        note(s, " %s=%s", r->name, text ? text : "none");
    }
}

static int commit(void *store, struct state_transaction *t, GError **err)
{
    struct fake_store *s = store;

    g_assert_true(t->store == s);
    check_may_wait(s, s->disk);
    note(s, "commit");
    note_records(s, t->records);
    note(s, "; ");
    if (s->committing)
        s->committing(s, s->opaque);
    return s->fails == FAIL_COMMIT ? fail(err, "catalogue broken") : 0;
}

static void end(void *store, struct state_transaction *t, bool committed)
{
    struct fake_store *s = store;

    g_assert_true(g_thread_self() == s->control);
    g_assert_true(t->store == s);
    note(s, committed ? "end; " : "end without; ");
    atomic_fetch_sub(&s->transactions, 1);
    g_array_unref(t->records);
    g_free(t);
}

static void broken(struct state_disk *d, const char *reason)
{
    note(d->store, "broken (%s); ", reason);
}

static struct live_line *line_take(struct state_disk *d)
{
    struct live_line *line = aligned_alloc(64, sizeof *line);

    memset(line, 0, sizeof *line);
    atomic_init(&line->disk, 1);
    atomic_fetch_add(&d->store->lines, 1);
    return line;
}

static void line_give(struct state_disk *d, struct live_line *line)
{
    g_assert_cmpuint(atomic_load(&line->inside[0]) + atomic_load(&line->inside[1]), ==, 0);
    atomic_fetch_sub(&d->store->lines, 1);
    free(line);
}

static const struct state_ops ops = {
    .bits_new = bits_new,
    .bits_attach = bits_attach,
    .resize_begin = resize_begin,
    .resize_cancel = resize_cancel,
    .prepare = prepare,
    .record = record,
    .commit = commit,
    .end = end,
    .broken = broken,
    .line_take = line_take,
    .line_give = line_give,
};

static struct state_disk *join(struct fake_store *s, struct rig *rig,
                               const struct disk_restored *bitmaps, unsigned n)
{
    struct state_disk *d = g_new0(struct state_disk, 1);

    d->store = s;
    d->rig = rig;
    for (unsigned k = 0; k < n; k++)
        if (bitmaps[k].bits)
            g_hash_table_add(s->attached, bitmaps[k].bits);
    node_io_close(rig->io);
    disk_restore(rig->disk,
                 &(struct disk_state){.ops = &ops, .store = s, .disk = d, .cover = &s->cover},
                 bitmaps, n);
    g_assert_cmpint(node_io_open(disk_node(rig->disk), true, false, NULL, &rig->io, NULL), ==, 0);
    return d;
}

struct fake_store *fake_store_new_over(struct rig *rig, const struct disk_restored *bitmaps,
                                       unsigned n)
{
    struct fake_store *s = g_new0(struct fake_store, 1);

    s->control = g_thread_self();
    pthread_mutex_init(&s->lock, NULL);
    s->calls = g_string_new(NULL);
    s->attached = g_hash_table_new(NULL, NULL);
    s->others = g_ptr_array_new_with_free_func(g_free);
    s->rig = rig;
    s->disk = join(s, s->rig, bitmaps, n);
    return s;
}

struct fake_store *fake_store_new_with(const struct disk_restored *bitmaps, unsigned n)
{
    return fake_store_new_over(rig_new(1 * MIB, 0), bitmaps, n);
}

struct fake_store *fake_store_new(void)
{
    return fake_store_new_with(NULL, 0);
}

void fake_store_add_disk(struct fake_store *s, struct rig *rig)
{
    g_ptr_array_add(s->others, join(s, rig, NULL, 0));
}

void fake_store_free(struct fake_store *s)
{
    rig_free(s->rig);
    g_assert_cmpuint(atomic_load(&s->bits), ==, 0);
    g_assert_cmpuint(atomic_load(&s->transactions), ==, 0);
    g_assert_cmpuint(atomic_load(&s->lines), ==, 0);
    g_hash_table_unref(s->attached);
    g_string_free(s->calls, TRUE);
    pthread_mutex_destroy(&s->lock);
    g_ptr_array_unref(s->others);
    g_free(s->disk);
    g_free(s);
}

void assert_store_heard(struct fake_store *s, const char *calls)
{
    g_assert_cmpstr(s->calls->str, ==, calls);
    fake_store_forget(s);
}

void fake_store_forget(struct fake_store *s)
{
    g_string_truncate(s->calls, 0);
}
