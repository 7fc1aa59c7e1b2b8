/* SPDX-License-Identifier: BSD-3-Clause */
/* What entries do not refer to any more, in the order in which it was given up. Any thread: a lock of its own,
 * which is a leaf. */
#ifndef COMMON_LIVE_LIVE_GIVEN_UP_H
#define COMMON_LIVE_LIVE_GIVEN_UP_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_range {
    uint64_t host, bytes;
};

struct live_given_up {
    pthread_mutex_t lock;
    struct live_range *ranges;
    size_t n, room;
    uint64_t ever; /* ranges that have been in the list */
    bool told;     /* that it was full */
};

void live_given_up_init(struct live_given_up *g);
void live_given_up_clear(struct live_given_up *g);

/* 0; -1: there is no room for it, which is forgotten. *tell: for the first time. */
int live_given_up_add(struct live_given_up *g, uint64_t host, uint64_t bytes, bool *tell);
uint64_t live_given_up_ever(struct live_given_up *g);
/* Take those out of the list that are among the first `ever` of all; sorted by place. *n: how many. The
 * caller frees them. NULL: none, or no memory, and then they stay. */
struct live_range *live_given_up_take(struct live_given_up *g, uint64_t ever, size_t *n);

#endif
