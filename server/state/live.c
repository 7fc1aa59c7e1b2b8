/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/live.h"

#include "common/base/deadline.h"
#include "common/state/folder.h"
#include "common/util/error.h"
#include "server/state/failure.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define LENGTH     (LIVE_LINES * sizeof(struct live_line))
#define STAMP_USEC 200000

struct live {
    struct storage *storage;
    struct storage_file *file;
    struct live_line *lines; /* all of the mapping */
    struct mapping *guard;
    atomic_uint high; /* lines from here on were never taken */
    pthread_t stamper;
    bool stamping;
    pthread_mutex_t lock; /* of stop */
    pthread_cond_t stopped;
    bool stop;
};

static struct live_head *head_of(struct live *l)
{
    return (struct live_head *)l->lines;
}

static struct live_lease *lease_of(struct live *l)
{
    return (struct live_lease *)(l->lines + 1);
}

/* ---- lines ---- */

struct live_line *live_take(struct live *l, int64_t disk)
{
    for (unsigned i = LIVE_FIRST; i < LIVE_LINES; i++) {
        unsigned high = atomic_load(&l->high);
        int64_t none = 0;

        while (high <= i && !atomic_compare_exchange_weak(&l->high, &high, i + 1))
            continue;
        if (atomic_compare_exchange_strong(&l->lines[i].disk, &none, disk))
            return &l->lines[i];
    }
    return NULL;
}

static void raise_to(_Atomic int64_t *time, int64_t to)
{
    int64_t now = atomic_load(time);

    while (now < to && !atomic_compare_exchange_weak(time, &now, to))
        continue;
}

void live_give(struct live *l, struct live_line *line, struct live_line *to)
{
    (void)l;
    if (to)
        raise_to(&to->changed, atomic_load(&line->changed));
    atomic_store(&line->changed, 0);
    atomic_store(&line->disk, 0);
}

bool live_phase_left(struct live *l, int64_t disk, unsigned phase)
{
    unsigned high = atomic_load(&l->high);

    for (unsigned i = LIVE_FIRST; i < high; i++)
        if (atomic_load(&l->lines[i].disk) == disk && atomic_load(&l->lines[i].inside[phase & 1]))
            return false;
    /* Memory that has replaced the file has lost the counts. */
    return !mapping_is_lost(l->guard);
}

struct live_last live_now(struct live *l, int64_t disk)
{
    struct live_last last = {.alive = atomic_load(&head_of(l)->alive)};
    unsigned high = atomic_load(&l->high);

    for (unsigned i = LIVE_FIRST; i < high; i++) {
        struct live_line *line = &l->lines[i];

        if (atomic_load(&line->disk) != disk)
            continue;
        last.changed = MAX(last.changed, atomic_load(&line->changed));
        if (atomic_load(&line->inside[0]) || atomic_load(&line->inside[1]))
            last.under_way = true;
    }
    return last;
}

/* ---- the thread that stamps ---- */

