/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-threads.h"

#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

#define SECOND     INT64_C(1000000000)
#define NEVER      INT64_MAX
#define CLOCK_BASE (INT64_C(1800000000) * SECOND) /* CLOCK_REALTIME at the beginning */
#define MONO_BASE  (1000 * SECOND)
#define LONGEST    (600 * SECOND) /* that a world's threads have to end */

enum state { READY, WAITING, ENDED };

struct thread {
    sem_t turn;
    unsigned number, world;
    enum state state;
    const void *waits_for; /* a lock, a condition, a thread; NULL: for time alone */
    int64_t until;
    bool timed_out;
    GThread *g; /* NULL: the first one, or a pthread */
    pthread_t p;
    GThreadFunc body;
    void *opaque, *result;
};

/* The thread that has the turn alone reads and changes all of this. */
static struct {
    bool on;
    GPtrArray *threads; /* that have not been joined, in order of creation */
    unsigned made, world;
    int64_t now, jumped, booted;
    GRand *rand; /* NULL: no chance */
    double yield;
} sim;

static _Thread_local struct thread *self;

struct saved_world {
    unsigned world;
    int64_t now, jumped, booted;
};
static GArray *worlds;

/* What --wrap makes of the real functions' names. */
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

/* ---- whose turn it is ---- */

static struct thread *thread_at(unsigned k)
{
    return sim.threads->pdata[k];
}

static bool may_run(const struct thread *t)
{
    return t->world == sim.world && t->state == READY;
}

static struct thread *choose(void)
{
    struct thread *found = NULL;
    int n = 0;

    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        if (!may_run(t))
            continue;
        if (!sim.rand)
            return t;
        if (g_rand_int_range(sim.rand, 0, ++n) == 0)
            found = t;
    }
    return found;
}

static _Noreturn void stuck(void)
{
    fprintf(stderr, "all simulated threads of world %u wait for ever:\n", sim.world);
    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        fprintf(stderr, "  thread %u, world %u, state %d, waits for %p\n", t->number, t->world,
                t->state, t->waits_for);
    }
    abort();
}

/* Nobody can run: let time pass until somebody can. */
static void pass_time(void)
{
    struct thread *first = NULL;

    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        if (t->world == sim.world && t->state == WAITING && t->until != NEVER &&
            (!first || t->until < first->until))
            first = t;
    }
    if (!first)
        stuck();
    sim.now = MAX(sim.now, first->until);
    first->timed_out = true;
    first->state = READY;
}

static void take_turn(struct thread *t)
{
    while (sem_wait(&t->turn) < 0)
        ;
}

/* Give the turn to whoever is next; with ENDED, for ever. */
static void pass_turn(void)
{
    struct thread *me = self, *next = choose();

    while (!next) {
        pass_time();
        next = choose();
    }
    if (next == me)
        return;
    sem_post(&next->turn);
    if (me->state != ENDED)
        take_turn(me);
}

/* False: the time is over. */
static bool wait_for(const void *what, int64_t until)
{
    self->waits_for = what;
    self->until = until;
    self->timed_out = false;
    self->state = WAITING;
    pass_turn();
    self->waits_for = NULL;
    return !self->timed_out;
}

static void wake(const void *what, bool all)
{
    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        if (t->state != WAITING || t->waits_for != what)
            continue;
        t->state = READY;
        if (!all)
            return;
    }
}

void sim_threads_yield(void)
{
    if (self && sim.rand && g_rand_double(sim.rand) < sim.yield)
        pass_turn();
}

void sim_threads_sleep(int64_t nanoseconds)
{
    wait_for(NULL, sim.now + nanoseconds);
}

void sim_threads_settle(void)
{
    for (;;) {
        bool others = false;

        for (unsigned k = 0; k < sim.threads->len; k++)
            others |= thread_at(k) != self && may_run(thread_at(k));
        if (!others)
            return;
        sim_threads_sleep(0);
    }
}

/* ---- begin ---- */

static struct thread *thread_new(void)
{
    struct thread *t = g_new0(struct thread, 1);

    sem_init(&t->turn, 0, 0);
    t->number = sim.made++;
    t->world = sim.world;
    t->until = NEVER;
    g_ptr_array_add(sim.threads, t);
    return t;
}

static void thread_forget(struct thread *t)
{
    g_ptr_array_remove(sim.threads, t);
    sem_destroy(&t->turn);
    g_free(t);
}

void sim_threads_begin(void)
{
    sim.threads = g_ptr_array_new();
    worlds = g_array_new(FALSE, FALSE, sizeof(struct saved_world));
    self = thread_new();
    sim.on = true;
}

