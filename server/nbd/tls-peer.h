/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who the other end of a TLS session has proved to be, and whether it may use an export.
 *
 * Names are compared whole, byte by byte and with their lengths; a name with a NUL in it, which
 * other software may take for its first half, is nobody's.
 */
#ifndef NBD_TLS_PEER_H
#define NBD_TLS_PEER_H

#include <glib.h>
#include <gnutls/gnutls.h>
#include <stdbool.h>

struct tls_peer {
    char *dn, *issuer_dn; /* of a certificate that was verified, as RFC 4514 has it; else NULL */
    /* What an allow-list may name it by: a PSK user's name, or of a verified certificate the
     * subject, and its alternative names as "DNS:...", "EMAIL:...", "URI:...", "IP:...". */
    GPtrArray *names;
};

/* Look who it is, after the handshake. `named`: what tls_credentials_name_clients says. */
void tls_peer_init(struct tls_peer *p, gnutls_session_t session, bool named);
void tls_peer_clear(struct tls_peer *p);

/* Does it have one of these names (a list that ends with NULL)? */
bool tls_peer_is_one_of(const struct tls_peer *p, const char *const *allowed);

#endif