static int64_t wall_clock(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static bool something_under_way(struct live *l)
{
    unsigned high = atomic_load(&l->high);

    for (unsigned i = LIVE_FIRST; i < high; i++)
        if (atomic_load(&l->lines[i].inside[0]) || atomic_load(&l->lines[i].inside[1]))
            return true;
    return false;
}

static void lower_to(_Atomic int64_t *time, int64_t to)
{
    int64_t now = atomic_load(time);

    while (now > to && !atomic_compare_exchange_weak(time, &now, to))
        continue;
}

/* The clock was set back. A time that is still to come would hide what somebody else writes until
 * then. */
static void forget_future(struct live *l, int64_t now)
{
    unsigned high = atomic_load(&l->high);

    lower_to(&head_of(l)->alive, now);
    for (unsigned i = LIVE_FIRST; i < high; i++)
        lower_to(&l->lines[i].changed, now);
}

static void *stamp(void *opaque)
{
    struct live *l = opaque;
    int64_t before = 0;

    pthread_mutex_lock(&l->lock);
    while (!l->stop) {
        int64_t now = wall_clock();
        struct timespec until;

        if (now < before)
            forget_future(l, now);
        before = now;
        if (something_under_way(l))
            atomic_store(&head_of(l)->alive, now);
        until = deadline_timespec(deadline_in(STAMP_USEC));
        pthread_cond_timedwait(&l->stopped, &l->lock, &until);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

static int start_stamper(struct live *l, GError **err)
{
    int error = pthread_create(&l->stamper, NULL, stamp, l);

    if (error)
        return fail_errno(err, error, "state: cannot start a thread");
    l->stamping = true;
    return 0;
}

static void stop_stamper(struct live *l)
{
    if (!l->stamping)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->stopped);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->stamper, NULL);
}

/* ---- the file ---- */

static int make_file(struct live *l, GError **err)
{
    struct storage *s = l->storage;
    int error = s->ops->unlink(s, STATE_LIVE);

    if (error < 0 && error != -ENOENT)
        return storage_fail(s, STATE_LIVE, "removing the old one", error, err);
    error = s->ops->open(s, STATE_LIVE, true, &l->file);
    if (error < 0) {
        l->file = NULL;
        return storage_fail(s, STATE_LIVE, "making it", error, err);
    }
    error = s->ops->reserve(l->file, LENGTH);
    return error < 0 ? storage_fail(s, STATE_LIVE, "reserving room for it", error, err) : 0;
}

/* An address range of our own, which stays when the storage is gone. */
static int map_file(struct live *l, void (*lost)(void *opaque), void *opaque, GError **err)
{
    struct storage *s = l->storage;
    void *at = mmap(NULL, LENGTH, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    int error;

    if (at == MAP_FAILED)
        return fail_errno(err, errno, "state: address space for %s", STATE_LIVE);
    l->lines = at;
    error = s->ops->map(l->file, 0, LENGTH, at, &at);
    if (error < 0)
        return storage_fail(s, STATE_LIVE, "mapping it", error, err);
    l->guard = mapping_guard(l->lines, LENGTH, lost, opaque, err);
    return l->guard ? 0 : -1;
}

int live_extend_lease(struct live *l, int64_t until, GError **err)
{
    int error;

    if (mapping_is_lost(l->guard))
        return fail(err, "state: %s/%s: somebody has cut the file short", l->storage->path,
                    STATE_LIVE);
    *lease_of(l) = (struct live_lease){.until = until, .check = ~until};
    error = l->storage->ops->sync(l->file);
    return error < 0 ? storage_fail(l->storage, STATE_LIVE, "syncing it", error, err) : 0;
}

static int fill_file(struct live *l, const char *boot_id, int64_t lease, GError **err)
{
    struct storage *s = l->storage;
    int error;

    g_strlcpy(head_of(l)->boot_id, boot_id, sizeof head_of(l)->boot_id);
    head_of(l)->magic = LIVE_MAGIC;
    if (live_extend_lease(l, lease, err) < 0)
        return -1;
    error = s->ops->sync_names(s, "");
    return error < 0 ? storage_fail(s, "", "syncing the names in it", error, err) : 0;
}

struct live *live_new(struct storage *s, const char *boot_id, int64_t lease,
                      void (*lost)(void *opaque), void *opaque, GError **err)
{
    struct live *l = g_new0(struct live, 1);
    pthread_condattr_t attributes;

    l->storage = s;
    atomic_init(&l->high, LIVE_FIRST);
    pthread_mutex_init(&l->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&l->stopped, &attributes);
    pthread_condattr_destroy(&attributes);
    if (make_file(l, err) < 0 || map_file(l, lost, opaque, err) < 0 ||
        fill_file(l, boot_id, lease, err) < 0 || start_stamper(l, err) < 0)
        g_clear_pointer(&l, live_free);
    return l;
}

void live_free(struct live *l)
{
    stop_stamper(l);
    mapping_unguard(l->guard);
    if (l->lines)
        munmap(l->lines, LENGTH);
    if (l->file)
        l->storage->ops->close(l->file);
    pthread_cond_destroy(&l->stopped);
    pthread_mutex_destroy(&l->lock);
    g_free(l);
}
