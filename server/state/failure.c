/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The signal handler reads a table of mappings without a lock. The table only grows: chunks of slots,
 * each of which is used again and again. A slot counts for the handler while `begin` is not 0. The
 * handler runs in a thread that uses the mapping, so its owner does not unmap it meanwhile (see
 * mapping_unguard), and the slot stays what it is.
 *
 * There are two cases. The file has its whole length, and the page is a hole in it: the file system
 * had no memory for the page. Nothing is lost: this page alone is replaced, by zeroes as it was. The
 * first of several threads that miss it does so; others go back and try again. Otherwise somebody has
 * taken the file away, and the whole mapping is replaced. A file that was cut short has lost more than
 * one page in most cases, and each would be a signal of its own. What the other pages had in the file
 * is of no use any more, since the owner must not trust a part of it.
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
#include <sys/uio.h>
#include <unistd.h>

#define CHUNK 64
#define PAGE  ((size_t)4096)

/* Of a page. */
enum { PAGE_IN_FILE, PAGE_CLAIMED };

struct mapping {
    _Atomic uintptr_t begin; /* 0: the slot is free */
    _Atomic size_t length;
    atomic_bool lost; /* set by the handler */
    struct mapping_use use;
    _Atomic uint8_t *pages; /* one of each page: what the handler has done with it */
    /* under `lock` */
    bool used, told;
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

/* The system calls themselves: sanitizers have functions of their own, which no signal handler may
 * call. */
static bool put_memory(uintptr_t begin, size_t length)
{
    return syscall(SYS_mmap, begin, length, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0L) != -1;
}

static bool replace_all(struct mapping *m)
{
    atomic_store(&m->lost, true);
    if (m->use.losing)
        m->use.losing(m->use.opaque);
    return put_memory(atomic_load(&m->begin), atomic_load(&m->length));
}

static bool has_whole_length(const struct mapping *m)
{
    long length = syscall(SYS_lseek, m->use.fd, 0L, SEEK_END);

    return length >= 0 && (size_t)length >= m->use.offset + atomic_load(&m->length);
}

/* Set in memory what a page of the file has. A negative number: it cannot be read; 1: it has
 * something. A hole reads as zeroes, and reading it takes no memory. */
static int add_file(const struct mapping *m, size_t page, _Atomic uint64_t *memory)
{
    uint64_t words[64];
    struct iovec piece = {words, sizeof words};
    int found = 0;

    for (size_t at = 0; at < PAGE; at += sizeof words) {
        size_t offset = m->use.offset + page * PAGE + at;

        if (syscall(SYS_preadv, m->use.fd, &piece, 1L, (long)offset, 0L) != (long)sizeof words)
            return -1;
        for (unsigned i = 0; i < sizeof words / sizeof words[0]; i++) {
            found |= words[i] != 0;
            if (memory && words[i])
                atomic_fetch_or(memory + at / sizeof words[0] + i, words[i]);
        }
    }
    return found;
}

/* The owner's note is made before anything goes to memory that ends with the process. Until the page
 * is replaced, another thread may find room for it in the file. From the claim on, readers ask the
 * mapping: a bit that another thread sets just after put_memory is nowhere else. */
static bool replace_page(struct mapping *m, size_t page)
{
    uintptr_t begin = atomic_load(&m->begin) + page * PAGE;
    uint8_t state = PAGE_IN_FILE;

    if (!atomic_compare_exchange_strong(&m->pages[page], &state, PAGE_CLAIMED))
        return true; /* somebody else is at it, or has just done it */
    m->use.incomplete(m->use.opaque);
    if (!put_memory(begin, PAGE))
        return replace_all(m); /* there are too many mappings; this one takes the place of one */
    return add_file(m, page, (_Atomic uint64_t *)begin) >= 0 || replace_all(m);
}

static bool replace(struct mapping *m, const siginfo_t *info)
{
    size_t page = ((uintptr_t)info->si_addr - atomic_load(&m->begin)) / PAGE;
    int found;

    if (info->si_code != BUS_ADRERR || m->use.fd < 0 || !has_whole_length(m))
        return replace_all(m);
    found = add_file(m, page, NULL);
    if (found < 0)
        return replace_all(m);
    return found == 1 || replace_page(m, page); /* 1: now there is room for it */
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

    if (m && replace(m, info))
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
                m->use.lost(m->use.opaque);
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

/* Memory only where a page was replaced. */
static void *new_pages(size_t length, GError **err)
{
    void *pages = mmap(NULL, length / PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (pages != MAP_FAILED)
        return pages;
    fail_errno(err, errno, "state: address space");
    return NULL;
}

struct mapping *mapping_guard(void *begin, size_t length, const struct mapping_use *use,
                              GError **err)
{
    struct mapping *m = NULL;
    void *pages = new_pages(length, err);

    if (!pages)
        return NULL;
    pthread_mutex_lock(&lock);
    if (install(err) == 0) {
        m = free_slot();
        m->used = true;
        m->told = false;
        m->use = *use;
        m->pages = pages;
        atomic_store(&m->lost, false);
        atomic_store(&m->length, length);
        atomic_store(&m->begin, (uintptr_t)begin);
    }
    pthread_mutex_unlock(&lock);
    if (!m)
        munmap(pages, length / PAGE);
    return m;
}

void mapping_unguard(struct mapping *m)
{
    if (!m)
        return;
    pthread_mutex_lock(&lock);
    atomic_store(&m->begin, 0);
    munmap(m->pages, atomic_load(&m->length) / PAGE);
    m->used = false;
    pthread_mutex_unlock(&lock);
}

bool mapping_is_lost(const struct mapping *m)
{
    return m && atomic_load(&m->lost);
}

bool mapping_has_page(const struct mapping *m, size_t page)
{
    return m && atomic_load(&m->pages[page]) != PAGE_IN_FILE;
}
