/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Guests: threads that write to all disks, each to its own sectors, and log it.
 *
 * Sectors are shared out in runs of random length, mostly so short that guests meet in one block or
 * granule, now and then so long that one request keeps many blocks. They are also shared out where
 * the image takes larger blocks: each guest's bytes are its own even then.
 */
#include "tests/rigs/model.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <string.h>

#define BUFFER_SIZE (512u << 10)

/* Who runs here, for the hooks. */
static _Thread_local struct guest *guest_here;

/* ---- hooks ---- */

static struct noise *hook_noise(void)
{
    static _Thread_local struct noise noise;

    if (noise.state == 0)
        noise.state = (uint64_t)(uintptr_t)&noise ^ (uint64_t)g_get_monotonic_time();
    return &noise;
}

/* Let others run, sometimes for a while. Not seeded: the scheduler is not either. */
static void disturb(void)
{
    struct noise *n = hook_noise();

    if (!noise_once_in(n, 8))
        return;
    for (uint64_t i = noise_once_in(n, 16) ? noise_below(n, 40) : 1; i > 0; i--)
        sched_yield();
}

static bool fault(struct model *m, unsigned rarer)
{
    unsigned rate = atomic_load(&m->fault_rate);

    if (rate == 0 || !guest_here || !guest_here->log || !noise_once_in(hook_noise(), rate * rarer))
        return false;
    atomic_fetch_add(&m->faults, 1);
    return true;
}

int model_at(void *opaque, enum disk_point point, uint64_t offset)
{
    struct model_disk *d = opaque;
    struct guest *g = guest_here;

    switch (point) {
    case POINT_WRITE_ENTERED:
        atomic_store(&g->log->entered, atomic_load(&g->log->begun));
        break;
    case POINT_WRITE_MARKED:
        g->marked = true;
        break;
    case POINT_GATES_CLOSED:
        for (unsigned i = 0; i < GUESTS; i++)
            d->cut[i] = atomic_load(&d->logs[i]->entered);
        d->gates_closed++;
        return 0;
    case POINT_SCRATCH_WRITE:
        if (fault(d->model, 1))
            return -ENOSPC;
        break;
    default:
        break;
    }
    disturb();
    return 0;
}

int model_backend_hook(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    struct model_disk *d = opaque;

    struct guest *g = guest_here;

    disturb();
    if (call == FAKE_RESIZE)
        return d->refuse_resize ? -ENOSPC : 0;
    if (call == FAKE_EXTENTS)
        return 0; /* it would not be known any more what was a hole */
    if (g && g->changed)
        return 0; /* a request that is done in part is not in the model */
    if (fault(d->model, 8))
        return -EIO;
    if (g)
        g->changed = call == FAKE_WRITE || call == FAKE_ZERO || call == FAKE_TRIM;
    return 0;
}

/* ---- what a guest does ---- */

void guests_settle(struct model_disk *d, struct noise *n)
{
    uint64_t unit = FAKE_SECTOR;

    for (unsigned i = 0; i < GUESTS; i++)
        d->runs[i] = g_array_new(FALSE, FALSE, sizeof(struct run));
    for (uint64_t at = 0; at < d->room;) {
        uint64_t most = noise_once_in(n, 12) ? BUFFER_SIZE / unit : 9;
        struct run run = {.offset = at, .length = (1 + noise_below(n, most)) * unit};

        run.length = MIN(run.length, d->room - at);
        g_array_append_val(d->runs[noise_below(n, GUESTS)], run);
        at += run.length;
    }
}

static enum op_kind random_kind(struct noise *n)
{
    uint64_t x = noise_below(n, 100);

    return x < 60   ? OP_WRITE
           : x < 68 ? OP_WRITE_NUL
           : x < 78 ? OP_ZERO
           : x < 88 ? OP_ZERO_HOLE
                    : OP_TRIM;
}

