/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transactions, in the engine and in the model side by side.
 *
 * In the model an instant is simple: replay the logs up to the cut, then do the actions one after
 * the other. Only names have to be staged, to foresee which action must be refused.
 */
#include "tests/rigs/model.h"

#include <inttypes.h>
#include <sched.h>
#include <string.h>

enum action_kind { ADD, REMOVE, CLEAR, RECORD, MERGE, VIEW, FREEZE };

struct action {
    enum action_kind kind;
    struct model_disk *disk;
    struct model_bitmap *bitmap, *source;
    bool recording, discard;
    struct view *view;
    struct view_options options;
    unsigned number, faults;
};

struct txn {
    struct model *model;
    struct instant *instant;
    GArray *actions;     /* struct action */
    GPtrArray *names[8]; /* of each disk that takes part: its bitmaps after the actions so far */
    GPtrArray *fresh;    /* bitmaps made by it, until it is done */
    GPtrArray *frozen;   /* bitmaps that it freezes, until it is done */
    GPtrArray *gone;     /* bitmaps that it has removed */
    unsigned views[8];   /* made by it */
};

struct txn *txn_new(struct model *m)
{
    struct txn *t = g_new0(struct txn, 1);

    t->model = m;
    t->instant = instant_new();
    t->actions = g_array_new(FALSE, FALSE, sizeof(struct action));
    t->fresh = g_ptr_array_new_with_free_func(model_bitmap_free);
    t->frozen = g_ptr_array_new_with_free_func(model_bitmap_free);
    model_plan(m, "begin");
    t->gone = g_ptr_array_new_with_free_func(model_bitmap_free);
    return t;
}

static void txn_free(struct txn *t)
{
    g_array_unref(t->actions);
    g_ptr_array_unref(t->fresh);
    g_ptr_array_unref(t->frozen);
    g_ptr_array_unref(t->gone);
    for (unsigned i = 0; i < t->model->n_disks; i++)
        if (t->names[i])
            g_ptr_array_unref(t->names[i]);
    g_free(t);
}

static GPtrArray *names_of(struct txn *t, struct model_disk *d)
{
    if (!t->names[d->index])
        t->names[d->index] = g_ptr_array_copy(d->bitmaps, NULL, NULL);
    return t->names[d->index];
}

static struct model_bitmap *find(struct txn *t, struct model_disk *d, const char *name)
{
    GPtrArray *names = names_of(t, d);

    for (unsigned i = 0; i < names->len; i++)
        if (strcmp(((struct model_bitmap *)names->pdata[i])->name, name) == 0)
            return names->pdata[i];
    return NULL;
}

/* The engine returned `result`; the model foresaw `good`. */
static bool agree(struct txn *t, struct model_disk *d, bool good, int result, GError *error,
                  const char *what, const char *name)
{
    if (good != (result == 0) || (result < 0 && !error))
        model_fail(t->model, d, 0, "disk %u: %s %s: %s, and should have %s", d->index, what, name,
                   error ? error->message : "done", good ? "been done" : "failed");
    g_clear_error(&error);
    return good;
}

static void note(struct txn *t, struct action a)
{
    static const char *const names[] = {"add",   "remove", "clear", "record",
                                        "merge", "view",   "freeze"};

    model_plan(t->model, "%s disk%u %s %u %s", names[a.kind], a.disk->index,
               a.bitmap ? a.bitmap->name : "", a.kind == VIEW ? a.number : a.recording,
               a.source ? a.source->name : "");
    g_array_append_val(t->actions, a);
}

bool txn_add(struct txn *t, struct model_disk *d, const char *name, uint32_t granularity,
             bool recording)
{
    bool valid = name[0] && (granularity == 0 ||
                             (granularity >= 512 && (granularity & (granularity - 1)) == 0));
    bool good = !find(t, d, name) && valid;
    GError *error = NULL;
    bool persistent = disk_has_store(d->disk) && noise_once_in(&t->model->noise, 2);
    int result =
        instant_bitmap_add(t->instant, d->disk, name, granularity, recording, persistent, &error);
    struct model_bitmap *b;

    if (!agree(t, d, good, result, error, "add", name))
        return false;
    b = model_bitmap_new(d, name, granularity ? granularity : 65536, recording);
    b->persistent = persistent;
    g_ptr_array_add(t->fresh, b);
    g_ptr_array_add(names_of(t, d), b);
    note(t, (struct action){.kind = ADD, .disk = d, .bitmap = b});
    return true;
}

