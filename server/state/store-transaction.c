/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the rows will be is said at the commit, under the catalogue's lock (store-steps.h): a bitmap may
 * have broken since the instant was prepared.
 *
 * Before the catalogue says that a bitmap does not record, its file is synced here: the journal's
 * regions count for recording bitmaps only.
 */
#include "server/state/store-transaction.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/store-break.h"
#include "server/state/store-catalogue.h"
#include "server/state/store-records.h"
#include "server/state/store-rows.h"
#include "server/state/store-steps.h"
#include "server/state/stored-bits.h"
#include "server/state/sync-together.h"

struct state_transaction {
    struct store *store;
    GArray *changes;   /* struct change */
    GPtrArray *steps;  /* struct step */
    GPtrArray *unused; /* pairs: a disk and the uuid of a file that no row names any more */
    struct record_changes *records;
};

struct unused {
    struct state_disk *disk;
    char uuid[STATE_UUID_SIZE];
};

/* ---- preparing ---- */

static struct state_transaction *new_transaction(struct store *s)
{
    struct state_transaction *t = g_new0(struct state_transaction, 1);

    t->store = s;
    t->steps = steps_new();
    t->unused = g_ptr_array_new_with_free_func(g_free);
    t->records = record_changes_new();
    return t;
}

static void free_transaction(struct state_transaction *t)
{
    g_ptr_array_unref(t->steps);
    g_ptr_array_unref(t->unused);
    record_changes_free(t->records);
    g_array_unref(t->changes);
    g_free(t);
}

/* Files of new bitmaps. A failure is the command's: nothing relies on them yet. */
static int sync_new(struct state_transaction *t, bool *any, bool *any_good, GError **err)
{
    g_autoptr(GPtrArray) files = g_ptr_array_new(); /* struct stored_bits, the changes' */

    for (unsigned i = 0; i < t->changes->len; i++) {
        const struct change *c = &g_array_index(t->changes, struct change, i);

        if (!c->c.bits || !c->c.persistent || change_has_no_use(c) ||
            (c->sb && !change_is_new(c->sb)))
            continue;
        if (change_check_new(c, err) < 0)
            return -1;
        g_ptr_array_add(files, c->sb);
        *any = true;
        *any_good = *any_good || !c->c.inconsistent;
    }
    return sync_together(files, err);
}

static int make_durable(struct state_transaction *t, GError **err)
{
    struct storage *storage = t->store->storage;
    bool any = false, any_good = false;
    int error;

    if (sync_new(t, &any, &any_good, err) < 0)
        return -1;
    error = any ? storage->ops->sync_names(storage, "bits") : 0;
    if (error < 0)
        return storage_fail(storage, "bits", "syncing the names in it", error, err);
    return any_good ? store_revive_journal(t->store, err) : 0;
}

int store_prepare(void *store, const struct state_change *changes, unsigned n,
                  struct state_transaction **t, GError **err)
{
    *t = new_transaction(store);
    (*t)->changes = changes_new(changes, n);
    if (make_durable(*t, err) == 0)
        return 0;
    free_transaction(*t);
    *t = NULL;
    return -1;
}

void store_record_change(struct state_transaction *t, const struct state_record *record)
{
    record_changes_add(t->records, record);
}

/* ---- files of bitmaps that do not record any more ---- */

static bool stops_recording(const struct step *step)
{
    return step->new && step->sb && !step->new->recording && !step->new->inconsistent &&
           (!step->old || step->old->recording || !g_str_equal(step->old->uuid, step->new->uuid));
}

static int sync_stopped(struct state_transaction *t, GError **err)
{
    for (unsigned i = 0; i < t->steps->len; i++) {
        struct step *step = t->steps->pdata[i];
        g_autoptr(GError) error = NULL;

        if (stops_recording(step) && stored_bits_sync(step->sb, &error) < 0)
            return fail(err, "bitmap '%s' of disk %s: its bits could not be written: %s",
                        step->new->name, step->disk->row.name, error->message);
    }
    return 0;
}

/* ---- the catalogue's transaction ---- */

/* Removals first: a name may be used anew. */
static int put_steps(struct state_transaction *t, GError **err)
{
    struct catalogue *c = t->store->catalogue;

    for (unsigned i = 0; i < t->steps->len; i++) {
        struct step *step = t->steps->pdata[i];

        if (!step->new &&catalogue_remove_bitmap(c, step->old->id, err) < 0)
            return -1;
    }
    for (unsigned i = 0; i < t->steps->len; i++) {
        struct step *step = t->steps->pdata[i];

        if (step->new &&catalogue_put_bitmap(c, step->new, err) < 0)
            return -1;
    }
    return 0;
}

static int put_sizes(struct state_transaction *t, GError **err)
{
    for (unsigned i = 0; i < t->changes->len; i++) {
        const struct change *c = &g_array_index(t->changes, struct change, i);
        struct catalogue_disk row = c->c.disk->row; /* borrows its strings */

        if (!change_has_size(c))
            continue;
        row.size = c->c.size;
        row.resize_to = 0;
        if (catalogue_put_disk(t->store->catalogue, &row, err) < 0)
            return -1;
    }
    return 0;
}

