/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/live.h"

#include "common/base/deadline.h"
#include "common/state/folder.h"
#include "common/util/error.h"
#include "common/util/log.h"
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
    struct storage_file *lease;
    struct storage_file *file; /* of the memory folder; NULL: the lines end with the process */
    struct live_line *lines;   /* all of the mapping */
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

/* ---- the lines ---- */

/* Address space of our own, which stays when the storage is gone. */
static int map_memory(struct live *l, GError **err)
{
    void *at = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return fail_errno(err, errno, "state: address space for %s", STATE_LIVE);
    l->lines = at;
    return 0;
}

/* All pages, now: a page that is missing later would be replaced by memory of the process, and what
 * counters have in both could not be added up. */
static int write_file(struct live *l, const char *boot_id)
{
    g_autofree struct live_line *lines = g_malloc0(LENGTH);
    struct live_head head = {.magic = LIVE_MAGIC};

    g_strlcpy(head.boot_id, boot_id, sizeof head.boot_id);
    memcpy(lines, &head, sizeof head);
    return l->file->storage->ops->write(l->file, lines, LENGTH, 0);
}

static int make_file(struct live *l, struct storage *memory, const char *boot_id, GError **err)
{
    int error = memory->ops->open(memory, STATE_LIVE, true, &l->file);

    if (error < 0) {
        l->file = NULL;
        return storage_fail(memory, STATE_LIVE, "making it", error, err);
    }
    error = write_file(l, boot_id);
    return error < 0 ? storage_fail(memory, STATE_LIVE, "writing it", error, err) : 0;
}

static int map_file(struct live *l, struct storage *memory, const struct live_events *events,
                    GError **err)
{
    struct mapping_use use = {.fd = -1, .lost = events->lost, .opaque = events->opaque};
    void *mapped;
    int error;

    l->guard = mapping_guard(l->lines, LENGTH, &use, err);
    if (!l->guard)
        return -1;
    error = memory->ops->map(l->file, 0, LENGTH, l->lines, &mapped);
    return error < 0 ? storage_fail(memory, STATE_LIVE, "mapping it", error, err) : 0;
}

/* Without it the lines end with the process, as after a power loss. */
static void use_memory(struct live *l, struct storage *memory, const char *boot_id,
                       const struct live_events *events)
{
    g_autoptr(GError) error = NULL;

    if (make_file(l, memory, boot_id, &error) == 0 && map_file(l, memory, events, &error) == 0)
        return;
    log_error("%s: if the server dies, it will not be known when it last changed an image",
              error->message);
    mapping_unguard(g_steal_pointer(&l->guard));
    if (l->file)
        memory->ops->close(g_steal_pointer(&l->file));
    (void)memory->ops->unlink(memory, STATE_LIVE);
}

/* ---- the lease ---- */

int live_extend_lease(struct live *l, int64_t until, GError **err)
{
    struct live_lease lease = {.until = until, .check = ~until};
    struct storage *s = l->storage;
    int error = s->ops->write(l->lease, &lease, sizeof lease, LIVE_LEASE * sizeof *l->lines);

    if (error == 0)
        error = s->ops->sync(l->lease);
    return error < 0 ? storage_fail(s, STATE_LIVE, "writing it", error, err) : 0;
}

static int open_lease(struct live *l, GError **err)
{
    struct storage *s = l->storage;
    int error = s->ops->unlink(s, STATE_LIVE);

    if (error < 0 && error != -ENOENT)
        return storage_fail(s, STATE_LIVE, "removing the old one", error, err);
    error = s->ops->open(s, STATE_LIVE, true, &l->lease);
    if (error == 0)
        return 0;
    l->lease = NULL;
    return storage_fail(s, STATE_LIVE, "making it", error, err);
}

static int make_lease(struct live *l, const char *boot_id, int64_t until, GError **err)
{
    struct live_head head = {.magic = LIVE_MAGIC};
    struct storage *s = l->storage;
    int error;

    if (open_lease(l, err) < 0)
        return -1;
    g_strlcpy(head.boot_id, boot_id, sizeof head.boot_id);
    error = s->ops->reserve(l->lease, LIVE_LEASE_LENGTH);
    if (error == 0)
        error = s->ops->write(l->lease, &head, sizeof head, 0);
    if (error < 0)
        return storage_fail(s, STATE_LIVE, "writing it", error, err);
    if (live_extend_lease(l, until, err) < 0)
        return -1;
    error = s->ops->sync_names(s, "");
    return error < 0 ? storage_fail(s, "", "syncing the names in it", error, err) : 0;
}

/* ---- the life of it ---- */

struct live *live_new(struct storage *s, struct storage *memory, const char *boot_id, int64_t lease,
                      const struct live_events *events, GError **err)
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
    if (make_lease(l, boot_id, lease, err) == 0 && map_memory(l, err) == 0) {
        if (memory)
            use_memory(l, memory, boot_id, events);
        if (start_stamper(l, err) == 0)
            return l;
    }
    live_free(l);
    return NULL;
}

void live_free(struct live *l)
{
    stop_stamper(l);
    mapping_unguard(l->guard);
    if (l->lines)
        munmap(l->lines, LENGTH);
    if (l->file)
        l->file->storage->ops->close(l->file);
    if (l->lease)
        l->storage->ops->close(l->lease);
    pthread_cond_destroy(&l->stopped);
    pthread_mutex_destroy(&l->lock);
    g_free(l);
}
