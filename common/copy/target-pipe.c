/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A pipe, a socket, or a file that is only appended to. Its descriptor may be shared with other
 * processes, so its flags are not changed: it is polled, and gets as much as it surely takes. It is
 * one call at a time; only cancel comes from elsewhere.
 */
#include "common/copy/targets.h"

#include "common/util/error.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZEROES 65536

struct target_pipe {
    struct copy_target base;
    int fd;
    int cancel_fd; /* an eventfd: cancelled */
    char *name;
    mode_t kind;
    uint64_t position; /* of the disk: all below it has been written */
};

static struct target_pipe *of(struct copy_target *t)
{
    return (struct target_pipe *)t;
}

/* Wait until something can be written. 0, or -1 and *err. */
static int wait_writable(struct target_pipe *p, GError **err)
{
    struct pollfd fds[2] = {{.fd = p->fd, .events = POLLOUT},
                            {.fd = p->cancel_fd, .events = POLLIN}};

    while (poll(fds, 2, -1) < 0) {
        if (errno != EINTR)
            return fail_errno(err, errno, "Cannot wait for '%s'", p->name);
    }
    if (fds[1].revents)
        return fail(err, "Writing to '%s' was cancelled", p->name);
    return 0;
}

/* Once. A pipe that has room takes PIPE_BUF bytes at least without waiting. */
static ssize_t write_some(struct target_pipe *p, const uint8_t *data, size_t length)
{
    if (p->kind == S_IFSOCK)
        return send(p->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    return write(p->fd, data, p->kind == S_IFREG ? length : MIN(length, PIPE_BUF));
}

static int write_all(struct target_pipe *p, const uint8_t *data, size_t length, GError **err)
{
    while (length > 0) {
        ssize_t n;

        if (wait_writable(p, err) < 0)
            return -1;
        n = write_some(p, data, length);
        if (n < 0 && errno != EINTR && errno != EAGAIN)
            return fail_errno(err, errno,
                              "Cannot write byte %" G_GUINT64_FORMAT " of the disk to '%s'",
                              p->position, p->name);
        if (n > 0) {
            data += n;
            length -= (size_t)n;
            p->position += (uint64_t)n;
        }
    }
    return 0;
}

static int zeroes_up_to(struct target_pipe *p, uint64_t offset, GError **err)
{
    static const uint8_t zeroes[ZEROES];

    while (p->position < offset) {
        if (write_all(p, zeroes, MIN(offset - p->position, sizeof zeroes), err) < 0)
            return -1;
    }
    return 0;
}

/* ---- without SIGPIPE ---- */

/* A reader that has gone is an error, not the end of this process: the signal is taken away. */
struct pipe_signal {
    sigset_t set, old;
    bool was_pending;
};

static void block_sigpipe(struct pipe_signal *s)
{
    sigset_t pending;

    sigemptyset(&s->set);
    sigaddset(&s->set, SIGPIPE);
    sigpending(&pending);
    s->was_pending = sigismember(&pending, SIGPIPE) == 1;
    pthread_sigmask(SIG_BLOCK, &s->set, &s->old);
}

static void unblock_sigpipe(struct pipe_signal *s)
{
    static const struct timespec now = {0, 0};

    while (!s->was_pending && sigtimedwait(&s->set, NULL, &now) < 0 && errno == EINTR)
        ;
    pthread_sigmask(SIG_SETMASK, &s->old, NULL);
}

/* ---- the target ---- */

static int write_pieces(struct target_pipe *p, const struct copy_piece *pieces, size_t n,
                        GError **err)
{
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].offset < p->position)
            return fail(err, "'%s' is a stream, and cannot go back", p->name);
        if (zeroes_up_to(p, pieces[i].offset, err) < 0 ||
            write_all(p, pieces[i].data, pieces[i].length, err) < 0)
            return -1;
    }
    return 0;
}

static int pipe_write(struct copy_target *t, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    struct pipe_signal s;
    int result;

    (void)lane;
    block_sigpipe(&s);
    result = write_pieces(of(t), pieces, n, err);
    unblock_sigpipe(&s);
    return result;
}

static int write_zeroes(struct target_pipe *p, uint64_t offset, GError **err)
{
    struct pipe_signal s;
    int result;

    block_sigpipe(&s);
    result = zeroes_up_to(p, offset, err);
    unblock_sigpipe(&s);
    return result;
}

static int pipe_zero(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                     GError **err)
{
    (void)lane;
    return write_zeroes(of(t), offset + length, err);
}

static int pipe_finish(struct copy_target *t, GError **err)
{
    struct target_pipe *p = of(t);

    if (write_zeroes(p, t->size, err) < 0)
        return -1;
    if (p->kind == S_IFREG && fdatasync(p->fd) < 0)
        return fail_errno(err, errno, "Cannot make '%s' durable", p->name);
    return 0;
}

static void pipe_cancel(struct copy_target *t)
{
    uint64_t one = 1;
    ssize_t r;

    do
        r = write(of(t)->cancel_fd, &one, sizeof one);
    while (r < 0 && errno == EINTR);
}

static void pipe_free(struct copy_target *t)
{
    if (of(t)->cancel_fd >= 0)
        close(of(t)->cancel_fd);
    g_free(of(t)->name);
    g_free(t);
}

struct copy_target *target_pipe_new(int fd, const char *name, uint64_t size, GError **err)
{
    static const struct copy_target_ops ops = {.write = pipe_write,
                                               .zero = pipe_zero,
                                               .finish = pipe_finish,
                                               .cancel = pipe_cancel,
                                               .free = pipe_free};
    struct target_pipe *p = g_new0(struct target_pipe, 1);
    struct stat st;

    p->base =
        (struct copy_target){.ops = &ops, .size = size, .lanes = 0, .align = 1, .ordered = true};
    p->fd = fd;
    p->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->name = g_strdup(name);
    if (p->cancel_fd >= 0 && fstat(fd, &st) == 0) {
        p->kind = st.st_mode & S_IFMT;
        return &p->base;
    }
    fail_errno(err, errno, "Cannot make ready to write to '%s'", name);
    pipe_free(&p->base);
    return NULL;
}
