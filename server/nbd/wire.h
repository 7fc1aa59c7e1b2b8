/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The stream below TLS: what goes over the descriptors as it is. For stream.c and stream-tls.c;
 * each function does what stream_* of the same name does without TLS.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include "server/nbd/stream.h"

/* Wait until receiving (or sending) may do something, or until `timeout_ms`. > 0: try now; 0: time
 * is up; -ECANCELED: ended from outside. */
int wire_wait(struct stream *s, bool receive, int timeout_ms);
/* poll(2)'s timeout for a deadline. */
int ms_until(int64_t deadline);
bool has_passed(int64_t deadline);

ssize_t wire_receive_now(struct stream *s, void *buf, size_t length);
ssize_t wire_receive(struct stream *s, void *buf, size_t length);
int wire_send(struct stream *s, struct iovec *iov, unsigned n);
int wire_send_by(struct stream *s, const void *buf, size_t length, int64_t deadline);

/* -- stream-tls.c: the same over TLS -- */

ssize_t secure_receive_now(struct stream *s, void *buf, size_t length);
ssize_t secure_receive(struct stream *s, void *buf, size_t length);
int secure_send(struct stream *s, struct iovec *iov, unsigned n);
int secure_send_by(struct stream *s, const void *buf, size_t length, int64_t deadline);
/* Tell the client that nothing will follow; takes no longer than `deadline`. */
void secure_finish(struct stream *s, int64_t deadline);

#endif
