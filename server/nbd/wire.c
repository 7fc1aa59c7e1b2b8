/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/wire.h"

#include "common/util/error.h"
#include "server/nbd/iov.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* A pipe that poll(2) calls writable takes this much without blocking. */
#define PIPE_PIECE 4096u
/* How often wire_finish looks. */
#define FINISH_STEP_MS 10
/* Room asked for in a Unix socket, so that a batch of replies goes in with one call. */
#define SOCKET_BUFFER (512 << 10)

static bool is_socket(int fd)
{
    int type;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

int wire_init(struct wire *w, int in, int out, GError **err)
{
    *w = (struct wire){.in = in, .out = out, .end_in = -1, .end_out = -1};
    w->in_socket = is_socket(in);
    w->out_socket = is_socket(out);
    if (w->in_socket && w->out_socket)
        return 0;
    w->end_in = eventfd(0, EFD_CLOEXEC);
    w->end_out = eventfd(0, EFD_CLOEXEC);
    if (w->end_in < 0 || w->end_out < 0) {
        fail_errno(err, errno, "eventfd");
        wire_close(w);
        return -1;
    }
    return 0;
}

void wire_close(struct wire *w)
{
    int fds[] = {w->in, w->out == w->in ? -1 : w->out, w->end_in, w->end_out};

    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    w->in = w->out = w->end_in = w->end_out = -1;
}

static int socket_domain(int fd)
{
    int domain;
    socklen_t length = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 ? domain : AF_UNSPEC;
}

static void set_option(int fd, int level, int name, int value)
{
    /* Where the kernel refuses it, everything works, but slower. */
    (void)!setsockopt(fd, level, name, &value, sizeof value);
}

void wire_tune(struct wire *w, unsigned idle_seconds, unsigned send_seconds)
{
    struct timeval idle = {.tv_sec = idle_seconds}, send_wait = {.tv_sec = send_seconds};

    if (w->in_socket)
        setsockopt(w->in, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    if (!w->out_socket)
        return;
    setsockopt(w->out, SOL_SOCKET, SO_SNDTIMEO, &send_wait, sizeof send_wait);
    switch (socket_domain(w->out)) {
    case AF_UNIX:
        /* Not for TCP, which sizes its buffers itself until somebody sets them. */
        set_option(w->out, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
        set_option(w->out, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER);
        break;
    case AF_INET:
    case AF_INET6:
        set_option(w->out, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(w->out, SOL_SOCKET, SO_KEEPALIVE, 1); /* a peer that lost its power */
        break;
    default:
        break;
    }
}

int wire_wait(struct wire *w, bool receive, int timeout_ms)
{
    struct pollfd p[2] = {
        {.fd = receive ? w->in : w->out, .events = receive ? POLLIN : POLLOUT},
        {.fd = receive ? w->end_in : w->end_out, .events = POLLIN},
    };
    int r;

    do
        r = poll(p, 2, timeout_ms);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    return p[1].revents != 0 ? -ECANCELED : r;
}

ssize_t wire_receive_now(struct wire *w, void *buf, size_t length)
{
    ssize_t n;

    if (w->in_socket) {
        do
            n = recv(w->in, buf, length, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
    }
    int r = wire_wait(w, true, 0);
    if (r <= 0)
        return r == 0 ? -EAGAIN : r;
    n = read(w->in, buf, length);
    return n < 0 ? -errno : n;
}

ssize_t wire_receive(struct wire *w, void *buf, size_t length)
{
    ssize_t n;

    if (w->in_socket) {
        do
            n = recv(w->in, buf, length, 0);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
    }
    wire_wait(w, true, -1);
    return wire_receive_now(w, buf, length);
}

bool wire_input_waiting(struct wire *w)
{
    uint8_t byte;

    if (w->in_socket)
        return recv(w->in, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    return wire_wait(w, true, 0) != 0;
}

static ssize_t send_some(struct wire *w, struct iovec *iov, unsigned n)
{
    if (w->out_socket) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t sent = sendmsg(w->out, &m, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        return sent;
    }
    int r = wire_wait(w, false, -1);
    if (r < 0)
        return r;
    ssize_t written = write(w->out, iov->iov_base, MIN(iov->iov_len, PIPE_PIECE));
    return written < 0 ? -errno : written;
}

int wire_send(struct wire *w, struct iovec *iov, unsigned n)
{
    while (n > 0) {
        ssize_t sent = send_some(w, iov, MIN(n, IOV_MAX));
        if (sent == -EINTR || sent == -EAGAIN)
            continue;
        if (sent < 0)
            return (int)sent;
        iov_advance(&iov, &n, (size_t)sent);
    }
    return 0;
}

ssize_t wire_send_file(struct wire *w, int fd, uint64_t offset, size_t length)
{
    off_t at = (off_t)offset;
    size_t sent = 0;

    while (sent < length) {
        ssize_t n = sendfile(w->out, fd, &at, length - sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return -ETIMEDOUT;
        if (n <= 0)
            break;
        sent += (size_t)n;
    }
    return (ssize_t)sent;
}

int ms_until(int64_t deadline)
{
    if (deadline == 0)
        return -1;
    int64_t left = deadline - g_get_monotonic_time();
    return left <= 0 ? 0 : (int)MIN((left + 999) / 1000, INT_MAX);
}

bool has_passed(int64_t deadline)
{
    return deadline != 0 && g_get_monotonic_time() >= deadline;
}

int wire_send_by(struct wire *w, const void *buf, size_t length, int64_t deadline)
{
    const uint8_t *at = buf;

    while (length > 0) {
        int r = wire_wait(w, false, ms_until(deadline));
        if (r <= 0)
            return r == 0 ? -ETIMEDOUT : r;
        ssize_t n = w->out_socket ? send(w->out, at, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                                  : write(w->out, at, MIN(length, PIPE_PIECE));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

void wire_finish(struct wire *w, int64_t until)
{
    int domain = w->out_socket ? socket_domain(w->out) : AF_UNSPEC;
    int unsent;
    uint8_t waste[4096];

    if (w->out_socket)
        shutdown(w->out, SHUT_WR);
    if (domain != AF_INET && domain != AF_INET6)
        return;
    while (ioctl(w->out, SIOCOUTQ, &unsent) == 0 && unsent > 0 && g_get_monotonic_time() < until) {
        if (wire_wait(w, true, FINISH_STEP_MS) > 0 && wire_receive_now(w, waste, sizeof waste) == 0)
            return;
    }
}

static void end_waiting(int fd)
{
    uint64_t one = 1;
    if (fd >= 0)
        (void)!write(fd, &one, sizeof one);
}

void wire_end_input(struct wire *w)
{
    if (w->in_socket)
        shutdown(w->in, SHUT_RD);
    else
        end_waiting(w->end_in);
}

void wire_cut(struct wire *w)
{
    atomic_store_explicit(&w->cut, true, memory_order_relaxed);
    if (w->in_socket)
        shutdown(w->in, SHUT_RDWR);
    if (w->out_socket && w->out != w->in)
        shutdown(w->out, SHUT_RDWR);
    end_waiting(w->end_in);
    end_waiting(w->end_out);
}

bool wire_is_cut(struct wire *w)
{
    return atomic_load_explicit(&w->cut, memory_order_relaxed);
}
