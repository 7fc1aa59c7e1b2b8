/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Why no dirty bit is lost. A writer is let into a region, and may then change it at any time until
 * it leaves. The claim: from the moment at which it is let in until its bits are durable, the
 * region is open in what the file says durably.
 *
 * Opening. A writer counts itself in (cover_count_in), and then looks at the region's byte. OPEN is
 * set only after a batch that opens the region was synced. So a writer that goes on has a region
 * that is open durably at that time.
 *
 * Closing goes in five steps (journal-close.c, journal-batch.c):
 *
 *   1. OPEN is taken away, CLOSING is set
 *   2. the phase is turned
 *   3. nobody is counted under the phase before any more
 *   4. the bit files are synced
 *   5. what is still CLOSING is closed in a batch
 *
 * A writer that saw OPEN did so before step 1, and had been counted before it looked. It is counted
 * under the phase before step 2: cover_count_in reads the phase again after it has counted, so it
 * stays with the phase that is the present one at that moment, or tries again. All these are
 * sequentially consistent, so that step 3 sees it, or sees that it has left. It has set its bits
 * by then, and step 4 makes them durable. A writer that counts itself under the phase before
 * without staying there makes step 3 wait in vain, which does no harm.
 *
 * The phase is turned only when nobody is left under the phase before the present one. So there are
 * never more than two phases with writers, and two counters are enough. A writer that hangs while
 * it is counted keeps step 3 from ever being done; its region stays open in the file.
 *
 * A writer that does not see OPEN comes here. If the region is CLOSING, the file still says that it
 * is open: the writer takes CLOSING away and sets OPEN, with the lock. Step 5 takes only what is
 * CLOSING, with the same lock. So if it takes a region, nobody has been let into it since step 1;
 * and whoever comes later has it opened by a later batch, which comes behind in the file.
 *
 * Halves and files. A snapshot has all LOGGED regions, and a region is LOGGED from before its
 * opening is written until its closing is. A file that has failed is not written to any more; its
 * successor's name is durable before anybody relies on it, and either of them has all that is open.
 *
 * When the journal has failed, and writers must not fail, they go on without it: regions are opened
 * in memory alone, and the store has been told before that the bitmaps are inconsistent. They are
 * LOGGED, too; so the snapshot of a later file has all that anybody was let into.
 */
#include "server/state/journal.h"

#include "common/base/deadline.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/journal-batch.h"
#include "server/state/journal-close.h"
#include "server/state/journal-ranges.h"

#include <errno.h>

/* ---- writers ---- */

static int64_t patience_end(const struct journal *j)
{
    return deadline_in(j->o.patience_ms * INT64_C(1000));
}

/* Wait for something to happen. False: it is time to give up. */
static bool wait_for_news(struct journal *j, int64_t deadline)
{
    struct timespec t = deadline_timespec(deadline);

    return pthread_cond_timedwait(&j->done, &j->lock, &t) != ETIMEDOUT;
}

static void queue_ask(struct journal *j, struct ask *a)
{
    if (a->queued)
        return;
    a->queued = true;
    a->link = (GList){.data = a};
    g_queue_push_tail_link(&j->asks, &a->link);
    pthread_cond_signal(&j->work);
}

/* The regions are opened in memory alone. */
static void open_without_journal(struct journal *j, const struct ask *a)
{
    j->stats.opened += table_log(&a->disk->table, a->first, a->last);
    table_open(&a->disk->table, a->first, a->last);
}

/* May a writer have a new file tried, and wait for it? */
static bool may_try(struct journal *j)
{
    int64_t now = g_get_monotonic_time();

    if (now < j->next_try)
        return false;
    j->next_try = now + G_USEC_PER_SEC;
    return true;
}

/* The folder does not answer. 0: the writer goes on without the journal; else its write fails. */
static int lose_patience(struct journal *j)
{
    char *reason = g_strdup_printf("the state folder has not answered for %u ms", j->o.patience_ms);

    if (!j->o.break_guest_write) {
        journal_fail(j, reason);
        return 0;
    }
    if (may_try(j)) /* one line a second is enough */
        log_error("state: %s: %s; a write fails", j->storage->path, reason);
    g_free(reason);
    return -EIO;
}

