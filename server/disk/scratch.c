/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One file a disk, unlinked from the start, so that it goes with the process whatever happens.
 *
 *   [ slots handed out ...           | reserved ahead | not there yet ]
 *                  [ in memory ... ] ^next            ^reserved
 *
 * A guest's write waits for one copy in memory: the newest slots stand in buffers
 * (scratch-buffer.h). Whoever fills the last slot of a buffer writes it to the file. (Scratch on
 * ext4, 4 KiB writes under a fresh view: half as many again a second as with a write for each slot.)
 * If that fails the buffer stays in memory and is read there: nothing that was kept is lost, but
 * nothing more is taken. Where there is no memory for a buffer, its slots are written one by one.
 *
 * Space is reserved ahead of use, so that "full" is known before a slot is handed out; never more
 * than a sixteenth of what is in use, beyond a first piece.
 *
 * Slots that came back stand in a list of runs and are handed out before new ones. Their space was
 * punched out meanwhile and somebody else may have it by now: so there has to be room for them, but
 * it is not reserved again. Those that came back while still in memory wait in `deferred_runs` until
 * their buffer is written: else the buffer would be written over what comes into them next. When all
 * have come back the file shrinks to nothing.
 *
 * `lock` guards all of this; data is written and read without it, because a slot has one owner
 * between take and give, and a buffer stays as long as somebody uses it. Readers of what is in the
 * file, as most of it is, see that by `memory_from` and take no lock: a backup's thread may have to
 * wait for a processor, and must not hold meanwhile what a guest's needs.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "common/base/file-io.h"
#include "server/disk/lasting.h"
#include "server/disk/scratch-file.h"
#include "server/disk/scratch-private.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Reserved at once, at least and at most: the larger, the longer a guest's write waits for it. */
#define PIECE_MIN (256u << 10)
#define PIECE_MAX (1u << 20)

/* ---- reserving ---- */

/* 0, or a negative errno. */
static int reserve_piece(struct scratch *s, uint64_t at, uint64_t piece)
{
    if (s->cannot_reserve || fallocate(s->fd, FALLOC_FL_KEEP_SIZE, (off_t)at, (off_t)piece) == 0)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS)
        return errno == EINTR ? 0 : -errno; /* interrupted: writing will tell */
    s->cannot_reserve = true;
    return 0;
}

/* Locked. Make at least one more slot usable at the end: a piece, or where that much is not to be
 * had, half of it and so on, down to one slot. */
static int reserve(struct scratch *s, char reason[120])
{
    uint64_t unit = UINT64_C(1) << s->shift, at = s->reserved << s->shift;
    uint64_t piece = CLAMP(at / 16 & ~(uint64_t)(PIECE_MIN - 1), PIECE_MIN, PIECE_MAX);

    if (s->reserved >= SCRATCH_MAX_SLOTS) {
        g_snprintf(reason, 120, "scratch: no more than %u blocks a disk can be kept",
                   SCRATCH_MAX_SLOTS);
        return -ENOSPC;
    }
    piece = MIN(piece, (SCRATCH_MAX_SLOTS - s->reserved) << s->shift);
    for (; piece >= unit; piece = piece / 2 & ~(unit - 1)) {
        if (!scratch_pool_room(s->pool, s->fd, piece)) {
            g_snprintf(reason, 120, "scratch: less than 5 %% of the file system would stay free");
            continue;
        }
        int error = reserve_piece(s, at, piece);
        if (error == 0) {
            s->reserved += piece >> s->shift;
            return 0;
        }
        g_snprintf(reason, 120, "scratch: reserving %" PRIu64 " bytes: %s", piece,
                   g_strerror(-error));
    }
    return -ENOSPC;
}

/* ---- life ---- */

/* Locked: the buffers have changed, and what left them is in the file. */
static void note_memory(struct scratch *s)
{
    const struct scratch_buffer *oldest = buffers_oldest(&s->buffers);

    atomic_store_explicit(&s->memory_from, oldest ? oldest->first : UINT64_MAX,
                          memory_order_release);
}

