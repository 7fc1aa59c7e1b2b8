/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The gate and the grace by themselves, in all schedules (sched.h). Without a disk around them a
 * run is a few dozen steps, so that many more interruptions can be tried than in test-schedules.
 */
#include "tests/rigs/sched-instrument.h"

#include "server/disk/gate.h"
#include "server/disk/grace.h"

#include <string.h>

/* Longer than any run. */
#define FOR_EVER (g_get_monotonic_time() + G_TIME_SPAN_DAY)

/* ---- the gate ---- */

/* Two connections; two threads may share one. */
struct door {
    struct gate gate;
    struct gate_slot slots[2];
    atomic_int inside;
    struct drain {
        struct door *door;
        unsigned calls;
        futex_word called;
    } drains[2];
};

static void *door_new(void)
{
    void *room;
    struct door *d;

    if (posix_memalign(&room, _Alignof(struct door), sizeof *d) != 0)
        g_error("no memory");
    d = memset(room, 0, sizeof *d);
    gate_init(&d->gate);
    for (unsigned i = 0; i < G_N_ELEMENTS(d->slots); i++)
        gate_slot_add(&d->gate, &d->slots[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(d->drains); i++)
        d->drains[i].door = d;
    return d;
}

static void door_finish(void *door)
{
    struct door *d = door;

    for (unsigned i = 0; i < G_N_ELEMENTS(d->slots); i++) {
        if (atomic_load(&d->slots[i].inside) != 0)
            sched_fail("slot %u says that somebody is inside", i);
        gate_slot_remove(&d->slots[i]);
    }
    gate_destroy(&d->gate);
    free(d);
}

static void pass(struct door *d, unsigned slot)
{
    gate_enter(&d->slots[slot]);
    atomic_fetch_add(&d->inside, 1);
    atomic_fetch_sub(&d->inside, 1);
    gate_leave(&d->slots[slot]);
}

static void pass_0(void *door)
{
    pass(door, 0);
}

static void pass_1(void *door)
{
    pass(door, 1);
}

static void pass_0_twice(void *door)
{
    pass(door, 0);
    pass(door, 0);
}

static void close_once(void *door)
{
    struct door *d = door;

    if (!gate_close(&d->gate, FOR_EVER))
        sched_fail("nobody stays inside, and the gate was not closed");
    for (unsigned look = 0; look < 2; look++)
        if (atomic_load(&d->inside) != 0)
            sched_fail("somebody is inside a closed gate");
    gate_open(&d->gate);
}

static void close_twice(void *door)
{
    close_once(door);
    close_once(door);
}

static const struct scenario closed_again = {
    .name = "a writer at a gate that is closed, opened and closed again",
    .preemptions = 5,
    .preemptions_long = 8,
    .setup = door_new,
    .bodies = {close_twice, pass_0},
    .finish = door_finish,
};

static const struct scenario two_connections = {
    .name = "writers of two connections at a gate",
    .preemptions = 3,
    .preemptions_long = 5,
    .setup = door_new,
    .bodies = {close_once, pass_0, pass_1},
    .finish = door_finish,
};

static const struct scenario one_connection = {
    .name = "two threads of one connection at a gate",
    .preemptions = 3,
    .preemptions_long = 5,
    .setup = door_new,
    .bodies = {close_once, pass_0_twice, pass_0},
    .finish = door_finish,
};

/* A closer whose time has run out leaves an open gate behind. */
static void run_out_of_time(void *door)
{
    struct door *d = door;

    gate_enter(&d->slots[0]);
    if (gate_close(&d->gate, g_get_monotonic_time()))
        sched_fail("the gate was closed with somebody inside");
    pass(d, 1);
    gate_leave(&d->slots[0]);
    if (!gate_close(&d->gate, g_get_monotonic_time()))
        sched_fail("the gate was not closed with nobody inside");
    gate_open(&d->gate);
    pass(d, 1);
}

static const struct scenario out_of_time = {
    .name = "a closer whose time has run out",
    .setup = door_new,
    .bodies = {run_out_of_time},
    .finish = door_finish,
};

/* ---- the gate, told when it is drained ---- */

static void drained(void *opaque)
{
    struct drain *n = opaque;

    if (atomic_load(&n->door->inside) != 0)
        sched_fail("drained, and somebody is inside");
    n->calls++;
    atomic_store(&n->called, 1);
    futex_wake_all(&n->called);
}

static void expect_calls(const struct drain *n, unsigned calls)
{
    if (n->calls != calls)
        sched_fail("drained was called %u times, not %u", n->calls, calls);
}

/* Shut the gate, and wait for the call if somebody is inside. */
static void drain_and_open(struct door *d, struct drain *n)
{
    bool empty;

    gate_shut(&d->gate);
    empty = gate_drain_start(&d->gate, drained, n);
    while (!empty && !atomic_load(&n->called))
        futex_wait(&n->called, 0, NULL);
    if (atomic_load(&d->inside) != 0)
        sched_fail("somebody is inside a drained gate");
    gate_open(&d->gate);
    expect_calls(n, empty ? 0 : 1);
    if (gate_drain_cancel(&d->gate))
        sched_fail("a drain that is over was cancelled");
}

static void drain_twice(void *door)
{
    struct door *d = door;

    drain_and_open(d, &d->drains[0]);
    drain_and_open(d, &d->drains[1]);
}

static void drain_once(void *door)
{
    struct door *d = door;

    drain_and_open(d, &d->drains[0]);
}

/* Start a drain and cancel it. If its call has not come by then, it never comes. The second drain
 * makes the others leave at a shut gate once more, where a late call would come. */
static void cancel_and_drain(void *door)
{
    struct door *d = door;
    struct drain *first = &d->drains[0];
    bool empty, cancelled;
    unsigned calls;

    gate_shut(&d->gate);
    empty = gate_drain_start(&d->gate, drained, first);
    cancelled = gate_drain_cancel(&d->gate);
    calls = first->calls;
    if (empty && (calls > 0 || cancelled))
        sched_fail("nobody was inside, and the drain went on");
    if (!empty && calls != (cancelled ? 0 : 1))
        sched_fail("a drain was called %u times, and cancelled: %d", calls, cancelled);
    if (cancelled)
        sched_step("cancelled", 0);
    gate_open(&d->gate);
    drain_and_open(d, &d->drains[1]);
    expect_calls(first, calls);
}

static const struct scenario drain_starts = {
    .name = "a drain starts while the last writer leaves",
    .preemptions = 4,
    .preemptions_long = 6,
    .setup = door_new,
    .bodies = {drain_twice, pass_0},
    .finish = door_finish,
};

static const struct scenario drain_of_two = {
    .name = "two connections leave a gate that is drained",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = door_new,
    .bodies = {drain_once, pass_0, pass_1},
    .finish = door_finish,
};

static const struct scenario drain_cancelled = {
    .name = "a drain is cancelled while the last writer leaves, and another follows",
    .preemptions = 4,
    .preemptions_long = 6,
    .setup = door_new,
    .bodies = {cancel_and_drain, pass_0_twice},
    .finish = door_finish,
};

static const struct scenario drain_cancelled_of_two = {
    .name = "a drain of two connections is cancelled, and another follows",
    .preemptions = 2,
    .preemptions_long = 3,
    .setup = door_new,
    .bodies = {cancel_and_drain, pass_0, pass_1},
    .finish = door_finish,
};

/* ---- the grace ---- */

/* Readers find the object number `current`. Those before it have been taken away, and each is freed
 * after a grace. */
struct room {
    struct grace grace;
    atomic_uint current;
    bool freed[3];
    atomic_uint waits; /* that are under way */
};

static void *room_new(void)
{
    struct room *r = g_new0(struct room, 1);

    grace_init(&r->grace);
    return r;
}

static void room_finish(void *room)
{
    struct room *r = room;

    grace_destroy(&r->grace);
    g_free(r);
}

static void read_room(void *room)
{
    struct room *r = room;
    unsigned phase = grace_enter(&r->grace), found;

    /* While nobody waits, a reader is counted under the current phase. The next wait turns the
     * phase and waits for the readers of the phase before, so it would miss any other reader. */
    if (atomic_load(&r->waits) == 0 && (atomic_load(&r->grace.phase) & 1) != phase &&
        atomic_load(&r->waits) == 0)
        sched_fail("a reader is counted under a phase that is over");
    found = atomic_load(&r->current);
    for (unsigned look = 0; look < 2; look++) {
        sched_step("reading", (int)look);
        if (r->freed[found])
            sched_fail("what a reader holds was freed");
    }
    grace_leave(&r->grace, phase);
}

static void replace(void *room)
{
    struct room *r = room;
    unsigned old = atomic_fetch_add(&r->current, 1);

    atomic_fetch_add(&r->waits, 1);
    grace_wait(&r->grace);
    r->freed[old] = true;
    atomic_fetch_sub(&r->waits, 1);
}

static void replace_twice(void *room)
{
    replace(room);
    replace(room);
}

static const struct scenario phase_turns_twice = {
    .name = "a reader enters the grace while its phase turns twice",
    .preemptions = 4,
    .preemptions_long = 7,
    .setup = room_new,
    .bodies = {replace_twice, read_room},
    .finish = room_finish,
};

static const struct scenario two_readers = {
    .name = "two readers and a thread that waits for them",
    .preemptions = 3,
    .preemptions_long = 5,
    .setup = room_new,
    .bodies = {replace, read_room, read_room},
    .finish = room_finish,
};

static const struct scenario two_waiters = {
    .name = "a reader and two threads that wait for it",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = room_new,
    .bodies = {replace, replace, read_room},
    .finish = room_finish,
};

static void note_call(void *opaque)
{
    unsigned *calls = opaque;

    (*calls)++;
}

static void expect(bool right, const char *what)
{
    if (!right)
        sched_fail("%s", what);
}

static void call_later(void *room)
{
    struct room *r = room;
    unsigned first = grace_enter(&r->grace), second, third, a = 0, b = 0, c = 0;

    grace_call(&r->grace, note_call, &a);
    second = grace_enter(&r->grace);
    expect(second != first, "a later reader is counted like one that was there before the call");
    grace_call(&r->grace, note_call, &b);
    grace_leave(&r->grace, second);
    expect(a == 0 && b == 0, "a call came while a reader from before it was inside");
    third = grace_enter(&r->grace);
    grace_leave(&r->grace, first);
    expect(a == 1, "the last reader has left, and there was no call");
    grace_leave(&r->grace, third);
    expect(a == 1 && b == 1, "the second call did not come, or the first came twice");
    grace_call(&r->grace, note_call, &c);
    expect(c == 1, "a call waited although no reader is inside");
    grace_wait(&r->grace);
}

static const struct scenario calls_later = {
    .name = "calls that wait for readers, one after the other",
    .setup = room_new,
    .bodies = {call_later},
    .finish = room_finish,
};

static void call_slowly(void *opaque)
{
    sched_step("calling", 0);
    note_call(opaque);
}

/* No reader is inside, so this thread makes its call at once, also while another makes calls. */
static void call_now(void *room)
{
    struct room *r = room;

    for (unsigned i = 0; i < 2; i++) {
        unsigned calls = 0;

        grace_call(&r->grace, call_slowly, &calls);
        expect(calls == 1, "a call was left to another thread");
    }
}

static const struct scenario own_calls = {
    .name = "each thread makes the calls that it has made ready",
    .preemptions = 3,
    .preemptions_long = 5,
    .setup = room_new,
    .bodies = {call_now, call_now},
    .finish = room_finish,
};

/* Two calls of one thread. Others may make the first while this thread asks for the second. */
static void take_away(void *room)
{
    struct room *r = room;
    unsigned calls[2] = {0};

    atomic_fetch_add(&r->waits, 1);
    grace_call(&r->grace, call_slowly, &calls[0]);
    grace_call(&r->grace, call_slowly, &calls[1]);
    grace_wait(&r->grace);
    atomic_fetch_sub(&r->waits, 1);
    expect(calls[0] == 1 && calls[1] == 1, "a wait ended before an earlier call was made");
}

static const struct scenario wait_for_calls = {
    .name = "a wait for the grace lasts until earlier calls are made, by any thread",
    .preemptions = 3,
    .preemptions_long = 4,
    .setup = room_new,
    .bodies = {take_away, read_room, read_room},
    .finish = room_finish,
};

static const struct scenario *const scenarios[] = {
    &closed_again,      &two_connections, &one_connection,  &out_of_time,
    &drain_starts,      &drain_of_two,    &drain_cancelled, &drain_cancelled_of_two,
    &phase_turns_twice, &two_readers,     &two_waiters,     &calls_later,
    &own_calls,         &wait_for_calls,
};

static void test_scenario(gconstpointer scenario)
{
    sched_explore(scenario);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(scenarios); i++) {
        g_autofree char *path = g_strdup_printf("/gate/%s", scenarios[i]->name);

        g_test_add_data_func(path, scenarios[i], test_scenario);
    }
    return g_test_run();
}
