/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How an instant runs. It goes through phases, each of the same steps: prepare; shut the gates that
 * are to be shut; wait until they are drained; do long work that needs them closed; flip what was
 * prepared; open the gates; do long work that does not need them closed. One phase flips all that
 * was staged; those before it make ready for that. Where there is a store, two phases follow, which
 * make it durable and publish it (stage-flip.c). The first phase shuts no gate: it waits for the
 * scratch that new views need.
 *
 * No step waits. Where the instant has to, instant_step returns, and `wake` says when it is worth
 * while to call it again: when all that is waited for has come, or when the thread that does the
 * long work has ended.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/disk-scratch.h"
#include "server/disk/drain.h"
#include "server/disk/instant.h"
#include "server/disk/stage.h"

static struct stage *stage_at(const struct instant *i, unsigned k)
{
    return i->stages->pdata[k];
}

/* ---- what it waits for ---- */

/* Any thread, under the lock of a gate that has drained, or of a scratch. */
static void count_come(struct instant *i)
{
    if (atomic_fetch_sub(&i->awaited, 1) == 1)
        i->wake(i->opaque);
}

static void note_come(void *stage)
{
    struct stage *st = stage;

    atomic_store(&st->come, true);
    count_come(st->instant);
}

static bool start_to_wait(struct stage *st)
{
    if (st->shut)
        return gate_drain_start(&st->disk->gate, note_come, st);
    st->holds = true;
    return disk_scratch_hold(st->disk, st->instant->waited_for, note_come, st);
}

/* All gates are shut before the first is asked whether it is drained. */
static void shut_gates(struct instant *i)
{
    i->waits_since = g_get_monotonic_time();
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        st->shut = st->closes;
        if (st->shut)
            gate_shut(&st->disk->gate);
    }
}

static void start_waits(struct instant *i)
{
    atomic_store(&i->awaited, 1);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        if (!st->shut && !st->asks)
            continue;
        atomic_store(&st->come, false);
        atomic_fetch_add(&i->awaited, 1);
        if (start_to_wait(st)) {
            atomic_store(&st->come, true);
            atomic_fetch_sub(&i->awaited, 1);
        }
    }
    atomic_fetch_sub(&i->awaited, 1);
}

/* Nobody tells us anything any more when this returns. */
static void end_waits(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        if (st->shut)
            gate_drain_cancel(&st->disk->gate);
        if (st->asks)
            disk_scratch_cancel(st->disk);
    }
}

static void open_gates(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        if (st->shut)
            gate_open(&st->disk->gate);
        st->shut = false;
    }
    for (unsigned k = 0; k < i->stages->len; k++)
        tracker_free(g_steal_pointer(&stage_at(i, k)->tracker));
}

static gint64 stage_deadline(const struct stage *st)
{
    return st->instant->waits_since + (st->shut ? st->disk->drain_usec : st->disk->scratch_usec);
}

static bool waits(const struct stage *st)
{
    return (st->shut || st->asks) && !atomic_load(&st->come);
}

/* The first disk that is waited for; the first of all if none is any more. */
static const struct stage *slowest(const struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        if (waits(stage_at(i, k)))
            return stage_at(i, k);
    return stage_at(i, 0);
}

static int fail_cancelled(const struct instant *i, GError **err)
{
    const struct stage *st = slowest(i);

    return fail(err, "disk %s: given up while %s", st->disk->node.name,
                st->asks ? "its scratch file was being made" : "writes were under way");
}

/* Not all has come. 0: it may wait on. */
static int check_waits(struct instant *i, GError **err)
{
    gint64 now = g_get_monotonic_time();

    if (atomic_load(&i->cancelled) && !i->failed)
        return fail_cancelled(i, err);
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = stage_at(i, k);

        if (waits(st) && now >= stage_deadline(st))
            return st->shut ? fail_drain(st->disk, err) : fail_scratch(st->disk, err);
    }
    return 0;
}

/* ---- long work ---- */

static void work(struct instant *i)
{
    int (*fn)(struct instant *, GError **) =
        i->at == AT_CLOSED_WORK ? (*i->phase)->closed_work : (*i->phase)->work;

    i->result = fn(i, &i->work_error);
}

