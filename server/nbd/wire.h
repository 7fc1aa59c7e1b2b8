/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What goes over a client's descriptors as it is, below TLS: a socket, or a pair of descriptors
 * (-s). The one place that knows system calls of the wire. Private to stream.c and stream-tls.c.
 *
 * One thread receives; one thread at a time sends. wire_cut and wire_end_input may be called from
 * any thread until wire_close.
 */
#ifndef NBD_WIRE_H
#define NBD_WIRE_H

#include <glib.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

struct wire {
    int in, out; /* may be the same */
    bool in_socket, out_socket;
    int end_in, end_out; /* eventfds that end waiting where shutdown(2) cannot; -1: both sockets */
    atomic_bool cut;
};

/* Takes over the descriptors, on failure too. */
int wire_init(struct wire *w, int in, int out, GError **err);
void wire_close(struct wire *w);
/* As stream_tune. */
void wire_tune(struct wire *w, unsigned idle_seconds, unsigned send_seconds);

/* Wait until receiving (or sending) may do something, or until `timeout_ms`. > 0: try now; 0: time
 * is up; -ECANCELED: ended from outside. */
int wire_wait(struct wire *w, bool receive, int timeout_ms);
/* poll(2)'s timeout for a deadline (g_get_monotonic_time; 0: none). */
int ms_until(int64_t deadline);
bool has_passed(int64_t deadline);

/* At most `length` bytes, without waiting (-EAGAIN) or waiting for the first. > 0; 0 at the end; a
 * negative errno. */
ssize_t wire_receive_now(struct wire *w, void *buf, size_t length);
ssize_t wire_receive(struct wire *w, void *buf, size_t length);
/* Has anything come that was not received? (Of a pipe: or has it ended?) */
bool wire_input_waiting(struct wire *w);

/* Send all. 0 or a negative errno. Changes `iov`. */
int wire_send(struct wire *w, struct iovec *iov, unsigned n);
int wire_send_by(struct wire *w, const void *buf, size_t length, int64_t deadline);
/* As stream_send_file; the output is a socket. */
ssize_t wire_send_file(struct wire *w, int fd, uint64_t offset, size_t length);

/* Nothing more will be sent. Over TCP, wait for what was sent to arrive, but not beyond `until`. */
void wire_finish(struct wire *w, int64_t until);

/* As stream_end_input and its kin. Any thread. */
void wire_end_input(struct wire *w);
void wire_cut(struct wire *w);
bool wire_is_cut(struct wire *w);

#endif
