/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/busy-poll.h"

#include <fcntl.h>
#include <glib.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned processors_allowed(unsigned otherwise)
{
    cpu_set_t set;

    return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : otherwise;
}

void poll_budget_init(struct poll_budget *b, uint64_t max_ns)
{
    long online = sysconf(_SC_NPROCESSORS_ONLN);

    memset(b, 0, sizeof *b);
    b->max_ns = max_ns;
    b->processors = online > 0 ? (unsigned)online : 1;
    b->pollers_max = MIN(b->processors, processors_allowed(b->processors)) / 2;
    b->loadavg = max_ns > 0 ? open("/proc/loadavg", O_RDONLY | O_CLOEXEC) : -1;
}

void poll_budget_destroy(struct poll_budget *b)
{
    if (b->loadavg >= 0)
        close(b->loadavg);
}

/* The number of threads of this machine that run or could run: the first part of the fourth field,
 * see proc(5). 0: unknown. */
static unsigned runnable_threads(int loadavg)
{
    char text[80], *field = text;
    ssize_t n = pread(loadavg, text, sizeof text - 1, 0);

    if (n <= 0)
        return 0;
    text[n] = '\0';
    for (unsigned i = 0; i < 3 && field; i++) {
        field = strchr(field, ' ');
        field = field ? field + 1 : NULL;
    }
    return field ? (unsigned)strtoul(field, NULL, 10) : 0;
}

/* A thread that finds the last look too old looks itself; the others use the result. */
static bool is_crowded(struct poll_budget *b, uint64_t now)
{
    uint64_t checked = atomic_load_explicit(&b->checked_ns, memory_order_relaxed);

    if (b->loadavg < 0)
        return true;
    if (now - checked >= CROWD_CHECK_NS &&
        atomic_compare_exchange_strong(&b->checked_ns, &checked, now)) {
        unsigned runnable = runnable_threads(b->loadavg);
        unsigned crowds = atomic_load_explicit(&b->crowds, memory_order_relaxed);
        bool crowd = runnable == 0 || runnable > b->processors;
        atomic_store_explicit(&b->crowds, crowd ? MIN(crowds + 1, 2) : 0, memory_order_relaxed);
    }
    return atomic_load_explicit(&b->crowds, memory_order_relaxed) >= 2;
}

static bool take_place(struct poll_budget *b)
{
    if (atomic_fetch_add_explicit(&b->pollers, 1, memory_order_relaxed) < b->pollers_max)
        return true;
    atomic_fetch_sub_explicit(&b->pollers, 1, memory_order_relaxed);
    return false;
}

void busy_poll_init(struct busy_poll *p)
{
    *p = (struct busy_poll){.points = POLL_POINTS_TRY, .pause = POLL_PAUSE_MIN};
}

void busy_poll_account(const struct busy_poll *p, struct poll_budget *b)
{
    atomic_fetch_add_explicit(&b->hits, p->hits, memory_order_relaxed);
    atomic_fetch_add_explicit(&b->misses, p->misses, memory_order_relaxed);
}

bool busy_poll_begin(struct busy_poll *p, struct poll_budget *b, uint64_t now)
{
    return b->max_ns > 0 && p->points > 0 && !is_crowded(b, now) && take_place(b);
}

void busy_poll_end(struct busy_poll *p, struct poll_budget *b, bool hit)
{
    atomic_fetch_sub_explicit(&b->pollers, 1, memory_order_relaxed);
    if (hit) {
        p->hits++;
        p->points = MIN(p->points + 1, POLL_POINTS_MAX);
        if (p->points == POLL_POINTS_MAX)
            p->pause = POLL_PAUSE_MIN;
        return;
    }
    p->misses++;
    p->points -= MIN(p->points, 2);
    if (p->points == 0) {
        p->skip = p->pause;
        p->pause = MIN(p->pause * 2, POLL_PAUSE_MAX);
    }
}

void busy_poll_waited(struct busy_poll *p, const struct poll_budget *b, uint64_t ns)
{
    if (p->points > 0)
        return;
    if (p->skip > 0)
        p->skip--;
    else if (ns < POLL_SHORT * b->max_ns)
        p->points = POLL_POINTS_TRY;
}
