/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Put in front of each file of server/disk/ (gcc -include): see sched.h. With SCHED_BITMAP it is
 * for common/base/bitmap.c.
 */
#ifndef TESTS_RIGS_SCHED_INSTRUMENT_H
#define TESTS_RIGS_SCHED_INSTRUMENT_H

#include "config.h"

#include "common/base/bitmap.h"
#include "tests/rigs/sched.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>

#define STEP() sched_step(__func__, __LINE__)

#undef atomic_load
#undef atomic_store
#undef atomic_exchange
#undef atomic_fetch_add
#undef atomic_fetch_sub
#undef atomic_compare_exchange_strong
#undef atomic_compare_exchange_weak
#define SC                     memory_order_seq_cst
#define atomic_load(p)         (STEP(), atomic_load_explicit(p, SC))
#define atomic_store(p, v)     (STEP(), atomic_store_explicit(p, v, SC))
#define atomic_exchange(p, v)  (STEP(), atomic_exchange_explicit(p, v, SC))
#define atomic_fetch_add(p, v) (STEP(), atomic_fetch_add_explicit(p, v, SC))
#define atomic_fetch_sub(p, v) (STEP(), atomic_fetch_sub_explicit(p, v, SC))
#define atomic_compare_exchange_strong(p, e, v)                                                    \
    (STEP(), atomic_compare_exchange_strong_explicit(p, e, v, SC, SC))
#define atomic_compare_exchange_weak(p, e, v)                                                      \
    (STEP(), atomic_compare_exchange_strong_explicit(p, e, v, SC, SC))

/* Nobody waits so long that time runs out. */
#define futex_wait(w, value, ...) sched_wait(w, value, __func__, __LINE__)
#define futex_wake_all(w)         sched_wake(w, __func__, __LINE__)

#define pthread_mutex_lock(m) sched_mutex_lock(m, __func__, __LINE__)
#define pthread_mutex_timedlock(m, until)                                                          \
    ((void)(until), sched_mutex_lock(m, __func__, __LINE__), 0)
#define pthread_mutex_unlock(m)   sched_mutex_unlock(m)
#define pthread_cond_wait(c, m)   sched_cond_wait(c, m, __func__, __LINE__)
#define pthread_cond_broadcast(c) sched_cond_broadcast(c, __func__, __LINE__)

#define g_private_get(key)    ((void)(key), sched_private_get())
#define g_private_set(key, p) ((void)(key), sched_private_set(p))

/* Small maps need no kernel: a run takes half the time. */
#define mmap(address, length, ...) calloc(1, length)
#define munmap(p, length)          free(p)
#define madvise(p, length, advice) 0

#ifdef SCHED_BITMAP
#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_fetch_or_explicit
#define atomic_load_explicit(p, order)     (STEP(), __atomic_load_n((uint64_t *)(p), __ATOMIC_SEQ_CST))
#define atomic_store_explicit(p, v, order) sched_store((uint64_t *)(p), v, __func__, __LINE__)
#define atomic_fetch_or_explicit(p, v, order)                                                      \
    (STEP(), __atomic_fetch_or((uint64_t *)(p), v, __ATOMIC_SEQ_CST))

/* A function, so that what is stored is computed before the step. */
static inline void sched_store(uint64_t *word, uint64_t value, const char *where, int line)
{
    sched_step(where, line);
    __atomic_store_n(word, value, __ATOMIC_SEQ_CST);
}
#else
/* Bitmaps have a test of their own; beside a disk each operation on one is a single step. */
#define bitmap_set(b, offset, length) (STEP(), bitmap_set(b, offset, length))
#define bitmap_merge(b, from)         (STEP(), bitmap_merge(b, from))
#define bitmap_next_dirty(b, offset, end, start, length)                                           \
    (STEP(), bitmap_next_dirty(b, offset, end, start, length))
#endif

#endif