/* One look at how things are, and a wait. 1: look again. */
static int step(struct journal *j, struct ask *a, uint64_t failures, bool *asked, int64_t deadline)
{
    if (table_is_open(&a->disk->table, a->first, a->last))
        return 0;
    if (j->state == JOURNAL_FAILING) {
        pthread_cond_wait(&j->done, &j->lock);
        return 1;
    }
    if (j->o.break_guest_write) {
        if (*asked && j->failures != failures)
            return -EIO;
        if (j->state == JOURNAL_FAILED && !*asked && !may_try(j))
            return -EIO;
    } else if (j->state == JOURNAL_FAILED) {
        open_without_journal(j, a);
        return 0;
    }
    queue_ask(j, a);
    *asked = true;
    if (wait_for_news(j, deadline) || table_is_open(&a->disk->table, a->first, a->last))
        return 1;
    if (j->state == JOURNAL_FAILING || (j->state == JOURNAL_FAILED && !j->o.break_guest_write))
        return 1;
    return lose_patience(j) < 0 ? -EIO : 1;
}

static int open_regions(struct cover *c, uint64_t first, uint64_t last)
{
    struct journal_disk *d = c->opaque;
    struct journal *j = d->journal;
    struct ask a = {.disk = d, .first = first, .last = last};
    int64_t deadline = patience_end(j);
    bool asked = false;
    uint64_t failures;
    int r;

    pthread_mutex_lock(&j->lock);
    failures = j->failures;
    j->stats.waiting++;
    do
        r = step(j, &a, failures, &asked, deadline);
    while (r > 0);
    j->stats.waiting--;
    if (a.queued)
        g_queue_unlink(&j->asks, &a.link);
    pthread_mutex_unlock(&j->lock);
    return r;
}

/* ---- disks ---- */

/* Regions that a disk with this id has left open are that disk's. They are closed when its bits
 * have been synced. */
static void take_left(struct journal_disk *d)
{
    GArray *left = d->journal->left;

    for (guint i = left->len; i-- > 0;) {
        const struct journal_entry *e = &g_array_index(left, struct journal_entry, i);

        if (e->disk != d->o.id)
            continue;
        if (e->first < COVER_REGIONS)
            table_log(&d->table, e->first, MIN(e->first + e->count, COVER_REGIONS) - 1);
        g_array_remove_index(left, i);
    }
}

struct journal_disk *journal_add_disk(struct journal *j, const struct journal_disk_options *o,
                                      GError **err)
{
    struct journal_disk *d = g_new0(struct journal_disk, 1);

    *d = (struct journal_disk){.journal = j, .o = *o, .refs = 1};
    if (table_init(&d->table) < 0) {
        fail_errno(err, errno, "state: %s: no address space for a disk's regions",
                   j->storage->path);
        g_free(d);
        return NULL;
    }
    pthread_mutex_lock(&j->lock);
    take_left(d);
    g_ptr_array_add(j->disks, d);
    pthread_mutex_unlock(&j->lock);
    o->cover->open = open_regions;
    o->cover->opaque = d;
    o->cover->regions = d->table.bytes;
    return d;
}

int journal_remove_disk(struct journal_disk *d)
{
    struct journal *j = d->journal;
    int64_t deadline = patience_end(j);
    bool called;

    d->o.cover->regions = NULL;
    pthread_mutex_lock(&j->lock);
    d->removed = true;
    while (d->called && wait_for_news(j, deadline))
        ;
    called = d->called;
    table_append_logged(&d->table, d->o.id, j->left);
    g_ptr_array_remove(j->disks, d);
    journal_disk_unref(d);
    pthread_mutex_unlock(&j->lock);
    return called ? -1 : 0;
}

/* ---- the journal ---- */

static void init_locks(struct journal *j)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&j->work, &attr);
    pthread_cond_init(&j->look, &attr);
    pthread_cond_init(&j->done, &attr);
    pthread_condattr_destroy(&attr);
}

static int start(pthread_t *thread, bool *runs, void *(*main)(void *), struct journal *j,
                 GError **err)
{
    int r = pthread_create(thread, NULL, main, j);

    *runs = r == 0;
    return r == 0 ? 0 : fail_errno(err, r, "state: %s: cannot start a thread", j->storage->path);
}

/* Begin with a file that says that nothing is open. */
static int make_first_file(struct journal *j, GError **err)
{
    GArray *none = ranges_new();
    const char *doing = "";
    int r = journal_file_make(j->storage, j->o.folder, none, &j->file, &doing);

    g_array_free(none, TRUE);
    return r < 0 ? storage_fail(j->storage, JOURNAL_NEW_NAME, doing, r, err) : 0;
}

