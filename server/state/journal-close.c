/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A round looks at the regions of all disks, and turns the phase of each disk that has some to
 * close. It waits a little for the writers of the phase before, and syncs the bits of those disks
 * whose writers have left. The writing thread does the rest.
 *
 * A disk with a writer that hangs keeps its regions CLOSING, and later rounds go on with it. It
 * holds up the others for that little while only. A writer that needs such a region gets it back
 * without I/O.
 */
#include "server/state/journal-close.h"

#include "common/base/deadline.h"

#define POLL_US 2000

static void wait_until(struct journal *j, int64_t deadline)
{
    struct timespec t = deadline_timespec(deadline);

    pthread_cond_timedwait(&j->look, &j->lock, &t);
}

/* The disks as they are now, with references. */
static GPtrArray *all_disks(struct journal *j)
{
    GPtrArray *disks = g_ptr_array_sized_new(j->disks->len);

    for (guint i = 0; i < j->disks->len; i++)
        g_ptr_array_add(disks, journal_disk_ref(g_ptr_array_index(j->disks, i)));
    return disks;
}

static void release_disks(GPtrArray *disks)
{
    for (guint i = 0; i < disks->len; i++)
        journal_disk_unref(g_ptr_array_index(disks, i));
    g_ptr_array_free(disks, TRUE);
}

/* The phase may be turned: in DISK_STEADY all writers of the other phase have left. A writer that
 * counts itself there now reads the phase again, and takes itself off. */
static void look_at(struct journal_disk *d, bool all)
{
    struct journal *j = d->journal;

    if (d->removed || d->stage != DISK_STEADY)
        return;
    if (!all)
        storm_look(&d->storm, g_get_monotonic_time(), j->sync_us);
    if (table_look(&d->table, all, !j->busy) == 0)
        return;
    atomic_fetch_add(&d->o.cover->phase, 1);
    d->stage = DISK_TURNED;
}

/* Begin and end a call of a function of the disk's owner; the lock is not held between. */
static bool begin_call(struct journal_disk *d)
{
    if (d->removed || d->journal->stop)
        return false;
    d->called = true;
    pthread_mutex_unlock(&d->journal->lock);
    return true;
}

static void end_call(struct journal_disk *d)
{
    pthread_mutex_lock(&d->journal->lock);
    d->called = false;
    pthread_cond_broadcast(&d->journal->done);
}

static bool writers_have_left(struct journal_disk *d)
{
    unsigned before = (atomic_load(&d->o.cover->phase) - 1) & 1;
    bool left;

    if (!begin_call(d))
        return false;
    left = d->o.phase_left(d->o.opaque, before);
    end_call(d);
    return left;
}

static void sync_bits(struct journal_disk *d)
{
    int r;

    if (!begin_call(d))
        return;
    r = d->o.sync_bits(d->o.opaque);
    end_call(d);
    if (r < 0) {
        table_reopen(&d->table);
        d->stage = DISK_STEADY;
    } else {
        d->stage = DISK_SYNCED;
        pthread_cond_signal(&d->journal->work);
    }
}

/* Sync the bits of disks whose writers have left. Returns how many disks still have some. */
static unsigned go_on(GPtrArray *disks)
{
    unsigned waiting = 0;

    for (guint i = 0; i < disks->len; i++) {
        struct journal_disk *d = g_ptr_array_index(disks, i);

        if (d->removed || d->stage != DISK_TURNED)
            continue;
        if (writers_have_left(d))
            sync_bits(d);
        else
            waiting++;
    }
    return waiting;
}

static void do_round(struct journal *j, bool all)
{
    int64_t limit =
        deadline_in((all ? j->o.patience_ms : MIN(j->o.idle_ms / 4, 1000u)) * INT64_C(1000));
    GPtrArray *disks = all_disks(j);

    for (guint i = 0; i < disks->len; i++)
        look_at(g_ptr_array_index(disks, i), all);
    while (go_on(disks) > 0 && !j->stop && g_get_monotonic_time() < limit)
        wait_until(j, deadline_in(POLL_US));
    release_disks(disks);
}

static bool is_in_stage(const struct journal *j, enum disk_stage stage)
{
    for (guint i = 0; i < j->disks->len; i++)
        if (((struct journal_disk *)g_ptr_array_index(j->disks, i))->stage == stage)
            return true;
    return false;
}

static void wait_for_batch(struct journal *j)
{
    struct timespec limit = deadline_timespec(deadline_in(j->o.patience_ms * INT64_C(1000)));

    while (is_in_stage(j, DISK_SYNCED) || j->busy)
        if (j->stop || j->state != JOURNAL_GOOD ||
            pthread_cond_timedwait(&j->done, &j->lock, &limit) != 0)
            return;
}

static void close_all(struct journal *j)
{
    uint64_t asked = j->close_asked;
    /* A disk with a round of its own under way has not been looked at. */
    unsigned rounds = 1 + (is_in_stage(j, DISK_TURNED) || is_in_stage(j, DISK_SYNCED));

    wait_for_batch(j);
    while (rounds-- > 0 && j->state == JOURNAL_GOOD) {
        do_round(j, true);
        wait_for_batch(j);
    }
    j->close_done = asked;
    pthread_cond_broadcast(&j->done);
}

void *journal_close_thread(void *journal)
{
    struct journal *j = journal;
    int64_t next;

    pthread_mutex_lock(&j->lock);
    next = deadline_in(j->o.idle_ms * INT64_C(500));
    while (!j->stop) {
        if (j->close_asked > j->close_done) {
            close_all(j);
        } else if (g_get_monotonic_time() < next) {
            wait_until(j, next);
        } else {
            if (j->state == JOURNAL_GOOD)
                do_round(j, false);
            next = deadline_in(j->o.idle_ms * INT64_C(500));
        }
    }
    j->closer_runs = false;
    pthread_cond_broadcast(&j->done);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}