/* Locked: if all slots are back and none is on its way, start over with an empty file. */
static void maybe_start_over(struct scratch *s)
{
    if (s->taken > 0 || s->writing > 0)
        return;
    buffers_clear(&s->buffers);
    note_memory(s);
    if (ftruncate(s->fd, 0) < 0)
        return; /* then its space stays ours until the file goes; nothing is lost */
    s->next = s->reserved = 0;
    s->failed = 0;
    g_array_set_size(s->free_runs, 0);
    g_array_set_size(s->deferred_runs, 0);
}

struct scratch *scratch_over(struct scratch_pool *p, uint32_t unit, int fd, struct lasting *lasting)
{
    struct scratch *s = g_new0(struct scratch, 1);

    s->pool = p;
    s->fd = fd;
    s->shift = (unsigned)__builtin_ctz(unit);
    s->file = s->buffers.file = lasting;
    atomic_init(&s->memory_from, UINT64_MAX);
    pthread_mutex_init(&s->lock, NULL);
    s->free_runs = g_array_new(FALSE, FALSE, sizeof(struct scratch_run));
    s->deferred_runs = g_array_new(FALSE, FALSE, sizeof(struct scratch_run));
    return s;
}

int scratch_pool_check(struct scratch_pool *p, GError **err)
{
    int fd = scratch_file_unlinked(p->dir, err);

    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static struct scratch *with_first_piece(struct scratch *s, GError **err)
{
    char reason[120];

    if (reserve(s, reason) == 0)
        return s;
    fail(err, "%s: %s", reason, s->pool->dir);
    scratch_free(s);
    return NULL;
}

struct scratch *scratch_new(struct scratch_pool *p, uint32_t unit, GError **err)
{
    int fd = scratch_file_unlinked(p->dir, err);

    return fd < 0 ? NULL : with_first_piece(scratch_over(p, unit, fd, NULL), err);
}

struct scratch *scratch_new_lasting(struct scratch_pool *p, uint32_t unit,
                                    const struct disk_state *state, GError **err)
{
    g_autoptr(GError) error = NULL;
    struct lasting *file =
        lasting_new(state, LASTING_SCRATCH, LASTING_BUFFERS * BUFFER_BYTES, NULL, NULL, &error);
    int fd;

    if (!file) {
        log_error("scratch: views that use it end if the server dies: %s", error->message);
        return scratch_new(p, unit, err);
    }
    file->head->scratch.unit = unit;
    fd = scratch_file_named(p->dir, state->lasting->folder, file, &error);
    if (fd < 0) {
        lasting_close(file, true);
        log_error("scratch: views that use it end if the server dies: %s", error->message);
        return scratch_new(p, unit, err);
    }
    return with_first_piece(scratch_over(p, unit, fd, file), err);
}

const char *scratch_id(const struct scratch *s)
{
    return s->file ? s->file->id : NULL;
}

void scratch_keep(struct scratch *s)
{
    s->buffers.keeps = true;
}

void scratch_leave_store(struct scratch *s)
{
    g_assert(s->taken == 0);
    if (!s->file)
        return;
    buffers_clear(&s->buffers);
    if (!s->buffers.keeps)
        scratch_file_remove(s->file, s->fd);
    lasting_close(g_steal_pointer(&s->file), !s->buffers.keeps);
}

void scratch_free(struct scratch *s)
{
    if (!s)
        return;
    scratch_leave_store(s);
    buffers_clear(&s->buffers);
    close(s->fd);
    g_array_unref(s->free_runs);
    g_array_unref(s->deferred_runs);
    pthread_mutex_destroy(&s->lock);
    log_limit_end(&s->write_errors);
    g_free(s);
}

/* ---- taking ---- */

static unsigned buffer_slots(const struct scratch *s)
{
    return BUFFER_BYTES >> s->shift;
}

/* Where the next slots come from: runs that came back, or (`run` NULL) the end of the file. */
struct source {
    struct scratch_run *run;
    unsigned n; /* as many, at least 1 */
};

/* Locked. Find up to `want` slots; reserves more of the file where that is needed. */
static int find_slots(struct scratch *s, unsigned want, struct source *from, char reason[120])
{
    if (s->failed) {
        g_snprintf(reason, 120, "scratch: a write failed before: %s", g_strerror(s->failed));
        return -EIO;
    }
    if (s->free_runs->len > 0) {
        from->run = &g_array_index(s->free_runs, struct scratch_run, s->free_runs->len - 1);
        from->n = MIN(want, from->run->n);
        if (s->cannot_punch || scratch_pool_room(s->pool, s->fd, (uint64_t)from->n << s->shift))
            return 0;
    }
    if (s->next == s->reserved) {
        int error = reserve(s, reason);

        if (error < 0)
            return error;
    }
    /* Not across buffers, so that who writes them has to do with one. */
    unsigned left = buffer_slots(s) ? buffer_slots(s) - (unsigned)(s->next % buffer_slots(s)) : 1;
    from->run = NULL;
    from->n = (unsigned)MIN(MIN(want, left), s->reserved - s->next);
    return 0;
}

static void add_buffer(struct scratch *s, uint64_t first)
{
    if (buffers_add(&s->buffers, first, buffer_slots(s)))
        note_memory(s);
}

static uint32_t take_slots(struct scratch *s, struct scratch_run *run, unsigned n)
{
    uint32_t first = run ? run->slot : (uint32_t)s->next;

    s->taken += n;
    if (!run) {
        if (buffer_slots(s) > 0 && first % buffer_slots(s) == 0)
            add_buffer(s, first);
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
    struct source from = {0};
    unsigned n = 0;
    int error;

    pthread_mutex_lock(&s->lock);
    error = find_slots(s, want, &from, reason);
    if (error == 0) {
        /* Charged is exactly what is taken, so nobody meets a limit that is not reached. */
        n = scratch_pool_charge(s->pool, from.n, s->shift);
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

/* ---- giving back ---- */

/* Where punching is not supported the space stays until the file goes, and is used again. */
static bool punch(struct scratch *s, struct scratch_run run)
{
    return fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     (off_t)((uint64_t)run.slot << s->shift),
                     (off_t)((uint64_t)run.n << s->shift)) == 0 ||
           errno != EOPNOTSUPP;
}

/* Locked, unlocks meanwhile: runs that are nowhere in memory are free. */
static void free_run(struct scratch *s, struct scratch_run run)
{
    pthread_mutex_unlock(&s->lock);
    bool punched = punch(s, run);
    pthread_mutex_lock(&s->lock);
    s->cannot_punch |= !punched;
    g_array_append_val(s->free_runs, run);
}

/* Locked, unlocks meanwhile: free what was given back while it was in memory and no longer is. */
static void free_deferred(struct scratch *s)
{
    for (unsigned i = 0; i < s->deferred_runs->len;) {
        struct scratch_run run = g_array_index(s->deferred_runs, struct scratch_run, i);

        if (buffers_overlap(&s->buffers, run.slot, run.n)) {
            i++;
        } else {
            g_array_remove_index_fast(s->deferred_runs, i);
            free_run(s, run);
            i = 0;
        }
    }
}

void scratch_give(struct scratch *s, uint32_t slot, unsigned n)
{
    struct scratch_run run = {.slot = slot, .n = n};

    pthread_mutex_lock(&s->lock);
    if (buffers_overlap(&s->buffers, slot, n))
        g_array_append_val(s->deferred_runs, run);
    else
        free_run(s, run);
    s->taken -= n;
    maybe_start_over(s);
    pthread_mutex_unlock(&s->lock);
    scratch_pool_release(s->pool, (uint64_t)n << s->shift);
}

void scratch_forget(struct scratch *s, uint32_t slot, unsigned n)
{
    pthread_mutex_lock(&s->lock);
    s->taken -= n;
    pthread_mutex_unlock(&s->lock);
    scratch_pool_release(s->pool, (uint64_t)n << s->shift);
}

/* ---- data ---- */

/* A buffer is full: into the file with it. */
static void write_buffer(struct scratch *s, struct scratch_buffer *g)
{
    uint64_t at = g->first << s->shift;
    int error = pwrite_all(s->fd, g->bytes, (size_t)g->slots << s->shift, at);

    if (error < 0)
        log_error_limited(&s->write_errors, "scratch: write at %" PRIu64 ": %s", at,
                          g_strerror(-error));
    pthread_mutex_lock(&s->lock);
    if (error < 0) {
        s->failed = -error;
    } else {
        buffers_remove(&s->buffers, g);
        note_memory(s);
        free_deferred(s);
    }
    s->writing--;
    maybe_start_over(s);
    pthread_mutex_unlock(&s->lock);
}

/* The slots from `slot` on, of n, that are in one buffer or in none, in *buffer with a use. */
static unsigned part_at(struct scratch *s, uint64_t slot, unsigned n,
                        struct scratch_buffer **buffer)
{
    unsigned per = buffer_slots(s);

    *buffer = NULL;
    if (slot + n <= atomic_load_explicit(&s->memory_from, memory_order_acquire))
        return n;
    pthread_mutex_lock(&s->lock);
    if (!g_queue_is_empty(&s->buffers.list)) {
        *buffer = buffers_find(&s->buffers, slot);
        if (*buffer)
            (*buffer)->uses++;
        n = MIN(n, per - (unsigned)(slot % per));
    }
    pthread_mutex_unlock(&s->lock);
    return n;
}

/* Give up the use; n more slots of it have been filled. */
static void leave(struct scratch *s, struct scratch_buffer *g, unsigned n)
{
    pthread_mutex_lock(&s->lock);
    g->filled += n;
    bool full = n > 0 && g->filled == g->slots;
    s->writing += full;
    buffers_unuse(&s->buffers, g);
    pthread_mutex_unlock(&s->lock);
    if (full)
        write_buffer(s, g);
}

static uint8_t *slot_bytes(const struct scratch *s, const struct scratch_buffer *g, uint64_t slot)
{
    return g->bytes + ((slot - g->first) << s->shift);
}

int scratch_write(struct scratch *s, uint32_t slot, const void *buf, unsigned n)
{
    const char *from = buf;

    while (n > 0) {
        struct scratch_buffer *g;
        unsigned part = part_at(s, slot, n, &g);
        size_t length = (size_t)part << s->shift;

        if (g) {
            memcpy(slot_bytes(s, g, slot), from, length);
            leave(s, g, part);
        } else {
            int error = pwrite_all(s->fd, from, length, (uint64_t)slot << s->shift);

            if (error < 0)
                return error;
        }
        from += length;
        slot += part;
        n -= part;
    }
    return 0;
}

int scratch_read(struct scratch *s, uint32_t slot, void *buf, uint32_t skip, uint32_t length)
{
    char *to = buf;

    while (length > 0) {
        struct scratch_buffer *g;
        unsigned n = (unsigned)(((uint64_t)skip + length - 1) >> s->shift) + 1;
        unsigned part = part_at(s, slot, n, &g);
        uint32_t bytes = (uint32_t)MIN(length, ((uint64_t)part << s->shift) - skip);
        int error = 0;

        if (g) {
            memcpy(to, slot_bytes(s, g, slot) + skip, bytes);
            leave(s, g, 0);
        } else {
            error = pread_all(s->fd, to, bytes, ((uint64_t)slot << s->shift) + skip);
        }
        if (error < 0)
            return error;
        to += bytes;
        slot += part;
        length -= bytes;
        skip = 0;
    }
    /* What was in buffers is gone; some of that has become the file's. */
    return lasting_is_lost(s->file) ? -EIO : 0;
}