static void release(struct journal *j)
{
    journal_file_close(j->file);
    g_ptr_array_free(j->disks, TRUE);
    g_array_free(j->left, TRUE);
    g_free(j->reason);
    pthread_cond_destroy(&j->work);
    pthread_cond_destroy(&j->look);
    pthread_cond_destroy(&j->done);
    pthread_mutex_destroy(&j->lock);
    g_free(j);
}

struct journal *journal_new(struct storage *s, const struct journal_options *o, GError **err)
{
    struct journal *j = g_new0(struct journal, 1);

    *j = (struct journal){.storage = s, .o = *o, .asks = G_QUEUE_INIT};
    init_locks(j);
    j->disks = g_ptr_array_new();
    j->left = ranges_new();
    if (make_first_file(j, err) < 0) {
        release(j);
        return NULL;
    }
    j->stats.syncs = 1;
    if (start(&j->writer, &j->writer_runs, journal_write_thread, j, err) < 0 ||
        start(&j->closer, &j->closer_runs, journal_close_thread, j, err) < 0) {
        journal_free(j);
        return NULL;
    }
    return j;
}

int journal_free(struct journal *j)
{
    int64_t deadline = patience_end(j);
    bool writer, closer, hangs;

    pthread_mutex_lock(&j->lock);
    writer = j->writer_runs;
    closer = j->closer_runs;
    j->stop = true;
    pthread_cond_broadcast(&j->work);
    pthread_cond_broadcast(&j->look);
    pthread_cond_broadcast(&j->done);
    while ((j->writer_runs || j->closer_runs) && wait_for_news(j, deadline))
        ;
    hangs = j->writer_runs || j->closer_runs;
    pthread_mutex_unlock(&j->lock);
    if (hangs) {
        log_error("state: %s: the journal hangs, and is left alone", j->storage->path);
        pthread_detach(j->writer);
        pthread_detach(j->closer);
        return -1;
    }
    if (writer)
        pthread_join(j->writer, NULL);
    if (closer)
        pthread_join(j->closer, NULL);
    release(j);
    return 0;
}

/* Wait until *done has reached `wanted`. Locked. False: it takes too long. */
static bool wait_for(struct journal *j, const uint64_t *done, uint64_t wanted, int64_t deadline)
{
    while (*done < wanted)
        if (!wait_for_news(j, deadline))
            return *done >= wanted;
    return true;
}

static uint64_t count_open(const struct journal *j)
{
    uint64_t n = 0;

    for (guint i = 0; i < j->left->len; i++)
        n += g_array_index(j->left, struct journal_entry, i).count;
    for (guint i = 0; i < j->disks->len; i++)
        n += ((struct journal_disk *)g_ptr_array_index(j->disks, i))->table.count;
    return n;
}

int journal_close_all(struct journal *j, GError **err)
{
    /* Two rounds, and one that is under way; each waits for writers and for a batch. */
    int64_t deadline = deadline_in(j->o.patience_ms * INT64_C(6000));
    const char *path = j->storage->path;
    uint64_t open;
    int r = 0;

    pthread_mutex_lock(&j->lock);
    j->close_asked++;
    pthread_cond_signal(&j->look);
    if (!wait_for(j, &j->close_done, j->close_asked, deadline))
        r = fail(err, "state: %s: the state folder does not answer", path);
    else if (j->state != JOURNAL_GOOD)
        r = fail(err, "state: %s: the journal has failed: %s", path, j->reason ? j->reason : "");
    else if ((open = count_open(j)) > 0)
        r = fail(err, "state: %s: %" G_GUINT64_FORMAT " regions stay open", path, open);
    pthread_mutex_unlock(&j->lock);
    return r;
}

int journal_revive(struct journal *j, GError **err)
{
    int64_t deadline = patience_end(j);
    const char *path = j->storage->path;
    int r = 0;

    pthread_mutex_lock(&j->lock);
    while (j->state == JOURNAL_FAILING)
        pthread_cond_wait(&j->done, &j->lock);
    if (j->state != JOURNAL_GOOD) {
        j->revive_asked++;
        pthread_cond_signal(&j->work);
        if (!wait_for(j, &j->revive_done, j->revive_asked, deadline))
            r = fail(err, "state: %s: the journal's folder does not answer", path);
        else if (j->state != JOURNAL_GOOD)
            r = fail(err, "state: %s: the journal has failed: %s", path,
                     j->reason ? j->reason : "");
    }
    pthread_mutex_unlock(&j->lock);
    return r;
}

void journal_stats(struct journal *j, struct journal_stats *stats)
{
    pthread_mutex_lock(&j->lock);
    *stats = j->stats;
    stats->open = count_open(j);
    pthread_mutex_unlock(&j->lock);
}
