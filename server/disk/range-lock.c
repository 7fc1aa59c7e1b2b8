/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/range-lock.h"

void range_lock_init(struct range_lock *l)
{
    *l = (struct range_lock){.ranges = G_QUEUE_INIT};
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->left, NULL);
}

void range_lock_destroy(struct range_lock *l)
{
    g_assert(g_queue_is_empty(&l->ranges));
    pthread_cond_destroy(&l->left);
    pthread_mutex_destroy(&l->lock);
}

/* Is a range that came before r in its way? Under the lock. */
static bool is_blocked(const struct range_lock *l, const struct held_range *r)
{
    if (!r->alone && l->alone == 0)
        return false;
    for (const GList *i = l->ranges.head; i != &r->link; i = i->next) {
        const struct held_range *other = i->data;

        if ((r->alone || other->alone) && other->begin < r->end && r->begin < other->end)
            return true;
    }
    return false;
}

void range_take(struct range_lock *l, struct held_range *r, uint64_t begin, uint64_t end,
                bool alone)
{
    *r = (struct held_range){.link = {.data = r}, .begin = begin, .end = end, .alone = alone};
    pthread_mutex_lock(&l->lock);
    g_queue_push_tail_link(&l->ranges, &r->link);
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
    g_queue_unlink(&l->ranges, &r->link);
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
