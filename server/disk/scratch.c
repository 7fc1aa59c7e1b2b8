/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One file a disk, unlinked from the start, so that it goes with the process whatever happens.
 *
 *   [ slots handed out ... | reserved ahead | not there yet ]
 *                          ^next            ^reserved
 *
 * Slots that came back stand in a list of runs and are handed out before new ones. Their space was
 * punched out meanwhile and somebody else may have it by now: so there has to be room for them, but
 * it is not reserved again. When all have come back the file shrinks to nothing. `lock` guards all
 * of this; data is written and read without it, because a slot has one owner between take and give.
 */
#include "config.h"

#include "server/disk/scratch.h"
#include "common/error.h"
#include "common/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define FIRST_PIECE (1u << 20)
#define LAST_PIECE  (16u << 20)
#define MAX_SLOTS   0xfffffff0u /* BLOCK_KEPT_SLOT more must fit into 32 bits */

struct scratch_pool {
    char *dir;
    uint64_t limit;
    _Atomic uint64_t used;
    atomic_bool low_told;
    void (*low)(void *opaque, uint64_t used, uint64_t limit);
    void *opaque;
};

struct run {
    uint32_t slot, n;
};

struct scratch {
    struct scratch_pool *pool;
    int fd;
    unsigned shift; /* log2 of a slot's bytes */
    pthread_mutex_t lock;
    uint64_t next, reserved; /* slots */
    uint64_t taken;
    uint64_t piece; /* bytes to reserve next time */
    bool cannot_reserve, cannot_punch;
    GArray *free_runs;
};

struct scratch_pool *scratch_pool_new(const char *dir, uint64_t limit,
                                      void (*low)(void *opaque, uint64_t used, uint64_t limit),
                                      void *opaque)
{
    struct scratch_pool *p = g_new0(struct scratch_pool, 1);

    p->dir = g_strdup(dir);
    p->limit = limit;
    p->low = low;
    p->opaque = opaque;
    return p;
}

void scratch_pool_free(struct scratch_pool *p)
{
    g_assert(atomic_load(&p->used) == 0);
    g_free(p->dir);
    g_free(p);
}

uint64_t scratch_pool_used(struct scratch_pool *p)
{
    return atomic_load(&p->used);
}

uint64_t scratch_pool_limit(struct scratch_pool *p)
{
    return p->limit;
}

const char *scratch_pool_dir(struct scratch_pool *p)
{
    return p->dir;
}

static void tell_if_low(struct scratch_pool *p, uint64_t used, uint64_t limit)
{
    if (p->low && used > limit / 10 * 9 && !atomic_exchange(&p->low_told, true))
        p->low(p->opaque, used, limit);
}

/* Add to the budget as many of n slots of 2^shift bytes as the limit allows; returns how many. */
static unsigned pool_charge(struct scratch_pool *p, unsigned n, unsigned shift)
{
    uint64_t used = atomic_load(&p->used), got;

    do {
        got = n;
        if (p->limit && used + (got << shift) > p->limit)
            got = used >= p->limit ? 0 : (p->limit - used) >> shift;
    } while (!atomic_compare_exchange_weak(&p->used, &used, used + (got << shift)));

    if (p->limit)
        tell_if_low(p, used + (got << shift), p->limit);
    return (unsigned)got;
}

static void pool_release(struct scratch_pool *p, uint64_t bytes)
{
    uint64_t now = atomic_fetch_sub(&p->used, bytes) - bytes;

    if (now == 0 || now < p->limit / 10 * 8)
        atomic_store(&p->low_told, false);
}

static int open_unlinked(const char *dir, GError **err)
{
    g_autofree char *path = NULL;
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) {
        if (fd < 0)
            fail_errno(err, errno, "scratch: %s", dir);
        return fd;
    }
    path = g_build_filename(dir, ".nbdfleece-scratch-XXXXXX", NULL);
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, errno, "scratch: %s", dir);
    unlink(path);
    return fd;
}

/* Is there room for `bytes` more outside the file system's last 5 %? Says so when it gets little.
 */
static bool room_for(struct scratch *s, uint64_t bytes)
{
    struct statvfs fs;
    uint64_t free_bytes, kept_free, used = atomic_load(&s->pool->used);

    if (fstatvfs(s->fd, &fs) < 0)
        return true; /* it does not say; writing will */
    free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    kept_free = (uint64_t)fs.f_blocks * fs.f_frsize / 20;
    if (free_bytes < bytes + kept_free)
        return false;
    tell_if_low(s->pool, used, used + free_bytes - kept_free);
    return true;
}

/* Make at least one more slot usable at the end. The piece doubles each time; where that much is
 * not to be had, halves of it are tried, down to one slot. */
