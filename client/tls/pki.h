/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A CA and certificates signed by it, made by GnuTLS in memory.
 *
 * The keys are RSA of 3072 bits: QEMU before 10.2 wants certificates for key encipherment too,
 * which those of elliptic curves cannot be (RFC 8813).
 */
#ifndef CLIENT_TLS_PKI_H
#define CLIENT_TLS_PKI_H

#include <glib.h>
#include <time.h>

/* What a certificate is for. */
enum pki_role { PKI_CA, PKI_SERVER, PKI_CLIENT };

/* A certificate and its key. */
typedef struct pki_identity pki_identity;

/* Make a certificate with the subject CN=`name` (at most 64 bytes), valid from a day ago (clocks
 * differ) until `expires`. `hosts` are the names and addresses of a server (ends with NULL), or
 * NULL. `ca` signs it; if it is NULL, the certificate signs itself. NULL and *err. */
struct pki_identity *pki_new(enum pki_role role, const char *name, const char *const *hosts,
                             time_t expires, const struct pki_identity *ca, GError **err);
void pki_free(struct pki_identity *p);
G_DEFINE_AUTOPTR_CLEANUP_FUNC(pki_identity, pki_free)

/* PEM text, which the caller g_frees; NULL and *err. */
char *pki_certificate(const struct pki_identity *p, GError **err);
char *pki_key(const struct pki_identity *p, GError **err);

#endif
