/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/stream.h"

#include "server/nbd/stream-tls.h"

#include <errno.h>

/* For how long at most stream_finish waits. */
#define FINISH_USEC G_USEC_PER_SEC

int stream_init(struct stream *s, int in, int out, GError **err)
{
    s->tls = NULL;
    return wire_init(&s->wire, in, out, err);
}

void stream_close(struct stream *s)
{
    tls_session_free(s->tls);
    s->tls = NULL;
    wire_close(&s->wire);
}

void stream_tune(struct stream *s, unsigned idle_seconds, unsigned send_seconds)
{
    wire_tune(&s->wire, idle_seconds, send_seconds);
}

static struct secure secure(struct stream *s)
{
    return (struct secure){&s->wire, s->tls};
}

bool stream_can_send_file(const struct stream *s)
{
    return s->wire.out_socket && !s->tls;
}

ssize_t stream_receive_now(struct stream *s, void *buf, size_t length)
{
    return s->tls ? secure_receive_now(secure(s), buf, length)
                  : wire_receive_now(&s->wire, buf, length);
}

ssize_t stream_receive(struct stream *s, void *buf, size_t length)
{
    return s->tls ? secure_receive(secure(s), buf, length) : wire_receive(&s->wire, buf, length);
}

void stream_wait(struct stream *s)
{
    if (s->tls)
        tls_rest(s->tls);
    wire_wait(&s->wire, true, -1);
}

int stream_send(struct stream *s, struct iovec *iov, unsigned n)
{
    return s->tls ? secure_send(secure(s), iov, n) : wire_send(&s->wire, iov, n);
}

/* It tries before it waits, since poll(2) does not see what TLS has decrypted already. */
int stream_receive_by(struct stream *s, void *buf, size_t length, int64_t deadline)
{
    size_t got = 0;

    while (got < length) {
        if (has_passed(deadline)) /* also where there is always a byte */
            return -ETIMEDOUT;
        ssize_t n = stream_receive_now(s, (uint8_t *)buf + got, length - got);
        if (n == -EAGAIN) {
            int r = wire_wait(&s->wire, true, ms_until(deadline));
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
    return s->tls ? secure_send_by(secure(s), buf, length, deadline)
                  : wire_send_by(&s->wire, buf, length, deadline);
}

ssize_t stream_send_file(struct stream *s, int fd, uint64_t offset, size_t length)
{
    return wire_send_file(&s->wire, fd, offset, length);
}

bool stream_input_waiting(struct stream *s)
{
    return wire_input_waiting(&s->wire);
}

int stream_start_tls(struct stream *s, const struct tls_credentials *c, int64_t deadline,
                     char **why)
{
    g_autoptr(GError) err = NULL;

    *why = NULL;
    s->tls = tls_session_new(c, &err);
    if (!s->tls) {
        *why = g_strdup(err->message);
        return -ENOMEM;
    }
    int r = secure_handshake(secure(s), deadline, why);
    if (r < 0 && !*why)
        *why = g_strdup(r == -ETIMEDOUT ? "it took too long" : g_strerror(-r));
    if (r == -EPROTO) /* let the alert arrive */
        stream_finish(s);
    return r;
}

const struct tls_peer *stream_tls_peer(const struct stream *s)
{
    return s->tls ? &s->tls->peer : NULL;
}

void stream_finish(struct stream *s)
{
    int64_t until = g_get_monotonic_time() + FINISH_USEC;

    if (s->tls)
        secure_finish(secure(s), until);
    wire_finish(&s->wire, until);
}

void stream_end_input(struct stream *s)
{
    wire_end_input(&s->wire);
}

void stream_cut(struct stream *s)
{
    wire_cut(&s->wire);
}

bool stream_is_cut(struct stream *s)
{
    return wire_is_cut(&s->wire);
}
