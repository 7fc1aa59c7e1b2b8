/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A batch has all that waits: first the regions whose closing is due, then those that writers ask
 * for. It is written and synced without the lock, and afterwards its regions are OPEN. While this
 * takes its time, the next batch gathers. So the number of writers does not matter: each waits for
 * two syncs at most.
 *
 * Regions are LOGGED before a batch is written, so that any snapshot has them. It does not matter
 * whether a batch that has failed is in the file or not: a region that it opens is in each later
 * snapshot, and nobody was let into it; a region that it closes has its bits synced.
 *
 * When a write or a sync fails, a new file is made at once, with a snapshot of all LOGGED regions.
 * If that fails, too, the journal has failed (journal_fail), until a later attempt with one more
 * file.
 */
#include "server/state/journal-batch.h"

#include "common/util/log.h"
#include "server/state/journal-ranges.h"

#include <errno.h>

struct opening {
    struct journal_disk *disk; /* with a reference */
    uint64_t first, last;
};

struct batch {
    GArray *entries;
    GArray *openings;
    GArray *snapshot; /* all that is LOGGED; NULL: the batch has room where it is */
    uint64_t closed;
};

static GArray *gather_logged(struct journal *j)
{
    GArray *all = ranges_new();

    g_array_append_vals(all, j->left->data, j->left->len);
    for (guint i = 0; i < j->disks->len; i++) {
        struct journal_disk *d = g_ptr_array_index(j->disks, i);

        table_append_logged(&d->table, d->o.id, all);
    }
    ranges_join(all);
    return all;
}

static void take_closings(struct journal *j, struct batch *b)
{
    for (guint i = 0; i < j->disks->len; i++) {
        struct journal_disk *d = g_ptr_array_index(j->disks, i);

        if (d->stage != DISK_SYNCED)
            continue;
        b->closed += table_take_closing(&d->table, d->o.id, b->entries);
        d->stage = DISK_STEADY;
    }
}

/* Is the range part of an opening that the batch has? */
static bool has_opening(const struct batch *b, const struct ask *a)
{
    for (guint i = 0; i < b->openings->len; i++) {
        const struct opening *o = &g_array_index(b->openings, struct opening, i);

        if (o->disk == a->disk && o->first <= a->first && a->last <= o->last)
            return true;
    }
    return false;
}

static void take_ask(struct journal *j, struct batch *b, const struct ask *a)
{
    struct opening o = {a->disk, a->first, a->last};
    uint64_t count;
    struct journal_entry e;

    storm_widen(&a->disk->storm, &o.first, &o.last);
    journal_disk_ref(o.disk);
    g_array_append_val(b->openings, o);
    count = o.last + 1 - o.first;
    if (o.last == COVER_REGIONS - 1)
        count = JOURNAL_REGIONS - o.first;
    e = (struct journal_entry){o.disk->o.id, o.first, count, true};
    g_array_append_val(b->entries, e);
    j->stats.opened += table_log(&o.disk->table, o.first, o.last);
}

static void take_asks(struct journal *j, struct batch *b)
{
    GList *link;

    while ((link = g_queue_pop_head_link(&j->asks))) {
        struct ask *a = link->data;

        a->queued = false;
        if (!table_is_open(&a->disk->table, a->first, a->last) && !has_opening(b, a))
            take_ask(j, b, a);
    }
}

static void batch_init(struct journal *j, struct batch *b)
{
    *b = (struct batch){.entries = ranges_new(),
                        .openings = g_array_new(FALSE, FALSE, sizeof(struct opening))};
    take_closings(j, b);
    take_asks(j, b);
}

static void batch_clear(struct batch *b)
{
    for (guint i = 0; i < b->openings->len; i++)
        journal_disk_unref(g_array_index(b->openings, struct opening, i).disk);
    g_array_free(b->openings, TRUE);
    g_array_free(b->entries, TRUE);
    if (b->snapshot)
        g_array_free(b->snapshot, TRUE);
}

static void count_storms(struct journal *j, const struct batch *b, int64_t now)
{
    for (guint i = 0; i < b->openings->len; i++) {
        struct journal_disk *d = g_array_index(b->openings, struct opening, i).disk;
        bool counted = false;

        for (guint k = 0; k < i && !counted; k++)
            counted = g_array_index(b->openings, struct opening, k).disk == d;
        if (!counted)
            storm_batch(&d->storm, now, j->sync_us);
    }
}

/* The batch is durable. */
static void finish(struct journal *j, const struct batch *b)
{
    for (guint i = 0; i < b->openings->len; i++) {
        const struct opening *o = &g_array_index(b->openings, struct opening, i);

        table_open(&o->disk->table, o->first, o->last);
    }
    count_storms(j, b, g_get_monotonic_time());
    j->stats.batches++;
    j->stats.closed += b->closed;
}

