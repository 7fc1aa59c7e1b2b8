/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One TLS session, the server's side of it, as a machine between bytes and bytes: it does no I/O
 * and never waits. What comes from the wire is put into `in`; what is to go there collects in a
 * buffer that the caller empties. stream-tls.c moves the bytes.
 *
 * Threads. GnuTLS lets one thread receive and another send on a session at the same time, as long
 * as neither does anything else. In TLS 1.3 they do: a KeyUpdate from the client that asks for one
 * of ours makes both change the session's keys, and the receiving thread sends alerts. So all calls
 * of GnuTLS for a session are made under its lock. The lock is held while records are encrypted or
 * decrypted, never across a system call: `in` belongs to the receiving thread alone, the bytes that
 * tls_output returned belong to the sending thread until tls_sent, and what GnuTLS sends while it
 * receives goes behind them and out with the next reply. So receiving and sending do not run in
 * parallel on one connection; the connection's own thread does nearly all of both.
 *
 * What we do not do: renegotiation (TLS 1.2), resumption and tickets, early data, authentication
 * after the handshake. A client that tries has its connection ended, or (tickets) makes a full
 * handshake.
 *
 * kTLS is not used. Through GnuTLS it comes only where GnuTLS reads and writes the socket itself, a
 * record and a system call at a time, and only where the administrator switched it on. Set up by
 * ourselves, the kernel could send, but not change its keys before Linux 6.14; AES-GCM wants that
 * after 2^24.5 records (RFC 8446, 5.5), 390 GB, which is less than many a full backup.
 */
#ifndef NBD_TLS_SESSION_H
#define NBD_TLS_SESSION_H

#include "server/nbd/tls-credentials.h"
#include "server/nbd/tls-peer.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

/* Ciphertext: received and not yet decrypted, encrypted and not yet sent. */
#define TLS_IN_SIZE  (128u << 10)
#define TLS_OUT_SIZE (192u << 10)

struct tls_session {
    gnutls_session_t gnutls;
    const struct tls_credentials *credentials;
    pthread_mutex_t lock; /* a leaf: nothing is locked inside it */
    uint8_t *memory;      /* a mapping: in, out, and a record to be put together */

    /* the receiving thread's */
    uint8_t *in;
    size_t in_begin, in_end;
    bool in_finished; /* the wire has ended */
    bool starved;     /* nothing can be decrypted from what there is */

    /* under the lock; but what lies between begin and a value of end that the sending thread has
     * seen is its own */
    uint8_t *out;
    size_t out_begin, out_end;
    uint8_t *record;

    struct tls_peer peer; /* fixed by the handshake */
};

/* NULL and *err on failure. `c` outlives it. */
struct tls_session *tls_session_new(const struct tls_credentials *c, GError **err);
void tls_session_free(struct tls_session *t);

/* -- the receiving thread -- */

/* The caller has put `length` bytes of ciphertext, at most TLS_IN_SIZE, into t->in. It may do so
 * when tls_handshake or tls_decrypt has answered -EAGAIN: all earlier bytes are used then. */
void tls_input(struct tls_session *t, size_t length);
void tls_input_finished(struct tls_session *t);

/* At most `length` bytes of what the client said. > 0; 0 at the end, however it came (each NBD
 * message has a length, so a missing close_notify cuts nothing off unnoticed); -EAGAIN: more input
 * is needed; -EPROTO. */
ssize_t tls_decrypt(struct tls_session *t, void *buf, size_t length);

/* -- before any other thread knows the session -- */

/* A step of the handshake, after which there may be output whatever it says. 0: done; -EAGAIN:
 * more input is needed; -EPROTO: failed, *why says why (g_free). */
int tls_handshake(struct tls_session *t, char **why);

/* -- the sending thread -- */

/* Encrypt from the front of `iov`, as much as there is room for, and take that off. There is room
 * for at least one record once all output has been sent. 0 or -EPROTO. */
int tls_encrypt(struct tls_session *t, struct iovec **iov, unsigned *n);
/* Say that nothing will follow. */
void tls_bye(struct tls_session *t);
/* The bytes to be sent; iov_len is 0 if there are none. */
struct iovec tls_output(struct tls_session *t);
void tls_sent(struct tls_session *t, size_t length);

/* Nothing is received or sent for a while: give the buffers' memory back. Neither thread uses the
 * session meanwhile. */
void tls_rest(struct tls_session *t);

/* For the log: version, key exchange, cipher. g_free. */
char *tls_description(struct tls_session *t);

#endif
