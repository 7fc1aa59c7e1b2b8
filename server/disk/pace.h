/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Is a backend quick enough to be called inline, on the thread that also receives? A moving average
 * of how long its calls take says so: below PACE_QUICK_NS a hand-over to a worker would cost more
 * than it saves. Racy by intent: a lost sample does not matter.
 */
#ifndef SERVER_DISK_PACE_H
#define SERVER_DISK_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#define PACE_QUICK_NS 60000u
/* One sample counts at most this much, so that being preempted once does not look like a disk. */
#define PACE_CLIP_NS 400000u

struct pace {
    _Atomic uint32_t average_ns;
};

static inline bool pace_quick(const struct pace *p)
{
    return atomic_load_explicit(&p->average_ns, memory_order_relaxed) < PACE_QUICK_NS;
}

static inline uint64_t pace_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A call that moved `length` bytes began at `start`. Big requests may take longer: what counts is
 * the time they take beyond copying memory, reckoned as 4 GB/s. */
static inline void pace_note(struct pace *p, uint64_t start, uint64_t length)
{
    uint64_t took = pace_now() - start, copying = length / 4;
    uint32_t sample = took <= copying                 ? 0
                      : took - copying < PACE_CLIP_NS ? (uint32_t)(took - copying)
                                                      : PACE_CLIP_NS;
    uint32_t average = atomic_load_explicit(&p->average_ns, memory_order_relaxed);

    atomic_store_explicit(&p->average_ns, average - average / 8 + sample / 8, memory_order_relaxed);
}

#endif