bool txn_remove(struct txn *t, struct model_disk *d, const char *name)
{
    struct model_bitmap *b = find(t, d, name);
    GError *error = NULL;
    int result = instant_bitmap_remove(t->instant, d->disk, name, &error);

    if (!agree(t, d, b && b->busy == 0, result, error, "remove", name))
        return false;
    g_ptr_array_remove(names_of(t, d), b);
    note(t, (struct action){.kind = REMOVE, .disk = d, .bitmap = b});
    return true;
}

bool txn_clear(struct txn *t, struct model_disk *d, const char *name)
{
    struct model_bitmap *b = find(t, d, name);
    GError *error = NULL;
    int result = instant_bitmap_clear(t->instant, d->disk, name, &error);

    if (!agree(t, d, b && b->busy == 0, result, error, "clear", name))
        return false;
    note(t, (struct action){.kind = CLEAR, .disk = d, .bitmap = b});
    return true;
}

bool txn_record(struct txn *t, struct model_disk *d, const char *name, bool recording)
{
    struct model_bitmap *b = find(t, d, name);
    GError *error = NULL;
    int result = instant_bitmap_record(t->instant, d->disk, name, recording, &error);

    if (!agree(t, d, b && b->busy == 0, result, error, recording ? "enable" : "disable", name))
        return false;
    note(t, (struct action){.kind = RECORD, .disk = d, .bitmap = b, .recording = recording});
    return true;
}

bool txn_merge(struct txn *t, struct model_disk *d, const char *target, struct model_disk *source,
               const char *name)
{
    struct model_bitmap *b = find(t, d, target);
    struct model_bitmap *s = b && b->busy == 0 ? find(t, source, name) : NULL;
    bool good = s && s->busy == 0 && b->size == s->size;
    GError *error = NULL;
    int result = instant_bitmap_merge(t->instant, d->disk, target, source->disk, name, &error);

    if (!agree(t, d, good, result, error, "merge into", target))
        return false;
    note(t, (struct action){.kind = MERGE, .disk = d, .bitmap = b, .source = s});
    return true;
}

/* Also of one that is busy. */
bool txn_freeze(struct txn *t, struct model_disk *d, const char *name)
{
    struct model_bitmap *s = name ? find(t, d, name) : NULL, *b;
    struct freeze_options options = {.name = "frozen", .source = name, .granularity = 4096};
    struct dirty_bitmap *frozen;
    GError *error = NULL;
    int result = instant_freeze(t->instant, d->disk, &options, &frozen, &error);

    if (!agree(t, d, s || !name, result, error, "freeze", name ? name : "all"))
        return false;
    b = model_bitmap_new(d, "frozen", s ? s->granularity : options.granularity, false);
    b->db = frozen;
    b->full = !name;
    names_of(t, d);
    g_ptr_array_add(t->frozen, b);
    note(t, (struct action){.kind = FREEZE, .disk = d, .bitmap = b, .source = s});
    return true;
}

void txn_view(struct txn *t, struct model_disk *d, const struct view_options *options, bool discard)
{
    struct action a = {.kind = VIEW,
                       .disk = d,
                       .options = *options,
                       .discard = discard,
                       .number = t->model->views_made++,
                       .faults = atomic_load(&t->model->faults)};
    g_autofree char *name = g_strdup_printf("view%u", a.number);
    GError *error = NULL;
    int result = instant_view_create(t->instant, d->disk, name, options, &a.view, &error);

    agree(t, d, true, result, error, "view", name);
    names_of(t, d);
    t->views[d->index]++;
    note(t, a);
}

void txn_abort(struct txn *t)
{
    model_plan(t->model, "abort");
    instant_abort(t->instant);
    txn_free(t);
}

/* ---- the instant ---- */

static void act(struct txn *t, const struct action *a)
{
    struct model_disk *d = a->disk;

    switch (a->kind) {
    case ADD:
        break;
    case REMOVE:
        g_ptr_array_add(t->gone, a->bitmap);
        break;
    case CLEAR:
        model_bitmap_clear(a->bitmap);
        break;
    case RECORD:
        a->bitmap->recording = a->recording;
        break;
    case MERGE:
        if (a->bitmap != a->source)
            model_bitmap_merge(a->bitmap, a->source);
        break;
    case FREEZE:
        if (a->source)
            model_bitmap_merge(a->bitmap, a->source);
        else
            model_bitmap_mark(a->bitmap, 0, a->bitmap->size);
        model_bitmap_frozen(d, a->bitmap);
        break;
    case VIEW:
        pthread_mutex_lock(&t->model->lock);
        g_ptr_array_add(d->views,
                        model_view_new(d, a->view, a->number, &a->options, a->discard, a->faults));
        pthread_mutex_unlock(&t->model->lock);
        break;
    }
}

