/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/stream.h"

#include "common/util/error.h"
#include "server/nbd/wire.h"
#include "server/nbd/tls-session.h"

#include <errno.h>
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
/* For how long at most, and how often meanwhile, stream_finish looks. */
#define FINISH_USEC    G_USEC_PER_SEC
#define FINISH_STEP_MS 10
/* Room asked for in a Unix socket, so that a batch of replies goes in with one call. */
#define SOCKET_BUFFER (512 << 10)

static bool is_socket(int fd)
{
    int type;
    socklen_t length = sizeof type;
    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) == 0;
}

int stream_init(struct stream *s, int in, int out, GError **err)
{
    *s = (struct stream){.in = in, .out = out, .end_in = -1, .end_out = -1};
    s->in_socket = is_socket(in);
    s->out_socket = is_socket(out);
    if (s->in_socket && s->out_socket)
        return 0;
    s->end_in = eventfd(0, EFD_CLOEXEC);
    s->end_out = eventfd(0, EFD_CLOEXEC);
    if (s->end_in < 0 || s->end_out < 0) {
        fail_errno(err, errno, "eventfd");
        stream_close(s);
        return -1;
    }
    return 0;
}

void stream_close(struct stream *s)
{
    int fds[] = {s->in, s->out == s->in ? -1 : s->out, s->end_in, s->end_out};

    tls_session_free(s->tls);
    s->tls = NULL;
    for (unsigned i = 0; i < G_N_ELEMENTS(fds); i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
    s->in = s->out = s->end_in = s->end_out = -1;
}

static int socket_domain(int fd)
{
    int domain;
    socklen_t length = sizeof domain;
    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 ? domain : AF_UNSPEC;
}

static void set_option(int fd, int level, int name, int value)
{
    /* A wish: where the kernel refuses it, all works the same, slower. */
    (void)!setsockopt(fd, level, name, &value, sizeof value);
}

void stream_tune(struct stream *s, unsigned idle_seconds, unsigned send_seconds)
{
    struct timeval idle = {.tv_sec = idle_seconds}, send_wait = {.tv_sec = send_seconds};

    if (s->in_socket)
        setsockopt(s->in, SOL_SOCKET, SO_RCVTIMEO, &idle, sizeof idle);
    if (!s->out_socket)
        return;
    setsockopt(s->out, SOL_SOCKET, SO_SNDTIMEO, &send_wait, sizeof send_wait);
    switch (socket_domain(s->out)) {
    case AF_UNIX:
        /* TCP sizes its buffers itself, and setting them turns that off. */
        set_option(s->out, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
        set_option(s->out, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUFFER);
        break;
    case AF_INET:
    case AF_INET6:
        set_option(s->out, IPPROTO_TCP, TCP_NODELAY, 1);
        set_option(s->out, SOL_SOCKET, SO_KEEPALIVE, 1); /* a peer that lost its power */
        break;
    default:
        break;
    }
}

int wire_wait(struct stream *s, bool receive, int timeout_ms)
{
    struct pollfd p[2] = {
        {.fd = receive ? s->in : s->out, .events = receive ? POLLIN : POLLOUT},
        {.fd = receive ? s->end_in : s->end_out, .events = POLLIN},
    };
    int r;

    do
        r = poll(p, 2, timeout_ms);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        return -errno;
    return p[1].revents != 0 ? -ECANCELED : r;
}

ssize_t wire_receive_now(struct stream *s, void *buf, size_t length)
{
    ssize_t n;

    if (s->in_socket) {
        do
            n = recv(s->in, buf, length, MSG_DONTWAIT);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
    }
    int r = wire_wait(s, true, 0);
    if (r <= 0)
        return r == 0 ? -EAGAIN : r;
    n = read(s->in, buf, length);
    return n < 0 ? -errno : n;
}

ssize_t wire_receive(struct stream *s, void *buf, size_t length)
{
    ssize_t n;

    if (s->in_socket) {
        do
            n = recv(s->in, buf, length, 0);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
    }
    wire_wait(s, true, -1);
    return wire_receive_now(s, buf, length);
}

static ssize_t send_some(struct stream *s, struct iovec *iov, unsigned n)
{
    if (s->out_socket) {
        struct msghdr m = {.msg_iov = iov, .msg_iovlen = n};
        ssize_t sent = sendmsg(s->out, &m, MSG_NOSIGNAL);
        if (sent < 0)
            return errno == EAGAIN ? -ETIMEDOUT : -errno;
        return sent;
    }
    int r = wire_wait(s, false, -1);
    if (r < 0)
        return r;
    ssize_t written = write(s->out, iov->iov_base, MIN(iov->iov_len, PIPE_PIECE));
    return written < 0 ? -errno : written;
}

int wire_send(struct stream *s, struct iovec *iov, unsigned n)
{
    while (n > 0) {
        ssize_t sent = send_some(s, iov, MIN(n, IOV_MAX));
        if (sent == -EINTR || sent == -EAGAIN)
            continue;
        if (sent < 0)
            return (int)sent;
        iov_advance(&iov, &n, (size_t)sent);
    }
    return 0;
}

bool stream_can_send_file(const struct stream *s)
{
    return s->out_socket && !s->tls;
}

ssize_t stream_send_file(struct stream *s, int fd, uint64_t offset, size_t length)
{
    off_t at = (off_t)offset;
    size_t sent = 0;

    while (sent < length) {
        ssize_t n = sendfile(s->out, fd, &at, length - sent);
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

int wire_send_by(struct stream *s, const void *buf, size_t length, int64_t deadline)
{
    const uint8_t *at = buf;

    while (length > 0) {
        int r = wire_wait(s, false, ms_until(deadline));
        if (r <= 0)
            return r == 0 ? -ETIMEDOUT : r;
        ssize_t n = s->out_socket ? send(s->out, at, length, MSG_NOSIGNAL | MSG_DONTWAIT)
                                  : write(s->out, at, MIN(length, PIPE_PIECE));
        if (n < 0 && errno != EAGAIN && errno != EINTR)
            return -errno;
        if (n > 0) {
            at += n;
            length -= (size_t)n;
        }
    }
    return 0;
}

/* ---- either way ---- */

ssize_t stream_receive_now(struct stream *s, void *buf, size_t length)
{
    return s->tls ? secure_receive_now(s, buf, length) : wire_receive_now(s, buf, length);
}

ssize_t stream_receive(struct stream *s, void *buf, size_t length)
{
    return s->tls ? secure_receive(s, buf, length) : wire_receive(s, buf, length);
}

void stream_wait(struct stream *s)
{
    if (s->tls)
        tls_rest(s->tls);
    wire_wait(s, true, -1);
}

bool stream_input_waiting(struct stream *s)
{
    uint8_t byte;

    if (s->in_socket)
        return recv(s->in, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
    return wire_wait(s, true, 0) != 0;
}

int stream_send(struct stream *s, struct iovec *iov, unsigned n)
{
    return s->tls ? secure_send(s, iov, n) : wire_send(s, iov, n);
}

/* It tries before it waits: what TLS has at hand no poll(2) sees. */
int stream_receive_by(struct stream *s, void *buf, size_t length, int64_t deadline)
{
    size_t got = 0;

    while (got < length) {
        if (has_passed(deadline)) /* also where there is always a byte */
            return -ETIMEDOUT;
        ssize_t n = stream_receive_now(s, (uint8_t *)buf + got, length - got);
        if (n == -EAGAIN) {
            int r = wire_wait(s, true, ms_until(deadline));
            if (r <= 0)
                return r == 0 ? -ETIMEDOUT : r;
            continue;
        }
        if (n < 0)
            return (int)n;
        if (n == 0)
            return got == 0 ? -ENODATA : -EPIPE;
        got += (size_t)n;
    }
    return 0;
}

int stream_send_by(struct stream *s, const void *buf, size_t length, int64_t deadline)
{
    return s->tls ? secure_send_by(s, buf, length, deadline)
                  : wire_send_by(s, buf, length, deadline);
}

void stream_finish(struct stream *s)
{
    int64_t until = g_get_monotonic_time() + FINISH_USEC;
    int domain = s->out_socket ? socket_domain(s->out) : AF_UNSPEC;
    int unsent;
    uint8_t waste[4096];

    if (s->tls)
        secure_finish(s, until);
    if (s->out_socket)
        shutdown(s->out, SHUT_WR);
    if (domain != AF_INET && domain != AF_INET6)
        return;
    while (ioctl(s->out, SIOCOUTQ, &unsent) == 0 && unsent > 0 && g_get_monotonic_time() < until) {
        if (wire_wait(s, true, FINISH_STEP_MS) > 0 && wire_receive_now(s, waste, sizeof waste) == 0)
            return;
    }
}

static void end_waiting(int fd)
{
    uint64_t one = 1;
    if (fd >= 0)
        (void)!write(fd, &one, sizeof one);
}

void stream_end_input(struct stream *s)
{
    if (s->in_socket)
        shutdown(s->in, SHUT_RD);
    else
        end_waiting(s->end_in);
}

bool stream_is_cut(struct stream *s)
{
    return atomic_load_explicit(&s->cut, memory_order_relaxed);
}

void stream_cut(struct stream *s)
{
    atomic_store_explicit(&s->cut, true, memory_order_relaxed);
    if (s->in_socket)
        shutdown(s->in, SHUT_RDWR);
    if (s->out_socket && s->out != s->in)
        shutdown(s->out, SHUT_RDWR);
    end_waiting(s->end_in);
    end_waiting(s->end_out);
}
