/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A TLS session over a wire. Private to stream.c; secure_X does over TLS what wire_X does without.
 */
#ifndef NBD_STREAM_TLS_H
#define NBD_STREAM_TLS_H

#include "server/nbd/tls-session.h"
#include "server/nbd/wire.h"

struct secure {
    struct wire *wire;
    struct tls_session *tls;
};

/* Make the server's side of a TLS handshake, before `deadline` (g_get_monotonic_time, 0: none). 0,
 * or a negative errno and, where TLS gives a reason, *why (g_free). */
int secure_handshake(struct secure s, int64_t deadline, char **why);

ssize_t secure_receive_now(struct secure s, void *buf, size_t length);
ssize_t secure_receive(struct secure s, void *buf, size_t length);
int secure_send(struct secure s, struct iovec *iov, unsigned n);
int secure_send_by(struct secure s, const void *buf, size_t length, int64_t deadline);
/* Tell the client that nothing will follow; takes no longer than `deadline`. */
void secure_finish(struct secure s, int64_t deadline);

#endif