void sim_threads_chance(uint32_t seed, double yield)
{
    g_clear_pointer(&sim.rand, g_rand_free);
    if (seed || yield > 0)
        sim.rand = g_rand_new_with_seed(seed);
    sim.yield = yield;
}

/* ---- worlds ---- */

void sim_world_enter(void)
{
    static unsigned last;
    struct saved_world w = {sim.world, sim.now, sim.jumped, sim.booted};

    g_array_append_val(worlds, w);
    sim.world = self->world = ++last;
}

static bool alone(void)
{
    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        if (t != self && t->world == sim.world && t->state != ENDED)
            return false;
    }
    return true;
}

/* Those that nobody joins. */
static void forget_ended(void)
{
    for (unsigned k = sim.threads->len; k-- > 0;) {
        struct thread *t = thread_at(k);

        if (t != self && t->world == sim.world && t->state == ENDED)
            thread_forget(t);
    }
}

void sim_world_leave(void)
{
    struct saved_world *w = &g_array_index(worlds, struct saved_world, worlds->len - 1);
    int64_t limit = sim.now + LONGEST;

    while (!alone()) {
        if (sim.now >= limit)
            stuck();
        sim_threads_sleep(SECOND);
    }
    forget_ended();
    sim.world = self->world = w->world;
    sim.now = w->now;
    sim.jumped = w->jumped;
    sim.booted = w->booted;
    g_array_set_size(worlds, worlds->len - 1);
}

/* ---- clocks ---- */

int64_t sim_clock(void)
{
    return CLOCK_BASE + sim.jumped + sim.now;
}

void sim_clock_jump(int64_t nanoseconds)
{
    sim.jumped += nanoseconds;
}

void sim_clock_boot(void)
{
    sim.booted = sim.now;
}

/* A moment of CLOCK_REALTIME or CLOCK_MONOTONIC, by our clock. */
static int64_t moment(const struct timespec *t)
{
    int64_t ns = t->tv_sec * SECOND + t->tv_nsec;

    return ns >= CLOCK_BASE / 2 ? ns - CLOCK_BASE - sim.jumped : ns - MONO_BASE;
}

static int64_t read_clock(clockid_t clock)
{
    switch (clock) {
    case CLOCK_REALTIME:
    case CLOCK_REALTIME_COARSE:
        return sim_clock();
    case CLOCK_BOOTTIME:
        return MONO_BASE + sim.now - sim.booted;
    default:
        return MONO_BASE + sim.now;
    }
}

/* Reading a clock takes a moment, so that no two readings are equal. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *t)
{
    int64_t ns;

    if (!self)
        return __real_clock_gettime(clock, t);
    sim.now++;
    ns = read_clock(clock);
    t->tv_sec = ns / SECOND;
    t->tv_nsec = ns % SECOND;
    return 0;
}

gint64 __wrap_g_get_monotonic_time(void)
{
    return self ? (MONO_BASE + sim.now) / 1000 : __real_g_get_monotonic_time();
}

gint64 __wrap_g_get_real_time(void)
{
    return self ? sim_clock() / 1000 : __real_g_get_real_time();
}

void __wrap_g_usleep(gulong microseconds)
{
    if (self)
        sim_threads_sleep((int64_t)microseconds * 1000);
    else
        __real_g_usleep(microseconds);
}

int __wrap_nanosleep(const struct timespec *t, struct timespec *rest)
{
    if (!self)
        return __real_nanosleep(t, rest);
    sim_threads_sleep(t->tv_sec * SECOND + t->tv_nsec);
    return 0;
}

/* ---- locks ---- */

static int lock_until(pthread_mutex_t *m, int64_t until)
{
    int error;

    while ((error = pthread_mutex_trylock(m)) == EBUSY)
        if (!wait_for(m, until))
            return ETIMEDOUT;
    return error;
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *m)
{
    return self ? lock_until(m, NEVER) : __real_pthread_mutex_lock(m);
}

int __wrap_pthread_mutex_timedlock(pthread_mutex_t *m, const struct timespec *until)
{
    return self ? lock_until(m, moment(until)) : __real_pthread_mutex_timedlock(m, until);
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *m)
{
    int error = __real_pthread_mutex_unlock(m);

    if (self)
        wake(m, true);
    return error;
}

static int cond_wait(pthread_cond_t *c, pthread_mutex_t *m, int64_t until)
{
    bool in_time;

    __wrap_pthread_mutex_unlock(m);
    in_time = wait_for(c, until);
    lock_until(m, NEVER);
    return in_time ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *c, pthread_mutex_t *m)
{
    return self ? cond_wait(c, m, NEVER) : __real_pthread_cond_wait(c, m);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t)
{
    return self ? cond_wait(c, m, moment(t)) : __real_pthread_cond_timedwait(c, m, t);
}