/* Take over what is staged: new bitmaps get to know the real ones, removed ones are gone. */
static void settle(struct txn *t, struct model_disk *d)
{
    GPtrArray *old = d->bitmaps;

    d->bitmaps = t->names[d->index];
    t->names[d->index] = old;
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct model_bitmap *b = d->bitmaps->pdata[i];

        if (!b->db)
            b->db = disk_find_bitmap(d->disk, b->name);
        if (!b->db)
            model_fail(t->model, d, 0, "disk %u: no bitmap %s", d->index, b->name);
    }
    model_check_bitmaps(d, false);
}

static void check_gone(struct txn *t)
{
    for (unsigned i = 0; i < t->gone->len; i++) {
        struct model_bitmap *b = t->gone->pdata[i];
        struct bitmap *bits = b->db ? dirty_bitmap_bits(b->db) : NULL;

        if (bits)
            model_fail(t->model, NULL, 0, "bitmap %s was removed and still has bits", b->name);
    }
}

/* Other instants do not wait for the store, and it cannot make them fail. */
static bool concerns_store(struct txn *t)
{
    for (unsigned i = 0; i < t->actions->len; i++) {
        const struct action *a = &g_array_index(t->actions, struct action, i);
        const struct model_bitmap *b = a->bitmap;

        if (b && b->persistent && (b->db || find(t, a->disk, b->name) == b))
            return true;
    }
    return false;
}

/* The store fails after the flip: nothing has happened. */
static void fail_to_commit(struct txn *t)
{
    struct model *m = t->model;

    m->commit_fails = true;
    if (instant_commit(t->instant, NULL) == 0)
        model_fail(m, NULL, 0, "an instant takes effect that was not committed");
    m->commit_fails = false;
    m->not_committed++;
    model_plan(m, "not committed");
    for (unsigned i = 0; i < m->n_disks; i++)
        if (t->names[i])
            model_check_bitmaps(&m->disks[i], false);
    txn_free(t);
}

void txn_commit(struct txn *t)
{
    struct model *m = t->model;
    g_autoptr(GError) error = NULL;
    unsigned closed[8];

    for (unsigned i = 0; i < m->n_disks; i++)
        closed[i] = m->disks[i].gates_closed;
    if (instant_commit(t->instant, &error) < 0)
        model_fail(m, NULL, 0, "commit: %s", error->message);
    m->instants++;
    model_plan(m, "instant %u", m->instants);

    for (unsigned i = 0; i < m->n_disks; i++) {
        if (t->names[i] && m->disks[i].gates_closed != closed[i] + 1)
            model_fail(m, NULL, 0, "disk %u took no part in its instant", i);
        if (t->names[i])
            model_catch_up(&m->disks[i], m->disks[i].cut);
    }
    for (unsigned i = 0; i < t->actions->len; i++)
        act(t, &g_array_index(t->actions, struct action, i));
    g_ptr_array_set_free_func(t->fresh, NULL);
    g_ptr_array_set_free_func(t->frozen, NULL);
    for (unsigned i = 0; i < m->n_disks; i++)
        if (t->names[i])
            settle(t, &m->disks[i]);
    check_gone(t);
    txn_free(t);
}

/* ---- random ones ---- */

static const char *random_name(struct noise *n)
{
    static const char *const names[] = {"b0", "b1", "b2", "b3", "b4", "b5"};

    return noise_once_in(n, 60) ? "" : names[noise_below(n, MAX_BITS)];
}

/* Mostly of a bitmap that is there: one refusal ends a transaction. */
static const char *some_name(struct txn *t, struct model_disk *d)
{
    struct noise *n = &t->model->noise;
    GPtrArray *names = names_of(t, d);
    struct model_bitmap *b;

    if (names->len == 0 || noise_once_in(n, 10))
        return random_name(n);
    b = names->pdata[noise_below(n, names->len)];
    return g_str_has_prefix(b->name, "chain") ? random_name(n) : b->name;
}

static uint32_t random_granularity(struct noise *n)
{
    static const uint32_t some[] = {0, 512, 1024, 4096, 4096, 32768, 65536, 1u << 20};

    return noise_once_in(n, 60) ? 1000 : some[noise_below(n, G_N_ELEMENTS(some))];
}

