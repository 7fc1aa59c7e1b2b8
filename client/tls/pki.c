/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/tls/pki.h"
#include "client/base/error.h"

#include <arpa/inet.h>
#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <gnutls/x509.h>
#include <string.h>

#define KEY_BITS    3072
#define CLOCKS_VARY (24 * 60 * 60)

struct pki_identity {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t crt;
};

void pki_free(struct pki_identity *p)
{
    if (!p)
        return;
    if (p->crt)
        gnutls_x509_crt_deinit(p->crt);
    if (p->key)
        gnutls_x509_privkey_deinit(p->key);
    g_free(p);
}

/* ---- the parts of a certificate; each 0 or more, or GnuTLS's error ---- */

static int make_key(struct pki_identity *p)
{
    int r = gnutls_x509_privkey_init(&p->key);

    return r < 0 ? r : gnutls_x509_privkey_generate(p->key, GNUTLS_PK_RSA, KEY_BITS, 0);
}

/* A random number, which DER holds as positive, and which no other certificate has. */
static int set_serial(gnutls_x509_crt_t crt)
{
    unsigned char serial[20];
    int r = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof serial);

    serial[0] = (serial[0] & 0x3f) | 0x40;
    return r < 0 ? r : gnutls_x509_crt_set_serial(crt, serial, sizeof serial);
}

static int set_basics(struct pki_identity *p, const char *name, time_t expires)
{
    int r = gnutls_x509_crt_init(&p->crt);

    if (r >= 0)
        r = gnutls_x509_crt_set_version(p->crt, 3);
    if (r >= 0)
        r = set_serial(p->crt);
    if (r >= 0)
        r = gnutls_x509_crt_set_activation_time(p->crt, time(NULL) - CLOCKS_VARY);
    if (r >= 0)
        r = gnutls_x509_crt_set_expiration_time(p->crt, expires);
    if (r >= 0)
        r = gnutls_x509_crt_set_key(p->crt, p->key);
    if (r >= 0)
        r = gnutls_x509_crt_set_dn_by_oid(p->crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                          (unsigned)strlen(name));
    return r;
}

/* The CA may sign certificates and nothing else, and no CA below it. */
static int set_ca(gnutls_x509_crt_t crt)
{
    int r = gnutls_x509_crt_set_basic_constraints(crt, 1, 0);

    return r < 0
               ? r
               : gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN);
}

static int set_end(gnutls_x509_crt_t crt, const char *purpose)
{
    int r = gnutls_x509_crt_set_basic_constraints(crt, 0, -1);

    if (r >= 0)
        r = gnutls_x509_crt_set_key_usage(crt, GNUTLS_KEY_DIGITAL_SIGNATURE |
                                                   GNUTLS_KEY_KEY_ENCIPHERMENT);
    return r < 0 ? r : gnutls_x509_crt_set_key_purpose_oid(crt, purpose, 0);
}

static int set_role(gnutls_x509_crt_t crt, enum pki_role role)
{
    switch (role) {
    case PKI_CA:
        return set_ca(crt);
    case PKI_SERVER:
        return set_end(crt, GNUTLS_KP_TLS_WWW_SERVER);
    case PKI_CLIENT:
        return set_end(crt, GNUTLS_KP_TLS_WWW_CLIENT);
    }
    return GNUTLS_E_INVALID_REQUEST;
}

static int add_host(gnutls_x509_crt_t crt, const char *host)
{
    struct in6_addr address;

    if (inet_pton(AF_INET, host, &address) == 1)
        return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &address, 4,
                                                    GNUTLS_FSAN_APPEND);
    if (inet_pton(AF_INET6, host, &address) == 1)
        return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &address, 16,
                                                    GNUTLS_FSAN_APPEND);
    return gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, host,
                                                (unsigned)strlen(host), GNUTLS_FSAN_APPEND);
}

static int set_hosts(gnutls_x509_crt_t crt, const char *const *hosts)
{
    int r = 0;

    for (unsigned i = 0; r >= 0 && hosts && hosts[i]; i++)
        r = add_host(crt, hosts[i]);
    return r;
}

/* The ids by which a certificate and that of its issuer are matched. */
static int set_key_ids(gnutls_x509_crt_t crt, gnutls_x509_crt_t issuer)
{
    unsigned char id[64];
    size_t length = sizeof id;
    int r = gnutls_x509_crt_get_key_id(crt, 0, id, &length);

    if (r >= 0)
        r = gnutls_x509_crt_set_subject_key_id(crt, id, length);
    length = sizeof id;
    if (r >= 0)
        r = gnutls_x509_crt_get_key_id(issuer, 0, id, &length);
    return r < 0 ? r : gnutls_x509_crt_set_authority_key_id(crt, id, length);
}

struct pki_identity *pki_new(enum pki_role role, const char *name, const char *const *hosts,
                             time_t expires, const struct pki_identity *ca, GError **err)
{
    g_autoptr(pki_identity) p = g_new0(struct pki_identity, 1);
    const struct pki_identity *issuer = ca ? ca : p;
    int r = make_key(p);

    if (r >= 0)
        r = set_basics(p, name, expires);
    if (r >= 0)
        r = set_role(p->crt, role);
    if (r >= 0)
        r = set_hosts(p->crt, hosts);
    if (r >= 0)
        r = set_key_ids(p->crt, issuer->crt);
    if (r >= 0)
        r = gnutls_x509_crt_sign2(p->crt, issuer->crt, issuer->key, GNUTLS_DIG_SHA256, 0);
    if (r < 0) {
        client_fail(err, CLIENT_ERROR_FAILED, "cannot make a certificate for '%s': %s", name,
                    gnutls_strerror(r));
        return NULL;
    }
    return g_steal_pointer(&p);
}

/* ---- as text ---- */

/* Takes over the text from GnuTLS. */
static char *take_text(int r, gnutls_datum_t pem, GError **err)
{
    if (r < 0) {
        client_fail(err, CLIENT_ERROR_FAILED, "cannot write a certificate down: %s",
                    gnutls_strerror(r));
        return NULL;
    }
    char *text = g_strndup((const char *)pem.data, pem.size);
    gnutls_free(pem.data);
    return text;
}

char *pki_certificate(const struct pki_identity *p, GError **err)
{
    gnutls_datum_t pem = {0};
    int r = gnutls_x509_crt_export2(p->crt, GNUTLS_X509_FMT_PEM, &pem);

    return take_text(r, pem, err);
}

char *pki_key(const struct pki_identity *p, GError **err)
{
    gnutls_datum_t pem = {0};
    int r = gnutls_x509_privkey_export2_pkcs8(p->key, GNUTLS_X509_FMT_PEM, NULL, GNUTLS_PKCS_PLAIN,
                                              &pem);

    return take_text(r, pem, err);
}