int __wrap_pthread_cond_clockwait(pthread_cond_t *c, pthread_mutex_t *m, clockid_t clock,
                                  const struct timespec *t)
{
    return self ? cond_wait(c, m, moment(t)) : __real_pthread_cond_clockwait(c, m, clock, t);
}

int __wrap_pthread_cond_signal(pthread_cond_t *c)
{
    if (self)
        wake(c, false);
    return __real_pthread_cond_signal(c);
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *c)
{
    if (self)
        wake(c, true);
    return __real_pthread_cond_broadcast(c);
}

void __wrap_g_mutex_lock(GMutex *m)
{
    if (!self) {
        __real_g_mutex_lock(m);
        return;
    }
    while (!g_mutex_trylock(m))
        wait_for(m, NEVER);
}

void __wrap_g_mutex_unlock(GMutex *m)
{
    __real_g_mutex_unlock(m);
    if (self)
        wake(m, true);
}

gboolean __wrap_g_cond_wait_until(GCond *c, GMutex *m, gint64 until)
{
    bool in_time;

    if (!self)
        return __real_g_cond_wait_until(c, m, until);
    __wrap_g_mutex_unlock(m);
    in_time = wait_for(c, until == G_MAXINT64 ? NEVER : until * 1000 - MONO_BASE);
    __wrap_g_mutex_lock(m);
    return in_time;
}

void __wrap_g_cond_wait(GCond *c, GMutex *m)
{
    if (self)
        __wrap_g_cond_wait_until(c, m, G_MAXINT64);
    else
        __real_g_cond_wait(c, m);
}

void __wrap_g_cond_signal(GCond *c)
{
    if (self)
        wake(c, false);
    __real_g_cond_signal(c);
}

void __wrap_g_cond_broadcast(GCond *c)
{
    if (self)
        wake(c, true);
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
        if (wait_for(word, !t ? NEVER
                           : (op & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET
                               ? moment(t)
                               : sim.now + t->tv_sec * SECOND + t->tv_nsec))
            return 0;
        errno = ETIMEDOUT;
        return -1;
    default:
        wake(word, true);
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
    if (self && number == SYS_futex)
        return futex((uint32_t *)a[0], (int)a[1], (uint32_t)a[2], (const struct timespec *)a[3]);
    return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* ---- threads ---- */

static void *run_thread(void *opaque)
{
    struct thread *t = opaque;

    self = t;
    take_turn(t);
    t->result = t->body(t->opaque);
    t->state = ENDED;
    wake(t, true);
    pass_turn();
    return t->result;
}

static struct thread *thread_with(GThreadFunc body, void *opaque)
{
    struct thread *t = thread_new();

    t->body = body;
    t->opaque = opaque;
    return t;
}

GThread *__wrap_g_thread_try_new(const char *name, GThreadFunc body, void *opaque, GError **err)
{
    struct thread *t;

    if (!self)
        return __real_g_thread_try_new(name, body, opaque, err);
    t = thread_with(body, opaque);
    t->g = __real_g_thread_try_new(name, run_thread, t, err);
    if (!t->g)
        thread_forget(t);
    return t->g;
}

GThread *__wrap_g_thread_new(const char *name, GThreadFunc body, void *opaque)
{
    return self ? __wrap_g_thread_try_new(name, body, opaque, NULL)
                : __real_g_thread_new(name, body, opaque);
}

int __wrap_pthread_create(pthread_t *p, const pthread_attr_t *a, void *(*body)(void *), void *o)
{
    struct thread *t;
    int error;

    if (!self)
        return __real_pthread_create(p, a, body, o);
    t = thread_with(body, o);
    error = __real_pthread_create(&t->p, a, run_thread, t);
    if (error)
        thread_forget(t);
    else
        *p = t->p;
    return error;
}

static struct thread *find_thread(GThread *g, const pthread_t *p)
{
    for (unsigned k = 0; k < sim.threads->len; k++) {
        struct thread *t = thread_at(k);

        if (g ? t->g == g : p && !t->g && t != self && t->p == *p)
            return t;
    }
    return NULL;
}

static void wait_for_end(struct thread *t)
{
    while (t->state != ENDED)
        wait_for(t, NEVER);
    thread_forget(t);
}

void *__wrap_g_thread_join(GThread *g)
{
    struct thread *t = self ? find_thread(g, NULL) : NULL;

    if (t)
        wait_for_end(t);
    return __real_g_thread_join(g);
}

int __wrap_pthread_join(pthread_t p, void **result)
{
    struct thread *t = self ? find_thread(NULL, &p) : NULL;

    if (t)
        wait_for_end(t);
    return __real_pthread_join(p, result);
}