static bool has_work(struct state_transaction *t)
{
    for (unsigned i = 0; i < t->changes->len; i++)
        if (change_has_size(&g_array_index(t->changes, struct change, i)))
            return true;
    return t->steps->len != 0;
}

static int write_catalogue(struct state_transaction *t, bool *unsure, GError **err)
{
    struct store *s = t->store;

    if (store_catalogue_begin(s, err) < 0)
        return -1;
    /* Broken ones first: a row that is cleared, say, is no longer about the bits that broke. */
    if (store_put_broken(s, err) == 0 && put_steps(t, err) == 0 && put_sizes(t, err) == 0 &&
        record_changes_put(t->records, s, err) == 0)
        return store_catalogue_commit(s, unsure, err);
    catalogue_rollback(s->catalogue);
    return -1;
}

/* If the server dies before the catalogue is as memory says, none of it is to be trusted: it may name
 * bits that were given up. (A disk that is left, resized or gets new files is right either way.) */
static void note_unsure(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->failing = true;
    memory_note_failed(s->memory);
    pthread_mutex_unlock(&s->lock);
}

/* It may have happened or not: neither the old bits nor the new ones can be trusted after a
 * restart. Where no old bits break, the catalogue has to be made equal to memory all the same. */
static void break_unsure(struct state_transaction *t, const char *why)
{
    g_autofree char *reason = g_strdup_printf("the catalogue failed in the middle of a change of "
                                              "it: %s",
                                              why);

    note_unsure(t->store);
    for (unsigned i = 0; i < t->steps->len; i++) {
        struct step *step = t->steps->pdata[i];
        struct stored_bits *old = step->old ? stored_bits_named(step->disk, step->old->uuid) : NULL;

        if (old)
            store_break(step->disk, old, reason);
        stored_bits_unref(old);
    }
    store_post(t->store, store_settle, t->store);
}

/* ---- afterwards: the rows in memory ---- */

static void add_unused(struct state_transaction *t, struct state_disk *d, const char *uuid)
{
    struct unused *u = g_new0(struct unused, 1);

    u->disk = d;
    g_strlcpy(u->uuid, uuid, sizeof u->uuid);
    g_ptr_array_add(t->unused, u);
}

/* If the bits broke while the row was being written, it does not say so. */
static void set_catalogued(struct stored_bits *sb, bool inconsistent)
{
    pthread_mutex_lock(&sb->disk->store->lock);
    sb->catalogued = true;
    sb->noting = inconsistent && sb->broken;
    sb->noted = sb->noted && inconsistent;
    pthread_mutex_unlock(&sb->disk->store->lock);
}

static void take_step(struct state_transaction *t, struct step *step)
{
    if (step->old && (!step->new || !g_str_equal(step->old->uuid, step->new->uuid)))
        add_unused(t, step->disk, step->old->uuid);
    if (step->sb && step->new)
        set_catalogued(step->sb, step->new->inconsistent);
    if (!step->disk->attached)
        log_info("disk %s: bitmap '%s' is inconsistent: %s", step->disk->row.name, step->new->name,
                 step->new->inconsistent);
    if (!step->new) {
        g_ptr_array_remove(step->disk->bitmaps, step->old);
    } else if (step->old) {
        row_replace(step->old, *step->new);
        g_clear_pointer(&step->new, g_free);
    } else {
        g_ptr_array_add(step->disk->bitmaps, g_steal_pointer(&step->new));
    }
}

static void take_rows(struct state_transaction *t)
{
    for (unsigned i = 0; i < t->changes->len; i++) {
        const struct change *c = &g_array_index(t->changes, struct change, i);

        if (change_has_size(c)) {
            c->c.disk->row.size = c->c.size;
            c->c.disk->row.resize_to = 0;
        }
    }
    for (unsigned i = 0; i < t->steps->len; i++)
        take_step(t, t->steps->pdata[i]);
    record_changes_take(t->records, t->store);
    store_settled(t->store);
}

static int commit_locked(struct state_transaction *t, GError **err)
{
    g_autoptr(GError) error = NULL;
    bool records, unsure = false;

    if (steps_plan(t->steps, t->changes, err) < 0 || sync_stopped(t, err) < 0)
        return -1;
    records = record_changes_plan(t->records, t->store);
    if (!records && !has_work(t))
        return 0;
    if (write_catalogue(t, &unsure, &error) < 0) {
        if (unsure)
            break_unsure(t, error->message);
        g_propagate_error(err, g_steal_pointer(&error));
        return -1;
    }
    take_rows(t);
    return 0;
}

int store_commit(void *store, struct state_transaction *t, GError **err)
{
    struct store *s = store;
    int result;

    if (record_changes_ask(t->records, err) < 0)
        return -1;
    pthread_mutex_lock(&s->catalogue_lock);
    result = commit_locked(t, err);
    pthread_mutex_unlock(&s->catalogue_lock);
    return result;
}

void store_end(void *store, struct state_transaction *t, bool committed)
{
    struct store *s = store;

    /* A file may have got stuck before its row was there. */
    if (committed && atomic_load(&s->any_stuck))
        store_post(s, s->renew, s);
    for (unsigned i = 0; committed && i < t->unused->len; i++) {
        struct unused *u = t->unused->pdata[i];

        stored_bits_drop(u->disk, u->uuid);
    }
    free_transaction(t);
}
