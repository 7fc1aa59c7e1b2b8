/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Between the descriptors and a TLS session, which does no I/O itself (tls-session.h).
 *
 * Receiving: as much ciphertext as there is with one system call, then as many records as it holds.
 * The calls that wait are the same as without TLS, so the same things end them or time them out.
 * Sending: records until the session's buffer is full, then one system call for all.
 */
#include "server/nbd/stream-tls.h"

#include <errno.h>

/* The most time that telling a client why its handshake failed may take. */
#define LAST_WORDS_USEC G_USEC_PER_SEC

/* ---- receiving ---- */

typedef ssize_t (*wire_receiver)(struct wire *w, void *buf, size_t length);

/* Get ciphertext, or note its end. 0, or a negative errno. */
static int fill(struct secure s, wire_receiver receive)
{
    ssize_t n = receive(s.wire, s.tls->in, TLS_IN_SIZE);

    if (n < 0)
        return (int)n;
    if (n > 0)
        tls_input(s.tls, (size_t)n);
    else
        tls_input_finished(s.tls);
    return 0;
}

static ssize_t receive_with(struct secure s, void *buf, size_t length, wire_receiver receive)
{
    for (;;) {
        ssize_t n = tls_decrypt(s.tls, buf, length);
        if (n != -EAGAIN)
            return n;
        int r = fill(s, receive);
        if (r < 0)
            return r;
    }
}

ssize_t secure_receive_now(struct secure s, void *buf, size_t length)
{
    return receive_with(s, buf, length, wire_receive_now);
}

ssize_t secure_receive(struct secure s, void *buf, size_t length)
{
    return receive_with(s, buf, length, wire_receive);
}

/* ---- sending ---- */

int secure_send(struct secure s, struct iovec *iov, unsigned n)
{
    int r = 0;

    while (r == 0 && n > 0) {
        r = tls_encrypt(s.tls, &iov, &n);
        struct iovec output = tls_output(s.tls);
        const size_t length = output.iov_len;
        if (r == 0 && length > 0)
            r = wire_send(s.wire, &output, 1);
        if (r == 0)
            tls_sent(s.tls, length);
    }
    return r;
}

static int flush_by(struct secure s, int64_t deadline)
{
    struct iovec output = tls_output(s.tls);
    int r = wire_send_by(s.wire, output.iov_base, output.iov_len, deadline);

    if (r == 0)
        tls_sent(s.tls, output.iov_len);
    return r;
}

int secure_send_by(struct secure s, const void *buf, size_t length, int64_t deadline)
{
    struct iovec one = {(void *)buf, length}, *iov = &one;
    unsigned n = length > 0;
    int r = 0;

    while (r == 0 && n > 0) {
        r = tls_encrypt(s.tls, &iov, &n);
        if (r == 0)
            r = flush_by(s, deadline);
    }
    return r;
}

void secure_finish(struct secure s, int64_t deadline)
{
    tls_bye(s.tls);
    flush_by(s, deadline);
}

/* ---- the handshake ---- */

static int more_input(struct secure s, int64_t deadline)
{
    if (has_passed(deadline)) /* also where there is always a byte */
        return -ETIMEDOUT;
    int r = wire_wait(s.wire, true, ms_until(deadline));
    if (r <= 0)
        return r == 0 ? -ETIMEDOUT : r;
    r = fill(s, wire_receive_now);
    return r == -EAGAIN ? 0 : r;
}

static int64_t last_words(int64_t deadline)
{
    int64_t soon = g_get_monotonic_time() + LAST_WORDS_USEC;
    return deadline == 0 ? soon : MIN(deadline, soon);
}

int secure_handshake(struct secure s, int64_t deadline, char **why)
{
    for (;;) {
        int done = tls_handshake(s.tls, why);
        if (done != 0 && done != -EAGAIN) {
            flush_by(s, last_words(deadline)); /* the alert */
            return done;
        }
        int r = flush_by(s, deadline);
        if (r == 0 && done == -EAGAIN)
            r = more_input(s, deadline);
        if (r < 0 || done == 0)
            return r;
    }
}
