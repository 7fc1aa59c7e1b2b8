/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * For LD_PRELOAD: the n-th call of a kind fails.
 *
 * Stands in for libc's wrappers of the calls below and counts those that the server's own objects
 * make: the program itself, and what it opens later (plugins). Calls out of the libraries that the
 * program is linked with are passed on and not counted: GLib ends the process where malloc fails,
 * by design, so there is nothing to be shown by it.
 *
 * Which call fails, and how, stands in a file that the test maps as well ($FLEECE_FAULTS), so the
 * test arms and disarms faults while the server runs. No lock: a call takes its number with one
 * atomic addition and then compares. `what` is written before `fired` is raised, by the first that
 * fails; those that fail after it leave it alone.
 *
 * An error of 0 stands for a transfer that comes to less than what was asked for, which is no error
 * and must not be visible anywhere.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* In the order of KINDS in grid.py. */
enum kind { ALLOC, RECV, SEND, ACCEPT, THREAD, READ, WRITE, FLUSH, SPACE, MAP, OPEN, N_KINDS };

/* The file, as CONTROL in grid.py has it. */
struct control {
    _Atomic uint64_t kind;        /* what fails: enum kind */
    _Atomic uint64_t first, last; /* which calls of it, counted from 1; none while last is 0 */
    _Atomic uint64_t error;       /* an errno, or 0: see above */
    _Atomic uint64_t fired;       /* how many have failed */
    _Atomic uint64_t calls[N_KINDS];
    char what[256]; /* the first one that failed */
};

#define MAX_LIBRARIES 128

/* A preloaded library has nobody to pass it a context. */
static struct {
    struct control *control; /* NULL: nothing fails and nothing is counted */
    struct range {
        uintptr_t begin, end;
    } libraries[MAX_LIBRARIES];
    unsigned n_libraries;
} self;

/* ---- who calls ---- */

static int note_library(struct dl_phdr_info *info, size_t size, void *seen)
{
    unsigned *n = seen;

    if ((*n)++ == 0 || self.n_libraries == MAX_LIBRARIES)
        return 0; /* the program itself is the first */
    struct range *r = &self.libraries[self.n_libraries++];
    r->begin = UINTPTR_MAX;
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        uintptr_t begin = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        if (begin < r->begin)
            r->begin = begin;
        if (begin + info->dlpi_phdr[i].p_memsz > r->end)
            r->end = begin + info->dlpi_phdr[i].p_memsz;
    }
    return 0;
}