static int reserve(struct scratch *s, char reason[120])
{
    uint64_t unit = UINT64_C(1) << s->shift, at = s->reserved << s->shift;

    if (s->reserved >= MAX_SLOTS) {
        g_snprintf(reason, 120, "scratch: no more than %u blocks a disk can be kept", MAX_SLOTS);
        return -ENOSPC;
    }
    for (uint64_t piece = s->piece; piece >= unit; piece /= 2) {
        if (!room_for(s, piece)) {
            g_snprintf(reason, 120, "scratch: less than 5 %% of the file system would stay free");
            continue;
        }
        if (!s->cannot_reserve &&
            fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)piece) < 0) {
            if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINTR) {
                s->cannot_reserve = errno != EINTR;
            } else {
                g_snprintf(reason, 120, "scratch: reserving %" PRIu64 " bytes: %s", piece,
                           g_strerror(errno));
                continue;
            }
        }
        s->reserved += piece >> s->shift;
        s->piece = MIN(piece * 2, LAST_PIECE);
        return 0;
    }
    return -ENOSPC;
}

struct scratch *scratch_new(struct scratch_pool *p, uint32_t unit, GError **err)
{
    struct scratch *s;
    char reason[120];
    int fd = open_unlinked(p->dir, err);

    if (fd < 0)
        return NULL;
    s = g_new0(struct scratch, 1);
    s->pool = p;
    s->fd = fd;
    s->shift = (unsigned)__builtin_ctz(unit);
    s->piece = FIRST_PIECE;
    pthread_mutex_init(&s->lock, NULL);
    s->free_runs = g_array_new(FALSE, FALSE, sizeof(struct run));
    if (reserve(s, reason) < 0) {
        fail(err, "%s: %s", reason, p->dir);
        scratch_free(s);
        return NULL;
    }
    return s;
}

void scratch_free(struct scratch *s)
{
    if (!s)
        return;
    g_assert(s->taken == 0);
    close(s->fd);
    g_array_unref(s->free_runs);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

/* Where the next slots come from: runs that came back, or (`run` NULL) the end of the file. */
struct source {
    struct run *run;
    unsigned n; /* as many, at least 1 */
};

/* Find up to `want` slots; reserves more of the file where that is needed. */
static int find_slots(struct scratch *s, unsigned want, struct source *from, char reason[120])
{
    if (s->free_runs->len > 0) {
        from->run = &g_array_index(s->free_runs, struct run, s->free_runs->len - 1);
        from->n = MIN(want, from->run->n);
        if (s->cannot_punch || room_for(s, (uint64_t)from->n << s->shift))
            return 0;
    }
    if (s->next == s->reserved) {
        int error = reserve(s, reason);

        if (error < 0)
            return error;
    }
    from->run = NULL;
    from->n = (unsigned)MIN(want, s->reserved - s->next);
    return 0;
}

static uint32_t take_slots(struct scratch *s, struct run *run, unsigned n)
{
    uint32_t first = run ? run->slot : (uint32_t)s->next;

    s->taken += n;
    if (!run) {
        s->next += n;
        return first;
    }
    run->slot += n;
    run->n -= n;
    if (run->n == 0)
        g_array_set_size(s->free_runs, s->free_runs->len - 1);
    return first;
}

int scratch_take(struct scratch *s, unsigned want, uint32_t *first, char reason[120])
{
    struct source from;
    unsigned n = 0;
    int error;

    pthread_mutex_lock(&s->lock);
    error = find_slots(s, want, &from, reason);
    if (error == 0) {
        /* Charged is exactly what is taken, so nobody meets a limit that is not reached. */
        n = pool_charge(s->pool, from.n, s->shift);
        if (n > 0)
            *first = take_slots(s, from.run, n);
    }
    pthread_mutex_unlock(&s->lock);
    if (error == 0 && n == 0) {
        g_snprintf(reason, 120, "scratch: the limit of %" PRIu64 " bytes is reached",
                   s->pool->limit);
        error = -ENOSPC;
    }
    return error < 0 ? error : (int)n;
}

int scratch_write(struct scratch *s, uint32_t slot, const void *buf, unsigned n)
{
    return pwrite_all(s->fd, buf, (size_t)n << s->shift, (uint64_t)slot << s->shift);
}

int scratch_read(struct scratch *s, uint32_t slot, void *buf, uint32_t skip, uint32_t length)
{
    return pread_all(s->fd, buf, length, ((uint64_t)slot << s->shift) + skip);
}

/* All slots are back: start over with an empty file. */
static void start_over(struct scratch *s)
{
    if (ftruncate(s->fd, 0) < 0)
        return; /* then its space stays ours until the file goes; nothing is lost */
    s->next = s->reserved = 0;
    s->piece = FIRST_PIECE;
    g_array_set_size(s->free_runs, 0);
}

void scratch_give(struct scratch *s, uint32_t slot, unsigned n)
{
    struct run run = {.slot = slot, .n = n};

    /* Where punching is not supported the space stays until the file goes, and is used again. */
    bool cannot_punch =
        fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                  (off_t)((uint64_t)slot << s->shift), (off_t)((uint64_t)n << s->shift)) < 0 &&
        errno == EOPNOTSUPP;

    pthread_mutex_lock(&s->lock);
    s->cannot_punch |= cannot_punch;
    g_array_append_val(s->free_runs, run);
    s->taken -= n;
    if (s->taken == 0)
        start_over(s);
    pthread_mutex_unlock(&s->lock);
    pool_release(s->pool, (uint64_t)n << s->shift);
}
