/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-given-up.h"

#include <stdlib.h>
#include <string.h>

#define MOST  100000 /* ranges that are remembered */
#define FIRST 64

void live_given_up_init(struct live_given_up *g)
{
    memset(g, 0, sizeof(*g));
    pthread_mutex_init(&g->lock, NULL);
}

void live_given_up_clear(struct live_given_up *g)
{
    pthread_mutex_destroy(&g->lock);
    free(g->ranges);
    g->ranges = NULL;
}

static int make_room(struct live_given_up *g)
{
    size_t room = g->room ? 2 * g->room : FIRST;
    struct live_range *ranges;

    if (g->n >= MOST)
        return -1;
    if (g->n < g->room)
        return 0;
    ranges = realloc(g->ranges, room * sizeof(*ranges));
    if (!ranges)
        return -1;
    g->ranges = ranges;
    g->room = room;
    return 0;
}

int live_given_up_add(struct live_given_up *g, uint64_t host, uint64_t bytes, bool *tell)
{
    int r;

    pthread_mutex_lock(&g->lock);
    r = make_room(g);
    *tell = r < 0 && !g->told;
    if (r < 0) {
        g->told = true;
    } else {
        g->ranges[g->n++] = (struct live_range){host, bytes};
        g->ever++;
    }
    pthread_mutex_unlock(&g->lock);
    return r;
}

uint64_t live_given_up_ever(struct live_given_up *g)
{
    uint64_t ever;

    pthread_mutex_lock(&g->lock);
    ever = g->ever;
    pthread_mutex_unlock(&g->lock);
    return ever;
}

static struct live_range *take(struct live_given_up *g, uint64_t ever, size_t *n)
{
    uint64_t before = g->ever - g->n; /* the first one of the list is this one of all */
    struct live_range *ranges;

    *n = ever <= before ? 0 : (size_t)(ever - before);
    if (*n > g->n)
        *n = g->n;
    ranges = *n ? malloc(*n * sizeof(*ranges)) : NULL;
    if (!ranges)
        return NULL;
    memcpy(ranges, g->ranges, *n * sizeof(*ranges));
    g->n -= *n;
    memmove(g->ranges, g->ranges + *n, g->n * sizeof(*ranges));
    return ranges;
}

static int compare(const void *a, const void *b)
{
    const struct live_range *x = a, *y = b;

    return x->host < y->host ? -1 : x->host > y->host;
}

struct live_range *live_given_up_take(struct live_given_up *g, uint64_t ever, size_t *n)
{
    struct live_range *ranges;

    pthread_mutex_lock(&g->lock);
    ranges = take(g, ever, n);
    pthread_mutex_unlock(&g->lock);
    if (ranges)
        qsort(ranges, *n, sizeof(*ranges), compare);
    else
        *n = 0;
    return ranges;
}
