/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server proves itself with over TLS, and what it asks of clients: certificates or
 * pre-shared keys, read once at the start, before a change of user. All sessions share them; they
 * do not change, so any thread may use them.
 *
 * TLS 1.2 and 1.3 alone, and no session tickets (tls-session.c). The administrator's choice of
 * algorithms (GnuTLS's system-wide priorities) holds, less RSA-PSK, and with PSK only key exchanges
 * that have forward secrecy.
 */
#ifndef NBD_TLS_CREDENTIALS_H
#define NBD_TLS_CREDENTIALS_H

#include <glib.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>

struct tls_credentials;

/* Where nbdkit looks when it is started by root. */
#define TLS_CERTIFICATES_OF_ROOT "/etc/pki/nbdkit"

/* A folder with ca-cert.pem, server-cert.pem, server-key.pem and maybe ca-crl.pem. NULL: the first
 * of nbdkit's places that has a server-cert.pem. With `verify_peer` clients must show a certificate
 * that the CA has signed for clients and not revoked. NULL and *err on failure. */
struct tls_credentials *tls_credentials_certificates(const char *dir, bool verify_peer,
                                                     GError **err);
/* A file of lines USER:HEXKEY (psktool(1)). GnuTLS reads it for every client, so an absolute path,
 * which the user that the server becomes may read; keys can come and go while the server runs. */
struct tls_credentials *tls_credentials_psk(const char *path, GError **err);
/* Can the present user read that file? -1 and *err: no. */
int tls_credentials_check_psk(const char *path, GError **err);
void tls_credentials_free(struct tls_credentials *c);

/* Does every client prove who it is? */
bool tls_credentials_name_clients(const struct tls_credentials *c);

/* Set up a new session to use them. 0, or GnuTLS's error. */
int tls_credentials_apply(const struct tls_credentials *c, gnutls_session_t session);

#endif
