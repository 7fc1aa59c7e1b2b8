/* SPDX-License-Identifier: BSD-3-Clause */
/* Put in front of the files of common/live that slices and commits are made of (gcc -include): see sched.h.
 * Each access to a word of theirs is a step. */
#ifndef TESTS_RIGS_SCHED_SLICES_H
#define TESTS_RIGS_SCHED_SLICES_H

#include "config.h"

#include "tests/rigs/sched.h"

#include <pthread.h>
#include <stdatomic.h>

#define STEP() sched_step(__func__, __LINE__)

/* Nobody's wait fails. */
static inline int sched_cond_waited(pthread_cond_t *c, pthread_mutex_t *m, const char *where,
                                    int line)
{
    sched_cond_wait(c, m, where, line);
    return 0;
}

#undef atomic_load
#undef atomic_store
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#define atomic_load(p)                 (STEP(), __atomic_load_n(p, __ATOMIC_SEQ_CST))
#define atomic_load_explicit(p, order) (STEP(), __atomic_load_n(p, __ATOMIC_SEQ_CST))
/* What is stored is computed before the step. */
#define atomic_store(p, v)                                                                         \
    ({                                                                                             \
        __auto_type sched_value = v;                                                               \
        STEP();                                                                                    \
        __atomic_store_n(p, sched_value, __ATOMIC_SEQ_CST);                                        \
    })
#define atomic_store_explicit(p, v, order)    atomic_store(p, v)
#define atomic_exchange_explicit(p, v, order) (STEP(), __atomic_exchange_n(p, v, __ATOMIC_SEQ_CST))

#define pthread_mutex_lock(m)     sched_mutex_lock(m, __func__, __LINE__)
#define pthread_mutex_unlock(m)   sched_mutex_unlock(m)
#define pthread_cond_wait(c, m)   sched_cond_waited(c, m, __func__, __LINE__)
#define pthread_cond_broadcast(c) sched_cond_broadcast(c, __func__, __LINE__)

#endif
