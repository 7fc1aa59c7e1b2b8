/* SPDX-License-Identifier: BSD-3-Clause */
/* What ld --wrap makes of functions that wait, or that tell the time: see sim-threads.h. */
#include "tests/rigs/sim-turns.h"

#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <sys/syscall.h>
#include <time.h>

/* The real function, and what is called in its place. */
#define REAL(result, name, ...)                                                                    \
    result __real_##name(__VA_ARGS__);                                                             \
    result __wrap_##name(__VA_ARGS__)

REAL(int, pthread_mutex_lock, pthread_mutex_t *m);
REAL(int, pthread_mutex_unlock, pthread_mutex_t *m);
REAL(int, pthread_mutex_timedlock, pthread_mutex_t *m, const struct timespec *until);
REAL(int, pthread_cond_wait, pthread_cond_t *c, pthread_mutex_t *m);
REAL(int, pthread_cond_timedwait, pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t);
REAL(int, pthread_cond_clockwait, pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
     const struct timespec *t);
REAL(int, pthread_cond_signal, pthread_cond_t *c);
REAL(int, pthread_cond_broadcast, pthread_cond_t *c);
REAL(int, pthread_create, pthread_t *p, const pthread_attr_t *a, void *(*body)(void *), void *o);
REAL(int, pthread_join, pthread_t p, void **result);
REAL(void, g_mutex_lock, GMutex *m);
REAL(void, g_mutex_unlock, GMutex *m);
REAL(void, g_cond_wait, GCond *c, GMutex *m);
REAL(gboolean, g_cond_wait_until, GCond *c, GMutex *m, gint64 until);
REAL(void, g_cond_signal, GCond *c);
REAL(void, g_cond_broadcast, GCond *c);
REAL(GThread *, g_thread_new, const char *name, GThreadFunc body, void *opaque);
REAL(GThread *, g_thread_try_new, const char *name, GThreadFunc body, void *opaque, GError **err);
REAL(void *, g_thread_join, GThread *t);
REAL(int, clock_gettime, clockid_t clock, struct timespec *t);
REAL(gint64, g_get_monotonic_time, void);
REAL(gint64, g_get_real_time, void);
REAL(void, g_usleep, gulong microseconds);
REAL(int, nanosleep, const struct timespec *t, struct timespec *rest);
REAL(long, syscall, long number, ...);

/* ---- clocks ---- */

/* A moment of CLOCK_REALTIME or CLOCK_MONOTONIC, by our clock. */
static int64_t moment(const struct timespec *t)
{
    int64_t ns = t->tv_sec * SIM_SECOND + t->tv_nsec;

    return ns >= SIM_CLOCK_BASE / 2 ? ns - SIM_CLOCK_BASE - sim_turns.jumped : ns - SIM_MONO_BASE;
}

static int64_t read_clock(clockid_t clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        return sim_clock();
    case CLOCK_BOOTTIME:
        return sim_turns.now - sim_turns.booted;
    default:
        return SIM_MONO_BASE + sim_turns.now;
    }
}

/* Reading a clock takes a moment, so that no two readings are equal. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    int64_t ns;

    if (!sim_self)
        return __real_clock_gettime(clock, t);
    sim_turns.now++;
    ns = read_clock(clock);
    t->tv_sec = ns / SIM_SECOND;
    t->tv_nsec = ns % SIM_SECOND;
    return 0;
}

gint64 __wrap_g_get_monotonic_time(void)
{
    return sim_self ? (SIM_MONO_BASE + sim_turns.now) / 1000 : __real_g_get_monotonic_time();
}

gint64 __wrap_g_get_real_time(void)
{
    return sim_self ? sim_clock() / 1000 : __real_g_get_real_time();
}

void __wrap_g_usleep(gulong microseconds)
{
    if (sim_self)
        sim_threads_sleep((int64_t)microseconds * 1000);
    else
        __real_g_usleep(microseconds);
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *rest)
{
    if (!sim_self)
        return __real_nanosleep(t, rest);
    sim_threads_sleep(t->tv_sec * SIM_SECOND + t->tv_nsec);
    return 0;
}

/* ---- locks ---- */

static int lock_until(pthread_mutex_t *m, int64_t until)
{
    int error;

    while ((error = pthread_mutex_trylock(m)) == EBUSY)
        if (!sim_wait(m, until))
            return ETIMEDOUT;
    return error;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    return sim_self ? lock_until(m, SIM_NEVER) : __real_pthread_mutex_lock(m);
}