static bool is_library(const void *caller)
{
    for (unsigned i = 0; i < self.n_libraries; i++) {
        if ((uintptr_t)caller >= self.libraries[i].begin &&
            (uintptr_t)caller < self.libraries[i].end)
            return true;
    }
    return false;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FLEECE_FAULTS");
    unsigned seen = 0;

    if (path == NULL)
        return;
    dl_iterate_phdr(note_library, &seen);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    void *control = mmap(NULL, sizeof(struct control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (control == MAP_FAILED) {
        perror(path);
        _exit(1);
    }
    close(fd);
    self.control = control;
}

/* ---- what fails ---- */

enum verdict { PASS, FAIL, SHORT };

/* `fd` -1: the call has none. On FAIL errno is set. */
static enum verdict judge(enum kind kind, const char *name, int fd, const void *caller)
{
    struct control *c = self.control;

    if (c == NULL || is_library(caller))
        return PASS;
    uint64_t number = atomic_fetch_add(&c->calls[kind], 1) + 1;
    if (atomic_load(&c->kind) != kind || number < atomic_load(&c->first) ||
        number > atomic_load(&c->last))
        return PASS;
    if (atomic_load(&c->fired) == 0) {
        char link[40], target[160] = "";
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        if (fd >= 0 && readlink(link, target, sizeof target - 1) < 0)
            target[0] = '\0';
        snprintf(c->what, sizeof c->what, "%s %s", name, target);
    }
    atomic_fetch_add(&c->fired, 1);
    errno = (int)atomic_load(&c->error);
    return errno != 0 ? FAIL : SHORT;
}

#define JUDGE(kind, fd) judge(kind, __func__, fd, __builtin_return_address(0))
#define REAL(name)      ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static size_t less(enum verdict verdict, size_t length)
{
    return verdict == SHORT && length > 1 ? length / 2 : length;
}

/* ---- memory ---- */

/* A sanitizer's own allocator has to come first; what is left there is mmap and g_try_malloc. */
#ifdef SANITIZER_no
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size)
{
    return JUDGE(ALLOC, -1) == FAIL ? NULL : __libc_malloc(size);
}

void *calloc(size_t n, size_t size)
{
    return JUDGE(ALLOC, -1) == FAIL ? NULL : __libc_calloc(n, size);
}

void *realloc(void *old, size_t size)
{
    return JUDGE(ALLOC, -1) == FAIL ? NULL : __libc_realloc(old, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
    if (JUDGE(ALLOC, -1) == FAIL)
        return errno;
    void *memory = __libc_memalign(alignment, size);
    if (memory == NULL)
        return ENOMEM;
    *result = memory;
    return 0;
}
#endif

void *g_try_malloc(size_t size);

void *g_try_malloc(size_t size)
{
    return JUDGE(ALLOC, -1) == FAIL ? NULL : REAL(g_try_malloc)(size);
}

void *mmap(void *at, size_t length, int protection, int flags, int fd, off_t offset)
{
    if (JUDGE(ALLOC, fd) == FAIL)
        return MAP_FAILED;
    return REAL(mmap)(at, length, protection, flags, fd, offset);
}

/* ---- sockets ---- */

ssize_t recv(int fd, void *buf, size_t length, int flags)
{
    enum verdict v = JUDGE(RECV, fd);

    return v == FAIL ? -1 : REAL(recv)(fd, buf, less(v, length), flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    return JUDGE(RECV, fd) == FAIL ? -1 : REAL(recvmsg)(fd, message, flags);
}

ssize_t send(int fd, const void *buf, size_t length, int flags)
{
    enum verdict v = JUDGE(SEND, fd);

    return v == FAIL ? -1 : REAL(send)(fd, buf, less(v, length), flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    enum verdict v = JUDGE(SEND, fd);

    if (v == FAIL)
        return -1;
    if (v == PASS || message->msg_iovlen == 0)
        return REAL(sendmsg)(fd, message, flags);
    struct iovec some = message->msg_iov[0];
    some.iov_len = less(v, some.iov_len);
    struct msghdr shorter = *message;
    shorter.msg_iov = &some;
    shorter.msg_iovlen = 1;
    return REAL(sendmsg)(fd, &shorter, flags);
}

ssize_t sendfile(int out, int in, off_t *offset, size_t length)
{
    enum verdict v = JUDGE(SEND, out);

    return v == FAIL ? -1 : REAL(sendfile)(out, in, offset, less(v, length));
}

int accept4(int fd, struct sockaddr *address, socklen_t *length, int flags)
{
    return JUDGE(ACCEPT, fd) == FAIL ? -1 : REAL(accept4)(fd, address, length, flags);
}

/* ---- threads ---- */

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                   void *argument)
{
    if (JUDGE(THREAD, -1) == FAIL)
        return errno;
    return REAL(pthread_create)(thread, attributes, start, argument);
}

/* ---- files ---- */

ssize_t pread(int fd, void *buf, size_t length, off_t offset)
{
    enum verdict v = JUDGE(READ, fd);

    return v == FAIL ? -1 : REAL(pread)(fd, buf, less(v, length), offset);
}

ssize_t preadv2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    enum verdict v = JUDGE(READ, fd);
    struct iovec some = *iov;

    if (v == FAIL)
        return -1;
    if (v == PASS)
        return REAL(preadv2)(fd, iov, n, offset, flags);
    some.iov_len = less(v, some.iov_len);
    return REAL(preadv2)(fd, &some, 1, offset, flags);
}

ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
    enum verdict v = JUDGE(WRITE, fd);

    return v == FAIL ? -1 : REAL(pwrite)(fd, buf, less(v, length), offset);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int n, off_t offset, int flags)
{
    enum verdict v = JUDGE(WRITE, fd);
    struct iovec some = *iov;

    if (v == FAIL)
        return -1;
    if (v == PASS)
        return REAL(pwritev2)(fd, iov, n, offset, flags);
    some.iov_len = less(v, some.iov_len);
    return REAL(pwritev2)(fd, &some, 1, offset, flags);
}

int fdatasync(int fd)
{
    return JUDGE(FLUSH, fd) == FAIL ? -1 : REAL(fdatasync)(fd);
}

int fsync(int fd)
{
    return JUDGE(FLUSH, fd) == FAIL ? -1 : REAL(fsync)(fd);
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    return JUDGE(SPACE, fd) == FAIL ? -1 : REAL(fallocate)(fd, mode, offset, length);
}

int ftruncate(int fd, off_t length)
{
    return JUDGE(SPACE, fd) == FAIL ? -1 : REAL(ftruncate)(fd, length);
}

/* Asking for holes. */
off_t lseek(int fd, off_t offset, int whence)
{
    return JUDGE(MAP, fd) == FAIL ? -1 : REAL(lseek)(fd, offset, whence);
}

/* ---- new descriptors ---- */

int open(const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return JUDGE(OPEN, -1) == FAIL ? -1 : REAL(open)(path, flags, mode);
}

int openat(int folder, const char *path, int flags, ...)
{
    va_list args;

    va_start(args, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
    va_end(args);
    return JUDGE(OPEN, folder) == FAIL ? -1 : REAL(openat)(folder, path, flags, mode);
}

int socket(int domain, int type, int protocol)
{
    return JUDGE(OPEN, -1) == FAIL ? -1 : REAL(socket)(domain, type, protocol);
}

int eventfd(unsigned count, int flags)
{
    return JUDGE(OPEN, -1) == FAIL ? -1 : REAL(eventfd)(count, flags);
}

int memfd_create(const char *name, unsigned flags)
{
    return JUDGE(OPEN, -1) == FAIL ? -1 : REAL(memfd_create)(name, flags);
}

int pipe2(int fds[2], int flags)
{
    return JUDGE(OPEN, -1) == FAIL ? -1 : REAL(pipe2)(fds, flags);
}