static gpointer work_task(gpointer instant)
{
    struct instant *i = instant;

    work(i);
    atomic_store(&i->worked, true);
    i->wake(i->opaque);
    return NULL;
}

static void start_work(struct instant *i, enum instant_at at,
                       int (*fn)(struct instant *i, GError **err))
{
    i->at = at;
    i->result = 0;
    if (!fn)
        return;
    if (i->waited_for) {
        work(i);
        return;
    }
    atomic_store(&i->worked, false);
    i->worker = g_thread_try_new("instant", work_task, i, &i->work_error);
    if (i->worker)
        return;
    i->result = -1;
    if (!(*i->phase)->must_work)
        return;
    /* That guests stand still for ever is worse than that commands wait. */
    g_clear_error(&i->work_error);
    work(i);
}

/* False: it is not done yet. */
static bool end_work(struct instant *i)
{
    if (i->worker && !atomic_load(&i->worked))
        return false;
    if (i->worker)
        g_thread_join(g_steal_pointer(&i->worker));
    return true;
}

/* ---- steps ---- */

static const struct phase *const usual[] = {
    &phase_scratch, &phase_leave, &phase_attach, &phase_shadow,  &phase_prepare, &phase_quiesce,
    &phase_flip,    &phase_thaw,  &phase_commit, &phase_publish, NULL,
};
static const struct phase *const growing[] = {
    &phase_scratch, &phase_resize, &phase_grow, &phase_attach, &phase_shadow,  &phase_prepare,
    &phase_quiesce, &phase_flip,   &phase_thaw, &phase_commit, &phase_publish, NULL,
};
static const struct phase *const shrinking[] = {
    &phase_scratch, &phase_resize, &phase_grow, &phase_attach, &phase_shadow,  &phase_prepare,
    &phase_quiesce, &phase_shrink, &phase_thaw, &phase_commit, &phase_publish, NULL,
};
/* After a failure. Guests that were quiesced are thawed before anything else. */
static const struct phase *const ungrowing[] = {&phase_thaw, &phase_ungrow, NULL};
static const struct phase *const unflipping[] = {&phase_drop_views, &phase_unlink_views, NULL};
static const struct phase *const failing[] = {&phase_thaw, NULL};

static void enter_phase(struct instant *i, const struct phase *const *phase)
{
    i->phase = phase;
    i->at = *phase ? AT_BEGIN : AT_END;
}

/* Takes over the error. */
static void fail_phase(struct instant *i, GError *error)
{
    end_waits(i);
    open_gates(i);
    if (i->flipped && i->shrunk) { /* an image that was cut off cannot be made whole */
        i->uncommitted = error;
        enter_phase(i, i->phase + 1);
        return;
    }
    if (i->failed) {
        log_error("disk %s: %s: %s", stage_at(i, 0)->disk->node.name, (*i->phase)->left,
                  error->message);
        g_error_free(error);
        i->at = AT_END;
        return;
    }
    i->failed = true;
    i->error = error;
    if (i->grown)
        enter_phase(i, ungrowing);
    else if (i->flipped)
        enter_phase(i, unflipping);
    else
        enter_phase(i, failing);
}

static void begin(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++)
        stage_at(i, k)->closes = stage_at(i, k)->asks = false;
    if (!(*i->phase)->prepare(i)) {
        enter_phase(i, i->phase + 1);
        return;
    }
    shut_gates(i);
    start_waits(i);
    i->at = AT_WAIT;
}

static bool wait_on(struct instant *i)
{
    GError *error = NULL;

    if (atomic_load(&i->awaited) == 0) {
        end_waits(i);
        start_work(i, AT_CLOSED_WORK, (*i->phase)->closed_work);
        return true;
    }
    if (check_waits(i, &error) == 0)
        return false;
    fail_phase(i, error);
    return true;
}

/* What was done to an image under closed gates is not given up half-way: the flip follows. */
static bool closed_work(struct instant *i)
{
    if (!end_work(i))
        return false;
    if (i->result < 0 || ((*i->phase)->flip && (*i->phase)->flip(i, &i->work_error) < 0)) {
        fail_phase(i, g_steal_pointer(&i->work_error));
        return true;
    }
    open_gates(i);
    start_work(i, AT_WORK, (*i->phase)->work);
    return true;
}