int __wrap_pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
    return sim_self ? lock_until(m, moment(until)) : __real_pthread_mutex_timedlock(m, until);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    int error = __real_pthread_mutex_unlock(m);

    if (sim_self)
        sim_wake(m, true);
    return error;
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until)
{
    bool in_time;

    __wrap_pthread_mutex_unlock(m);
    in_time = sim_wait(c, until);
    lock_until(m, SIM_NEVER);
    return in_time ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return sim_self ? cond_wait(c, m, SIM_NEVER) : __real_pthread_cond_wait(c, m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t)
{
    return sim_self ? cond_wait(c, m, moment(t)) : __real_pthread_cond_timedwait(c, m, t);
}

int __wrap_pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                                  const struct timespec *t)
{
    return sim_self ? cond_wait(c, m, moment(t)) : __real_pthread_cond_clockwait(c, m, clock, t);
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    if (sim_self)
        sim_wake(c, false);
    return __real_pthread_cond_signal(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    if (sim_self)
        sim_wake(c, true);
    return __real_pthread_cond_broadcast(c);
}

void __wrap_g_mutex_lock(GMutex *m)
{
    if (!sim_self) {
        __real_g_mutex_lock(m);
        return;
    }
    while (!g_mutex_trylock(m))
        sim_wait(m, SIM_NEVER);
}

void __wrap_g_mutex_unlock(GMutex *m)
{
    __real_g_mutex_unlock(m);
    if (sim_self)
        sim_wake(m, true);
}

gboolean __wrap_g_cond_wait_until(GCond *c, GMutex *m, gint64 until)
{
    bool in_time;

    if (!sim_self)
        return __real_g_cond_wait_until(c, m, until);
    __wrap_g_mutex_unlock(m);
    in_time = sim_wait(c, until == G_MAXINT64 ? SIM_NEVER : until * 1000 - SIM_MONO_BASE);
    __wrap_g_mutex_lock(m);
    return in_time;
}

void __wrap_g_cond_wait(GCond *c, GMutex *m)
{
    if (sim_self)
        __wrap_g_cond_wait_until(c, m, G_MAXINT64);
    else
        __real_g_cond_wait(c, m);
}

void __wrap_g_cond_signal(GCond *c)
{
    if (sim_self)
        sim_wake(c, false);
    __real_g_cond_signal(c);
}

void __wrap_g_cond_broadcast(GCond *c)
{
    if (sim_self)
        sim_wake(c, true);
    __real_g_cond_broadcast(c);
}

/* futex(2), the one system call that is made by its number. */
static long futex(uint32_t *word, int op, uint32_t value, const struct timespec *t)
{
    switch (op & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
        if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) {
            errno = EAGAIN;
            return -1;
        }
        if (sim_wait(word, !t ? SIM_NEVER
                           : (op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET
                               ? moment(t)
                               : sim_turns.now + t->tv_sec * SIM_SECOND + t->tv_nsec))
            return 0;
        errno = ETIMEDOUT;
        return -1;
    default:
        sim_wake(word, true);
        return 0;
    }
}

long __wrap_syscall(long number, ...)
{
    long a[6];
    va_list list;

    va_start(list, number);
    for (unsigned k = 0; k < G_N_ELEMENTS(a); k++)
        a[k] = va_arg(list, long);
    va_end(list);
    if (sim_self && number == SYS_futex)
        return futex((uint32_t *)a[0], (int)a[1], (uint32_t)a[2], (const struct timespec *)a[3]);
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- threads ---- */

static void *run_thread(void *opaque)
{
    struct sim_thread *t = opaque;
    void *result;

    sim_self = t;
    sim_turn_take(t);
    result = t->body(t->opaque);
    t->state = SIM_ENDED;
    sim_wake(t, true);
    sim_turn_pass();
    return result;
}

static struct sim_thread *thread_with(GThreadFunc body, void *opaque)
{
    struct sim_thread *t = sim_thread_new();

    t->body = body;
    t->opaque = opaque;
    return t;
}

GThread *__wrap_g_thread_try_new(const char *name, GThreadFunc body, void *opaque, GError **err)
{
    struct sim_thread *t;

    if (!sim_self)
        return __real_g_thread_try_new(name, body, opaque, err);
    t = thread_with(body, opaque);
    t->g = __real_g_thread_try_new(name, run_thread, t, err);
    if (!t->g)
        sim_thread_forget(t);
    return t->g;
}

GThread *__wrap_g_thread_new(const char *name, GThreadFunc body, void *opaque)
{
    return sim_self ? __wrap_g_thread_try_new(name, body, opaque, NULL)
                    : __real_g_thread_new(name, body, opaque);
}

int __wrap_pthread_create(pthread_t *p, const pthread_attr_t *a, void *(*body)(void *), void *o)
{
    struct sim_thread *t;
    int error;

    if (!sim_self)
        return __real_pthread_create(p, a, body, o);
    t = thread_with(body, o);
    error = __real_pthread_create(&t->p, a, run_thread, t);
    if (error)
        sim_thread_forget(t);
    else
        *p = t->p;
    return error;
}

static struct sim_thread *find_thread(GThread *g, const pthread_t *p)
{
    for (unsigned k = 0; k < sim_turns.threads->len; k++) {
        struct sim_thread *t = sim_turns.threads->pdata[k];

        if (g ? t->g == g : p && !t->g && t != sim_self && t->p == *p)
            return t;
    }
    return NULL;
}

static void wait_for_end(struct sim_thread *t)
{
    while (t->state != SIM_ENDED)
        sim_wait(t, SIM_NEVER);
    sim_thread_forget(t);
}

void *__wrap_g_thread_join(GThread *g)
{
    struct sim_thread *t = sim_self ? find_thread(g, NULL) : NULL;

    if (t)
        wait_for_end(t);
    return __real_g_thread_join(g);
}

int __wrap_pthread_join(pthread_t p, void **result)
{
    struct sim_thread *t = sim_self ? find_thread(NULL, &p) : NULL;

    if (t)
        wait_for_end(t);
    return __real_pthread_join(p, result);
}