static void random_view(struct txn *t, struct model_disk *d)
{
    struct noise *n = &t->model->noise;
    struct view_options options = {
        .on_error = noise_once_in(n, 6) ? CBW_BREAK_GUEST_WRITE : CBW_BREAK_SNAPSHOT,
        .scratch_limit = noise_once_in(n, 12) ? (4 + noise_below(n, 60)) << 12 : 0,
    };

    if (d->views->len + t->views[d->index] < MAX_VIEWS)
        txn_view(t, d, &options, noise_once_in(n, 8));
}

static bool random_action(struct txn *t, struct model_disk *d, struct model_disk *other)
{
    struct noise *n = &t->model->noise;
    struct model_disk *source = noise_once_in(n, 3) ? other : d;
    uint64_t x = noise_below(n, 100);

    if (x < 20)
        return txn_add(t, d, random_name(n), random_granularity(n), noise_below(n, 3) > 0);
    if (x < 28)
        return txn_remove(t, d, some_name(t, d));
    if (x < 40)
        return txn_clear(t, d, some_name(t, d));
    if (x < 56)
        return txn_record(t, d, some_name(t, d), noise_below(n, 5) > 1);
    if (x < 76)
        return txn_merge(t, d, some_name(t, d), source, some_name(t, source));
    if (x < 86)
        return txn_freeze(t, d, noise_once_in(n, 6) ? NULL : some_name(t, d));
    random_view(t, d);
    return true;
}

void model_transaction(struct model *m)
{
    struct noise *n = &m->noise;
    struct txn *t = txn_new(m);
    struct model_disk *d[3];
    bool good = true;

    for (unsigned i = 0; i < G_N_ELEMENTS(d); i++)
        d[i] = model_random_disk(m, n);
    for (uint64_t left = 1 + noise_below(n, 5); good && left > 0; left--) {
        good = random_action(t, d[noise_below(n, 3)], d[noise_below(n, 3)]);
        /* What guests write between staging and instant is where merges are difficult. */
        for (uint64_t i = noise_once_in(n, 4) ? noise_below(n, 20) : 0; i > 0; i--)
            sched_yield();
    }
    if (!good || noise_once_in(n, 12))
        txn_abort(t);
    else if (concerns_store(t) && noise_once_in(n, 8))
        fail_to_commit(t);
    else
        txn_commit(t);
}

/* ---- resize ---- */

void model_resize(struct model_disk *d)
{
    struct noise *n = &d->model->noise;
    uint64_t unit = noise_once_in(n, 2) ? d->min_block : MAX(d->min_block, FAKE_SECTOR);
    uint64_t old = d->now->size, size = old + noise_below(n, 40000 / unit + 2) * unit;
    bool good, shrink = noise_once_in(n, 6);
    struct node_io *io;
    g_autoptr(GError) error = NULL;

    /* A client is there, so it cannot shrink. */
    if (node_io_open(disk_node(d->disk), true, false, NULL, &io, NULL) < 0)
        model_fail(d->model, d, 0, "node_io_open failed");
    size = shrink ? old - d->min_block : MIN(size, d->room);
    d->refuse_resize = noise_once_in(n, 4);
    d->model->commit_fails = disk_has_store(d->disk) && noise_once_in(n, 4);
    good = !d->refuse_resize && !shrink && !d->model->commit_fails;
    if (good != (disk_resize(d->disk, size, &error) == 0))
        model_fail(d->model, d, 0, "disk %u: resize to %" PRIu64 " should have %s: %s", d->index,
                   size, good ? "been done" : "failed", error ? error->message : "done");
    model_plan(d->model, "resize disk%u from %" PRIu64 " to %" PRIu64 ": %s", d->index, old, size,
               good ? "done" : "refused");
    d->refuse_resize = d->model->commit_fails = false;
    node_io_close(io);
    if (good) {
        model_catch_up(d, d->cut);
        image_grow(d->now, size);
        for (unsigned i = 0; i < d->bitmaps->len; i++)
            model_bitmap_grow(d->bitmaps->pdata[i], size);
    }
    if (disk_size(d->disk) != d->now->size)
        model_fail(d->model, d, 0, "disk %u has %" PRIu64 " bytes, not %" PRIu64, d->index,
                   disk_size(d->disk), d->now->size);
    model_check_bitmaps(d, false);
}
