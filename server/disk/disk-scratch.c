/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/disk-scratch.h"

#include "common/base/deadline.h"
#include "common/util/error.h"

/* The disk's end waits so long for a thread that makes a scratch. */
#define END_USEC G_USEC_PER_SEC

void disk_scratch_init(struct scratch_holding *h)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&h->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&h->changed, &attr);
    pthread_condattr_destroy(&attr);
}

bool disk_scratch_end_making(struct scratch_holding *h)
{
    const struct timespec until = deadline_timespec(deadline_in(END_USEC));
    bool making;
    int error = 0;

    pthread_mutex_lock(&h->lock);
    h->may_block = true;
    while (h->making && error == 0)
        error = pthread_cond_timedwait(&h->changed, &h->lock, &until);
    making = h->making;
    pthread_mutex_unlock(&h->lock);
    if (!making && h->maker)
        g_thread_join(g_steal_pointer(&h->maker));
    return !making;
}

bool disk_scratch_end_leaving(struct scratch_holding *h, int64_t usec)
{
    const struct timespec until = deadline_timespec(deadline_in(usec));
    bool left;
    int error = 0;

    pthread_mutex_lock(&h->lock);
    while (h->leaving > 0 && error == 0)
        error = pthread_cond_timedwait(&h->changed, &h->lock, &until);
    left = h->leaving == 0;
    pthread_mutex_unlock(&h->lock);
    return left;
}

void disk_scratch_destroy(struct scratch_holding *h)
{
    g_assert(h->holders == 0 && !h->maker);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
}

/* ---- making and freeing it ---- */

static gpointer free_now(gpointer scratch)
{
    scratch_free(scratch);
    return NULL;
}

/* One whose files survive the process uses the disk's store until it has removed them. */
struct closing {
    struct scratch_holding *holding;
    struct scratch *scratch;
};

static gpointer close_lasting(gpointer closing)
{
    struct closing *c = closing;

    scratch_leave_store(c->scratch);
    pthread_mutex_lock(&c->holding->lock);
    c->holding->leaving--;
    pthread_cond_broadcast(&c->holding->changed);
    pthread_mutex_unlock(&c->holding->lock);
    scratch_free(c->scratch);
    g_free(c);
    return NULL;
}

static void start_closing(GThreadFunc run, gpointer opaque)
{
    GThread *thread = g_thread_try_new("scratch-end", run, opaque, NULL);

    if (thread)
        g_thread_unref(thread);
    else
        run(opaque);
}

/* Its file is closed, which may hang. Neither the thread that lets go of the last view nor a thread
 * that is joined must hang with it. */
static void free_elsewhere(struct scratch_holding *h, struct scratch *s)
{
    struct closing *c;

    if (!s)
        return;
    if (!scratch_id(s)) {
        start_closing(free_now, s);
        return;
    }
    c = g_new(struct closing, 1);
    *c = (struct closing){.holding = h, .scratch = s};
    pthread_mutex_lock(&h->lock);
    h->leaving++;
    pthread_mutex_unlock(&h->lock);
    start_closing(close_lasting, c);
}

/* Takes over what was made, or why nothing was. An instant that has given up meanwhile does not hold
 * it any more: then nobody wants it. */
static void settle(struct disk *d, struct scratch *made, GError *error)
{
    struct scratch_holding *h = &d->holding;

    pthread_mutex_lock(&h->lock);
    h->making = false;
    if (h->holders > 0) {
        d->scratch = g_steal_pointer(&made);
        h->error = g_steal_pointer(&error);
    }
    if (h->ready)
        h->ready(h->opaque);
    h->ready = NULL;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
    free_elsewhere(h, made);
    g_clear_error(&error);
}

static void make(struct disk *d)
{
    GError *error = NULL;
    struct scratch *made;

    disk_at(d, POINT_SCRATCH_MAKING, 0);
    made = d->state.lasting ? scratch_new_lasting(d->pool, d->unit, &d->state, &error)
                            : scratch_new(d->pool, d->unit, &error);
    settle(d, made, error);
}

static gpointer maker(gpointer disk)
{
    make(disk);
    return NULL;
}

