/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The signal handler reads a table of mappings without a lock. The table only grows: chunks of slots,
 * each of which is used again and again. A slot counts for the handler while `begin` is not 0. The
 * handler runs in a thread that uses the mapping, so its owner does not unmap it meanwhile (see
 * mapping_unguard), and the slot stays what it is.
 *
 * The whole mapping is replaced, not only the page that was missed. A file that was cut short has
 * lost more than one page in most cases, and each would be a signal of its own. What the other pages
 * had in the file is of no use any more, since the owner must not trust a part of it.
 *
 * The handler cannot call the owner. It sets `lost` and writes to an eventfd, for which a thread
 * waits. That thread lives as long as the process.
 */
#include "server/state/failure.h"

#include "common/util/error.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHUNK 64

struct mapping {
    _Atomic uintptr_t begin; /* 0: the slot is free */
    _Atomic size_t length;
    atomic_bool lost; /* set by the handler */
    /* under `lock` */
    bool used, told;
    void (*tell)(void *opaque);
    void *opaque;
};

struct chunk {
    struct mapping slots[CHUNK];
    _Atomic(struct chunk *) next;
};

static struct chunk table;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int event = -1; /* set before the handler is installed */
static struct sigaction before;

static struct chunk *next_chunk(struct chunk *c)
{
    return atomic_load_explicit(&c->next, memory_order_acquire);
}

/* ---- in the handler ---- */

static struct mapping *find(uintptr_t address)
{
    for (struct chunk *c = &table; c; c = next_chunk(c))
        for (unsigned i = 0; i < CHUNK; i++) {
            uintptr_t begin = atomic_load(&c->slots[i].begin);

            if (begin && address >= begin && address - begin < atomic_load(&c->slots[i].length))
                return &c->slots[i];
        }
    return NULL;
}

/* The system call itself: sanitizers have a mmap() of their own, which no signal handler may call. */
static bool replace(struct mapping *m)
{
    long at;

    atomic_store(&m->lost, true);
    at = syscall(SYS_mmap, atomic_load(&m->begin), atomic_load(&m->length), PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0L);
    return at != -1;
}

static void wake_teller(void)
{
    uint64_t one = 1;
    ssize_t written = write(event, &one, sizeof one);

    (void)written; /* the counter is full: the thread will wake up in any case */
}

/* What would have happened without us. */
static void pass_on(int signal_number, siginfo_t *info, void *context)
{
    if (before.sa_flags & SA_SIGINFO) {
        before.sa_sigaction(signal_number, info, context);
    } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
        before.sa_handler(signal_number);
    } else if (info->si_code > 0) {
        /* The access is repeated, and the kernel ends the process: it does so for an ignored
         * SIGBUS, too. */
        signal(SIGBUS, SIG_DFL);
    } else if (before.sa_handler == SIG_DFL) {
        signal(SIGBUS, SIG_DFL);
        raise(SIGBUS); /* comes when the handler has returned */
    }
}

static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
    int error = errno;
    struct mapping *m = info->si_code > 0 ? find((uintptr_t)info->si_addr) : NULL;

    if (m && replace(m))
        wake_teller();
    else
        pass_on(signal_number, info, context);
    errno = error;
}

/* ---- the thread that tells ---- */

static void tell_owners(void)
{
    pthread_mutex_lock(&lock);
    for (struct chunk *c = &table; c; c = next_chunk(c))
        for (unsigned i = 0; i < CHUNK; i++) {
            struct mapping *m = &c->slots[i];

            if (m->used && !m->told && atomic_load(&m->lost)) {
                m->told = true;
                m->tell(m->opaque);
            }
        }
    pthread_mutex_unlock(&lock);
}

static void *teller(void *unused)
{
    uint64_t count;

    (void)unused;
    for (;;)
        if (read(event, &count, sizeof count) == (ssize_t)sizeof count)
            tell_owners();
    return NULL;
}

static int start_teller(GError **err)
{
    sigset_t all, old;
    pthread_t thread;
    int error;

    sigfillset(&all);
    sigdelset(&all, SIGBUS);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    error = pthread_create(&thread, NULL, teller, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (error)
        return fail_errno(err, error, "state: cannot start a thread");
    pthread_detach(thread);
    return 0;
}

/* ---- guarding ---- */

/* The first time. Lock held. */
static int install(GError **err)
{
    struct sigaction action = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};

    if (event >= 0)
        return 0;
    event = eventfd(0, EFD_CLOEXEC);
    if (event < 0)
        return fail_errno(err, errno, "state: eventfd");
    if (start_teller(err) < 0) {
        close(event);
        event = -1;
        return -1;
    }
    sigemptyset(&action.sa_mask);
    sigaction(SIGBUS, NULL, &before);
    sigaction(SIGBUS, &action, NULL);
    return 0;
}

/* A slot that is not used, of a new chunk if need be. Lock held. */
static struct mapping *free_slot(void)
{
    struct chunk *c = &table;

    for (;; c = next_chunk(c)) {
        for (unsigned i = 0; i < CHUNK; i++)
            if (!c->slots[i].used)
                return &c->slots[i];
        if (!next_chunk(c))
            atomic_store_explicit(&c->next, g_new0(struct chunk, 1), memory_order_release);
    }
}

struct mapping *mapping_guard(void *begin, size_t length, void (*lost)(void *opaque), void *opaque,
                              GError **err)
{
    struct mapping *m = NULL;

    pthread_mutex_lock(&lock);
    if (install(err) == 0) {
        m = free_slot();
        m->used = true;
        m->told = false;
        m->tell = lost;
        m->opaque = opaque;
        atomic_store(&m->lost, false);
        atomic_store(&m->length, length);
        atomic_store(&m->begin, (uintptr_t)begin);
    }
    pthread_mutex_unlock(&lock);
    return m;
}

void mapping_unguard(struct mapping *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&lock);
    atomic_store(&m->begin, 0);
    m->used = false;
    pthread_mutex_unlock(&lock);
}

bool mapping_is_lost(const struct mapping *m)
{
    return atomic_load(&m->lost);
}