/* Unlocks for the I/O. */
static int write_there(struct journal *j, struct batch *b)
{
    int64_t begin = g_get_monotonic_time(), took;
    int r;

    if (!journal_file_fits(j->file, b->entries->len))
        b->snapshot = gather_logged(j);
    j->busy = true;
    pthread_mutex_unlock(&j->lock);
    if (b->snapshot)
        r = journal_file_turn(j->file, b->snapshot);
    else
        r = journal_file_append(j->file, (struct journal_entry *)(void *)b->entries->data,
                                b->entries->len);
    pthread_mutex_lock(&j->lock);
    j->busy = false;
    j->stats.syncs++;
    took = g_get_monotonic_time() - begin;
    j->sync_us = j->sync_us > 0 ? j->sync_us + (took - j->sync_us) / 4 : took;
    return r;
}

/* Make a new file, with all that is LOGGED. Unlocks for the I/O. NULL: it is done; else why not
 * (g_free). */
static char *renew(struct journal *j)
{
    GArray *all = gather_logged(j);
    struct journal_file *old = j->file, *new = NULL;
    const char *doing = "";
    int r;

    j->file = NULL;
    j->busy = true;
    pthread_mutex_unlock(&j->lock);
    journal_file_close(old);
    r = journal_file_make(j->storage, j->o.folder, all, &new, &doing);
    g_array_free(all, TRUE);
    pthread_mutex_lock(&j->lock);
    j->busy = false;
    j->file = new;
    j->stats.syncs++;
    return r < 0 ? g_strdup_printf("%s: %s", doing, g_strerror(-r)) : NULL;
}

/* Nobody is going to take them: writers see that it has failed. */
static void drop_asks(struct journal *j)
{
    GList *link;

    while ((link = g_queue_pop_head_link(&j->asks)))
        ((struct ask *)link->data)->queued = false;
}

void journal_fail(struct journal *j, char *reason)
{
    bool tell = j->state == JOURNAL_GOOD && !j->o.break_guest_write;

    drop_asks(j);
    g_free(j->reason);
    j->reason = reason;
    j->failures++;
    j->next_try = g_get_monotonic_time() + G_USEC_PER_SEC;
    j->state = tell ? JOURNAL_FAILING : JOURNAL_FAILED;
    log_error("state: %s: %s", j->storage->path, reason);
    if (tell) {
        g_autofree char *why = g_strdup(reason);

        pthread_mutex_unlock(&j->lock);
        j->o.failed(j->o.opaque, why);
        pthread_mutex_lock(&j->lock);
        j->state = JOURNAL_FAILED;
    }
    pthread_cond_broadcast(&j->done);
}

static void write_batch(struct journal *j)
{
    struct batch b;
    int r;

    batch_init(j, &b);
    r = b.entries->len > 0 ? write_there(j, &b) : 0;
    /* If a writer has lost its patience meanwhile, the journal has failed already. */
    if (r < 0 && j->state == JOURNAL_GOOD && !j->stop) {
        char *why;

        log_error("state: %s: cannot write the journal: %s; a new one is made", j->storage->path,
                  g_strerror(-r));
        why = renew(j);
        if (!why)
            r = 0;
        else if (j->state == JOURNAL_GOOD)
            journal_fail(j, why);
        else
            g_free(why);
    }
    if (r == 0 && j->state == JOURNAL_GOOD && b.entries->len > 0)
        finish(j, &b);
    batch_clear(&b);
}

/* A new file after a failure. While it is made, writers wait as they do for a batch. */
static void try_again(struct journal *j)
{
    uint64_t asked = j->revive_asked;
    struct batch b;
    char *why;

    j->state = JOURNAL_TRYING;
    batch_init(j, &b);
    why = renew(j);
    if (j->state != JOURNAL_TRYING) {
        g_free(why);
    } else if (why) {
        journal_fail(j, why);
    } else {
        j->state = JOURNAL_GOOD;
        asked = j->revive_asked; /* also who has asked meanwhile */
        log_info("state: %s: the journal is kept again", j->storage->path);
        finish(j, &b);
    }
    j->revive_done = asked;
    batch_clear(&b);
}

static bool has_work(const struct journal *j)
{
    if (j->state == JOURNAL_FAILED)
        return j->revive_asked > j->revive_done ||
               (j->o.break_guest_write && !g_queue_is_empty((GQueue *)&j->asks));
    if (j->state != JOURNAL_GOOD)
        return false;
    for (guint i = 0; i < j->disks->len; i++)
        if (((struct journal_disk *)g_ptr_array_index(j->disks, i))->stage == DISK_SYNCED)
            return true;
    return !g_queue_is_empty((GQueue *)&j->asks);
}

void *journal_write_thread(void *journal)
{
    struct journal *j = journal;

    pthread_mutex_lock(&j->lock);
    while (!j->stop) {
        if (!has_work(j))
            pthread_cond_wait(&j->work, &j->lock);
        else if (j->state == JOURNAL_FAILED)
            try_again(j);
        else
            write_batch(j);
        pthread_cond_broadcast(&j->done);
    }
    j->writer_runs = false;
    pthread_cond_broadcast(&j->done);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}
