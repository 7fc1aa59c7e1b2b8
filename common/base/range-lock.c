/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/range-lock.h"

#include <assert.h>
#include <stddef.h>

void range_lock_init(struct range_lock *l)
{
    *l = (struct range_lock){.first = NULL};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->left, NULL);
}

void range_lock_destroy(struct range_lock *l)
{
    assert(!l->first);
    pthread_cond_destroy(&l->left);
    pthread_mutex_destroy(&l->lock);
}

/* Is a range that came before r in its way? Under the lock. */
static bool is_blocked(const struct range_lock *l, const struct held_range *r)
{
    if (!r->alone && l->alone == 0)
        return false;
    for (const struct held_range *i = l->first; i != r; i = i->after)
        if ((r->alone || i->alone) && i->begin < r->end && r->begin < i->end)
            return true;
    return false;
}

static void link_last(struct range_lock *l, struct held_range *r)
{
    r->before = l->last;
    *(l->last ? &l->last->after : &l->first) = r;
    l->last = r;
}

static void unlink_range(struct range_lock *l, struct held_range *r)
{
    *(r->before ? &r->before->after : &l->first) = r->after;
    *(r->after ? &r->after->before : &l->last) = r->before;
}

void range_take(struct range_lock *l, struct held_range *r, uint64_t begin, uint64_t end,
                bool alone)
{
    *r = (struct held_range){.begin = begin, .end = end, .alone = alone};
    pthread_mutex_lock(&l->lock);
    link_last(l, r);
    l->alone += alone;
    while (is_blocked(l, r)) {
        l->waiting++;
        pthread_cond_wait(&l->left, &l->lock);
        l->waiting--;
    }
    pthread_mutex_unlock(&l->lock);
}

void range_release(struct range_lock *l, struct held_range *r)
{
    pthread_mutex_lock(&l->lock);
    unlink_range(l, r);
    l->alone -= r->alone;
    if (l->waiting > 0)
        pthread_cond_broadcast(&l->left);
    pthread_mutex_unlock(&l->lock);
}

unsigned range_lock_waiting(struct range_lock *l)
{
    unsigned waiting;

    pthread_mutex_lock(&l->lock);
    waiting = l->waiting;
    pthread_mutex_unlock(&l->lock);
    return waiting;
}