static bool open_work(struct instant *i)
{
    if (!end_work(i))
        return false;
    if (i->result == 0 && i->cancelled && !i->failed && !i->flipped)
        i->result = fail(&i->work_error, "given up before its instant");
    if (i->result < 0)
        fail_phase(i, g_steal_pointer(&i->work_error));
    else
        enter_phase(i, i->phase + 1);
    return true;
}

/* False: it has to wait. */
static bool go_on(struct instant *i)
{
    switch (i->at) {
    case AT_BEGIN:
        begin(i);
        return true;
    case AT_WAIT:
        return wait_on(i);
    case AT_CLOSED_WORK:
        return closed_work(i);
    case AT_WORK:
        return open_work(i);
    case AT_END:
        break;
    }
    return true;
}

/* ---- its end ---- */

static void call_all(GArray *hooks)
{
    for (unsigned k = 0; k < hooks->len; k++) {
        struct hook h = g_array_index(hooks, struct hook, k);

        h.fn(h.opaque);
    }
}

/* The instant is freed before anybody hears of its end: they may begin the next one. */
static void end(struct instant *i, bool done)
{
    g_autoptr(GArray) first = g_array_ref(done ? i->on_commit : i->on_abort);
    g_autoptr(GArray) then = g_array_ref(i->on_end);

    for (unsigned k = 0; !done && k < i->stages->len; k++)
        stage_remove_shadows(stage_at(i, k));
    for (unsigned k = 0; k < i->stages->len; k++)
        stage_end_flip(stage_at(i, k));
    stage_end_store(i);
    stage_end_resize(i);
    instant_free(i);
    call_all(first);
    call_all(then);
}

void instant_abort(struct instant *i)
{
    end(i, false);
}

void instant_start(struct instant *i, void (*wake)(void *opaque), void *opaque)
{
    i->wake = wake;
    i->opaque = opaque;
    stage_begin_store(i);
    if (!i->resizes)
        enter_phase(i, usual);
    else
        enter_phase(i, i->size < i->old_size ? shrinking : growing);
}

enum instant_state instant_step(struct instant *i, GError **err)
{
    bool done;

    while (i->at != AT_END)
        if (!go_on(i))
            return INSTANT_WAITS;
    done = !i->failed;
    if (!done)
        g_propagate_error(err, g_steal_pointer(&i->error));
    end(i, done);
    return done ? INSTANT_DONE : INSTANT_FAILED;
}

gint64 instant_deadline(const struct instant *i)
{
    gint64 first = G_MAXINT64;

    for (unsigned k = 0; i->at == AT_WAIT && k < i->stages->len; k++)
        if (waits(stage_at(i, k)))
            first = MIN(first, stage_deadline(stage_at(i, k)));
    return first;
}

char *instant_waits_for(const struct instant *i)
{
    const struct stage *st = slowest(i);

    return g_strdup_printf("disk %s: %s", st->disk->node.name,
                           i->at == AT_WAIT && !st->asks ? "writes under way"
                                                         : (*i->phase)->working);
}

void instant_cancel(struct instant *i)
{
    atomic_store(&i->cancelled, true);
}

/* ---- the waiting form ---- */

static void note_wake(void *opaque)
{
    futex_word *wakes = opaque;

    atomic_fetch_add(wakes, 1);
    futex_wake_all(wakes);
}

static void wait_for_wake(struct instant *i, futex_word *wakes, uint32_t seen)
{
    gint64 rest = instant_deadline(i) - g_get_monotonic_time();

    if (rest > 0)
        futex_wait(wakes, seen,
                   &(struct timespec){.tv_sec = rest / G_USEC_PER_SEC,
                                      .tv_nsec = rest % G_USEC_PER_SEC * 1000});
}

int instant_commit(struct instant *i, GError **err)
{
    enum instant_state state;
    futex_word wakes = 0;

    i->waited_for = true;
    instant_start(i, note_wake, &wakes);
    for (;;) {
        uint32_t seen = atomic_load(&wakes);

        state = instant_step(i, err);
        if (state != INSTANT_WAITS)
            break;
        wait_for_wake(i, &wakes, seen);
    }
    return state == INSTANT_DONE ? 0 : -1;
}