/* Only the image's whole blocks of a range, where it has any. */
static void align_inwards(const struct model_disk *d, struct op *op)
{
    uint64_t mask = d->min_block - 1, first = (op->offset + mask) & ~mask,
             end = (op->offset + op->length) & ~mask;

    if (first < end) {
        op->offset = first;
        op->length = (uint32_t)(end - first);
    }
}

/* A range inside one of our runs, all of it or a part, aligned or not. False: none in the disk. */
static bool random_range(struct guest *g, struct model_disk *d, uint64_t size, struct op *op)
{
    struct noise *n = &g->noise;
    GArray *runs = d->runs[g->index];
    uint64_t unit = noise_once_in(n, 3) ? 1 : FAKE_SECTOR, units;
    struct run r;

    if (runs->len == 0)
        return false;
    r = g_array_index(runs, struct run, noise_below(n, runs->len));
    if (r.offset >= size)
        return false;
    r.length = MIN(r.length, size - r.offset);
    if (!noise_once_in(n, 4)) {
        units = (r.length + unit - 1) / unit;
        op->offset = r.offset + noise_below(n, units) * unit;
        units = (r.offset + r.length - op->offset + unit - 1) / unit;
        units = 1 + noise_below(n, units);
        op->length = (uint32_t)MIN(units * unit, r.offset + r.length - op->offset);
    } else {
        op->offset = r.offset;
        op->length = (uint32_t)r.length;
    }
    if (noise_once_in(n, 2))
        align_inwards(d, op);
    return true;
}

static int submit(struct node_io *io, const struct op *op, char *buf, uint32_t flags)
{
    switch (op->kind) {
    case OP_WRITE:
    case OP_WRITE_NUL:
        return node_write(io, buf, op->length, op->offset, flags);
    case OP_ZERO:
        return node_zero(io, op->length, op->offset, flags);
    case OP_ZERO_HOLE:
        return node_zero(io, op->length, op->offset, flags | BACKEND_MAY_TRIM);
    case OP_TRIM:
        return node_trim(io, op->length, op->offset, flags);
    }
    g_assert_not_reached();
}

/* Nobody else writes there, so what is read must be what was written. */
static void read_back(struct guest *g, struct model_disk *d, const struct op *op, char *buf)
{
    char *got = buf + BUFFER_SIZE;
    int error = node_read(g->io[d->index], got, op->length, op->offset, 0);
    uint64_t from, to, inner, inner_end;

    if (!op_reach(op, &from, &to, &inner, &inner_end))
        return;
    from = MAX(from, op->offset) - op->offset;
    to = MIN(to, op->offset + op->length) - op->offset;
    if (error < 0 || memcmp(got + from, buf + from, to - from) != 0)
        model_fail(g->model, d, op->offset,
                   "disk %u: guest %u does not read at %" PRIu64 " what it wrote: %s", d->index,
                   g->index, op->offset, error < 0 ? g_strerror(-error) : "other data");
}

static void one_request(struct guest *g, struct model_disk *d, const struct op *what, char *buf)
{
    struct op_log *log = d->logs[g->index];
    uint32_t begun = atomic_load(&log->begun);
    struct op *op = &log->ops[begun % LOG_SIZE];
    uint32_t flags = noise_once_in(&g->noise, 8) ? BACKEND_FUA : 0;
    uint64_t from, to, inner, inner_end;

    *op = *what;
    op->block = d->min_block;
    op->stamp = (uint64_t)(g->index + 1) << 56 ^ noise_next(&g->noise) >> 16;
    if (op->kind == OP_WRITE)
        op_fill(buf, op);
    else
        memset(buf, 0, op->length);
    g->marked = g->changed = false;
    g->log = log;
    atomic_store(&log->begun, begun + 1);
    op->error = submit(g->io[d->index], op, buf, flags);
    if (!op_reach(op, &from, &to, &inner, &inner_end))
        atomic_store(&log->entered, begun + 1); /* there was nothing to enter the gate for */
    g->log = NULL;
    g->changed = false;
    op->marked = g->marked;
    g->failed += op->error < 0;
    if (op->error == 0 && noise_once_in(&g->noise, 8))
        read_back(g, d, op, buf);
    atomic_store(&log->acked, begun + 1);
    futex_wake_all(&log->acked);
}

