/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's side of a TLS session, a GnuTLS client, and the wire between them, in memory. No
 * sockets, no files but the credentials.
 */
#ifndef TESTS_RIGS_TLS_RIG_H
#define TESTS_RIGS_TLS_RIG_H

#include "server/nbd/tls-session.h"

#include <gnutls/x509.h>

/* A call of GnuTLS that must not fail. */
#define OK(call) g_assert_cmpint(call, >=, 0)

/* ---- certificates ---- */

struct identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
};

/* One alternative name in DER: GnuTLS itself would cut one with a NUL short when it writes it. */
struct san {
    unsigned char tag;
    const void *bytes;
    unsigned length;
};

/* ca NULL: a CA. sans end with a length of 0; NULL: none. */
struct identity make_identity(const struct identity *ca, const char *name, unsigned length,
                              const struct san *sans);
void identity_free(struct identity *id);
/* Into a file of this name in a folder. */
void write_certificate(const char *dir, const char *name, const struct identity *id);
void write_key(const char *dir, const char *name, const struct identity *id);

/* What all tests use. */
struct world {
    char *dir, *psk_file;
    struct identity ca, server;
    struct tls_credentials *open, *verify, *psk;
};

void world_begin(struct world *w);
void world_end(struct world *w);

/* ---- a client, and the wire ---- */

struct pair {
    struct tls_session *server;
    gnutls_session_t client;
    gnutls_certificate_credentials_t x509;
    gnutls_psk_client_credentials_t psk;
    pthread_mutex_t lock; /* of the two, for the test with threads */
    GByteArray *to_server, *to_client;
    char *why; /* of the server's failed handshake */
};

/* The client has this priority string of GnuTLS, and no credentials yet. */
void pair_begin(struct pair *p, const struct world *w, const struct tls_credentials *c,
                const char *priority);
void pair_identity(struct pair *p, const struct identity *id);
void pair_psk(struct pair *p, const char *user, unsigned length, const char *hex);
void pair_end(struct pair *p);

/* Give the server what the client has sent. False: nothing. */
bool feed(struct pair *p);
/* Give the client what the server has to send. */
void drain(struct pair *p);
/* Do both ends' handshakes. True: both are done. */
bool shake_hands(struct pair *p);

/* ---- data: all of it, checked ---- */

void client_says(struct pair *p, const void *bytes, size_t length);
void server_hears(struct pair *p, const void *bytes, size_t length);
void server_says(struct pair *p, struct iovec *iov, unsigned n);
void client_hears(struct pair *p, const void *bytes, size_t length);
/* Bytes that show where they are out of place; g_free. */
uint8_t *pattern(size_t length);
/* Messages of many sizes there and back, and nothing more. */
void both_ways(struct pair *p);

#endif