/* False: there is no thread, and that is why there is no scratch. */
static bool start_maker(struct disk *d)
{
    struct scratch_holding *h = &d->holding;
    GError *error = NULL;

    if (h->maker) /* it has settle() behind it, which does not block */
        g_thread_join(h->maker);
    h->maker = g_thread_try_new("scratch", maker, d, &error);
    if (h->maker)
        return true;
    disk_scratch_cancel(d);
    settle(d, NULL, error);
    return false;
}

/* ---- holding it ---- */

bool disk_scratch_hold(struct disk *d, bool here, void (*ready)(void *opaque), void *opaque)
{
    struct scratch_holding *h = &d->holding;
    bool there, begin;

    pthread_mutex_lock(&h->lock);
    h->holders++;
    there = d->scratch != NULL;
    begin = !there && !h->making;
    h->may_block = here;
    if (begin)
        h->making = true;
    if (!there && !(begin && here)) {
        h->ready = ready;
        h->opaque = opaque;
    }
    pthread_mutex_unlock(&h->lock);
    if (begin && here)
        make(d);
    return there || (begin && (here || !start_maker(d)));
}

void disk_scratch_cancel(struct disk *d)
{
    pthread_mutex_lock(&d->holding.lock);
    d->holding.ready = NULL;
    pthread_mutex_unlock(&d->holding.lock);
}

struct scratch *disk_scratch_share(struct disk *d, GError **err)
{
    struct scratch_holding *h = &d->holding;
    struct scratch *scratch;

    pthread_mutex_lock(&h->lock);
    scratch = d->scratch;
    h->holders += scratch != NULL;
    if (!scratch && h->error)
        g_propagate_prefixed_error(err, g_error_copy(h->error), "disk %s: ", d->node.name);
    pthread_mutex_unlock(&h->lock);
    return scratch;
}

void disk_scratch_release(struct disk *d)
{
    struct scratch_holding *h = &d->holding;
    struct scratch *unheld = NULL;
    bool may_block;

    pthread_mutex_lock(&h->lock);
    may_block = h->may_block;
    if (--h->holders == 0) {
        unheld = g_steal_pointer(&d->scratch);
        g_clear_error(&h->error);
    }
    pthread_mutex_unlock(&h->lock);
    if (may_block)
        scratch_free(unheld);
    else
        free_elsewhere(h, unheld);
}

int fail_scratch(const struct disk *d, GError **err)
{
    return fail(err, "disk %s: scratch: a file in %s could not be made within %d s", d->node.name,
                d->pool->dir, (int)(d->scratch_usec / G_USEC_PER_SEC));
}

/* ---- slots on their way back ---- */

struct freed_slots {
    struct disk *disk;
    GArray *runs; /* struct scratch_run */
};

struct freed_slots *freed_slots_new(struct disk *d)
{
    struct freed_slots *f = g_new0(struct freed_slots, 1);

    f->disk = d;
    f->runs = g_array_new(FALSE, FALSE, sizeof(struct scratch_run));
    disk_scratch_share(d, NULL);
    return f;
}

void freed_slots_add(struct freed_slots *f, uint32_t entry)
{
    struct scratch_run run = {.slot = entry - BLOCK_KEPT_SLOT, .n = 1};

    if (entry < BLOCK_KEPT_SLOT)
        return;
    if (f->runs->len > 0) {
        struct scratch_run *last = &g_array_index(f->runs, struct scratch_run, f->runs->len - 1);

        if (last->slot + last->n == run.slot) {
            last->n++;
            return;
        }
    }
    g_array_append_val(f->runs, run);
}

static void give(void *freed_slots)
{
    struct freed_slots *f = freed_slots;

    for (unsigned i = 0; i < f->runs->len; i++) {
        struct scratch_run run = g_array_index(f->runs, struct scratch_run, i);

        scratch_give(f->disk->scratch, run.slot, run.n);
    }
    disk_scratch_release(f->disk);
    g_array_unref(f->runs);
    g_free(f);
}

void freed_slots_give(struct freed_slots *f)
{
    if (f->runs->len > 0)
        grace_call(&f->disk->readers, give, f);
    else
        give(f);
}