static void park(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    m->parked++;
    pthread_cond_broadcast(&m->changed);
    while (m->pause)
        pthread_cond_wait(&m->changed, &m->lock);
    m->parked--;
    pthread_mutex_unlock(&m->lock);
}

/* Guests are held back to about the control thread's pace, so that many instants fall between their
 * requests. */
static void wait_for_room(struct model *m, struct op_log *log)
{
    for (;;) {
        uint32_t applied = atomic_load(&log->applied);

        if (atomic_load(&m->paused))
            park(m);
        else if (atomic_load(&log->begun) - applied < LOG_ROOM)
            return;
        else
            futex_wait(&log->applied, applied, NULL);
    }
}

static void reopen(struct guest *g, struct model_disk *d)
{
    g_autoptr(GError) error = NULL;

    if (g->io[d->index])
        node_io_close(g->io[d->index]);
    if (node_io_open(disk_node(d->disk), true, false, NULL, &g->io[d->index], &error) < 0)
        model_fail(g->model, d, 0, "node_io_open: %s", error->message);
}

void *guest_main(void *arg)
{
    struct guest *g = arg;
    struct model *m = g->model;
    char *buf = g_malloc(2 * BUFFER_SIZE);

    guest_here = g;
    for (unsigned i = 0; i < m->n_disks; i++)
        reopen(g, &m->disks[i]);
    while (g->done < g->quota) {
        struct model_disk *d = model_random_disk(m, &g->noise);
        struct op op = {.kind = random_kind(&g->noise)};

        if (noise_once_in(&g->noise, 256))
            reopen(g, d);
        wait_for_room(m, d->logs[g->index]);
        if (!random_range(g, d, node_io_info(g->io[d->index])->size, &op))
            continue;
        one_request(g, d, &op, buf);
        g->done++;
    }
    for (unsigned i = 0; i < m->n_disks; i++)
        node_io_close(g->io[i]);
    g_free(buf);
    pthread_mutex_lock(&m->lock);
    m->running--;
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- replay ---- */

static void replay(struct model_disk *d, const struct op *op)
{
    struct model_view *newest = d->views->len > 0 ? d->views->pdata[d->views->len - 1] : NULL;
    unsigned shift = d->disk->unit_shift;

    uint64_t from, to, inner, inner_end;

    if (!op_reach(op, &from, &to, &inner, &inner_end))
        return;
    if (op->error == 0)
        image_apply(d->now, op);
    for (unsigned i = 0; op->marked && i < d->bitmaps->len; i++) {
        struct model_bitmap *b = d->bitmaps->pdata[i];

        if (b->recording)
            model_bitmap_mark(b, from, to - from);
    }
    if (!newest)
        return;
    newest->inexact |= !op->marked;
    for (uint64_t b = from >> shift; b <= (to - 1) >> shift; b++)
        newest->touched[b] = true;
}

void model_catch_up(struct model_disk *d, const uint32_t upto[GUESTS])
{
    for (unsigned i = 0; i < GUESTS; i++) {
        struct op_log *log = d->logs[i];
        uint32_t applied = atomic_load(&log->applied), acked;

        if (applied == upto[i])
            continue;
        while ((int32_t)((acked = atomic_load(&log->acked)) - upto[i]) < 0)
            futex_wait(&log->acked, acked, NULL);
        for (; applied != upto[i]; applied++)
            replay(d, &log->ops[applied % LOG_SIZE]);
        atomic_store(&log->applied, applied);
        futex_wake_all(&log->applied);
    }
}

void model_catch_up_all(struct model *m)
{
    for (unsigned i = 0; i < m->n_disks; i++) {
        uint32_t acked[GUESTS];

        for (unsigned g = 0; g < GUESTS; g++)
            acked[g] = atomic_load(&m->disks[i].logs[g]->acked);
        model_catch_up(&m->disks[i], acked);
    }
}
