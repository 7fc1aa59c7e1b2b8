/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bytes to and from one client: a socket, or a pair of descriptors (-s). Once stream_start_tls
 * has succeeded, all that is sent and received goes through a TLS session (tls-session.h); nobody
 * above sees a difference.
 *
 * One thread receives; one thread at a time sends. stream_cut and stream_end_input may be called
 * from any thread until stream_close, which comes after every other use: a descriptor's number is
 * never given back while somebody may still write to it.
 */
#ifndef NBD_STREAM_H
#define NBD_STREAM_H

#include "server/nbd/wire.h"

struct tls_credentials;
struct tls_peer;
struct tls_session;

struct stream {
    struct wire wire;
    struct tls_session *tls; /* NULL: plain text */
};

/* Takes over the descriptors, on failure too. */
int stream_init(struct stream *s, int in, int out, GError **err);
void stream_close(struct stream *s);

/* Make it quick for bulk data: buffers, no Nagle, and the two waits: a receive gives up after
 * `idle_seconds` (-EAGAIN), a send that makes no progress after `send_seconds` (-ETIMEDOUT).
 * 0: never. */
void stream_tune(struct stream *s, unsigned idle_seconds, unsigned send_seconds);

/* Receive what is there, at most `length` bytes; waits for the first. > 0; 0 at the end; a
 * negative errno. */
ssize_t stream_receive(struct stream *s, void *buf, size_t length);
/* The same without waiting: -EAGAIN. */
ssize_t stream_receive_now(struct stream *s, void *buf, size_t length);
/* Wait, without limit, until there is something to receive. */
void stream_wait(struct stream *s);

/* Send all. 0 or a negative errno, after which nothing more can be sent. Changes `iov`. */
int stream_send(struct stream *s, struct iovec *iov, unsigned n);

/* Can stream_send_file do anything? */
bool stream_can_send_file(const struct stream *s);
/* Send from a file, by reference to its pages in the page cache where the kernel can. Returns the
 * number of bytes sent: fewer than `length` where the file or the client has an error, which the
 * caller finds by reading and sending; or -ETIMEDOUT, as stream_send. The thread has to block
 * SIGPIPE. */
ssize_t stream_send_file(struct stream *s, int fd, uint64_t offset, size_t length);

/* For the handshake: all of `length` bytes before `deadline` (g_get_monotonic_time; 0: none). 0, or
 * a negative errno: -ETIMEDOUT, -EPIPE where the stream ends (-ENODATA: at its first byte). */
int stream_receive_by(struct stream *s, void *buf, size_t length, int64_t deadline);
int stream_send_by(struct stream *s, const void *buf, size_t length, int64_t deadline);

/* Has anything come that was not received? (Of a pipe: or has it ended?) Not once TLS was started.
 */
bool stream_input_waiting(struct stream *s);
/* Make the server's side of a TLS handshake, before `deadline` (as above). 0, or a negative errno
 * and in *why (g_free) the reason. Nobody else uses the stream meanwhile, but to cut it. */
int stream_start_tls(struct stream *s, const struct tls_credentials *c, int64_t deadline,
                     char **why);
/* Who is there; NULL without TLS. */
const struct tls_peer *stream_tls_peer(const struct stream *s);

/* Nothing more will be sent. Over TCP, wait for what was sent to arrive, but not long: a close with
 * unread input would throw it away. */
void stream_finish(struct stream *s);

/* Any thread. stream_end_input: receiving finds the end, perhaps after what has arrived already.
 * stream_cut: everything ends at once. */
void stream_end_input(struct stream *s);
void stream_cut(struct stream *s);
/* Has it been cut? Then nobody waits for what is under way. Any thread. */
bool stream_is_cut(struct stream *s);

#endif
