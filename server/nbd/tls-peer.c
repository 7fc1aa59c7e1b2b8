/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/tls-peer.h"

#include <arpa/inet.h>
#include <gnutls/x509.h>
#include <string.h>

/* Note `length` bytes, behind `kind`, as a name, if they can be one. */
static void add_name(struct tls_peer *p, const char *kind, const void *bytes, size_t length)
{
    if (length == 0 || memchr(bytes, '\0', length))
        return;
    g_autofree char *name = g_strndup(bytes, length);
    g_ptr_array_add(p->names, g_strconcat(kind, name, NULL));
}

static void add_address(struct tls_peer *p, const void *bytes, size_t length)
{
    char text[INET6_ADDRSTRLEN];
    int family = length == 4 ? AF_INET : AF_INET6;

    if ((length == 4 || length == 16) && inet_ntop(family, bytes, text, sizeof text))
        add_name(p, "IP:", text, strlen(text));
}

/* More alternative names than this are not looked at. */
#define ALTERNATIVES_MAX 100u

/* One alternative name; false: there are no more. A name of another type is passed over, and one
 * that is malformed or longer than anybody would write into a list. */
static bool add_alternative(struct tls_peer *p, gnutls_x509_crt_t crt, unsigned i)
{
    char bytes[1024];
    size_t length = sizeof bytes;
    int type = gnutls_x509_crt_get_subject_alt_name(crt, i, bytes, &length, NULL);

    switch (type) {
    case GNUTLS_SAN_DNSNAME:
        add_name(p, "DNS:", bytes, length);
        break;
    case GNUTLS_SAN_RFC822NAME:
        add_name(p, "EMAIL:", bytes, length);
        break;
    case GNUTLS_SAN_URI:
        add_name(p, "URI:", bytes, length);
        break;
    case GNUTLS_SAN_IPADDRESS:
        add_address(p, bytes, length);
        break;
    default:
        return type != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE;
    }
    return true;
}

/* Takes what GnuTLS gave. NULL: there was none, or not as text. */
static char *take_dn(int r, gnutls_datum_t dn)
{
    char *text = NULL;

    if (r < 0)
        return NULL;
    if (dn.size > 0 && !memchr(dn.data, '\0', dn.size))
        text = g_strndup((const char *)dn.data, dn.size);
    gnutls_free(dn.data);
    return text;
}

static void read_certificate(struct tls_peer *p, gnutls_x509_crt_t crt)
{
    gnutls_datum_t dn = {0}, issuer = {0};
    int r = gnutls_x509_crt_get_dn3(crt, &dn, 0);

    p->dn = take_dn(r, dn);
    r = gnutls_x509_crt_get_issuer_dn3(crt, &issuer, 0);
    p->issuer_dn = take_dn(r, issuer);
    if (p->dn)
        g_ptr_array_add(p->names, g_strdup(p->dn));
    for (unsigned i = 0; i < ALTERNATIVES_MAX && add_alternative(p, crt, i); i++)
        ;
}

static void certificate(struct tls_peer *p, gnutls_session_t session)
{
    unsigned n;
    const gnutls_datum_t *list = gnutls_certificate_get_peers(session, &n);
    gnutls_x509_crt_t crt;

    if (!list || n == 0 || gnutls_x509_crt_init(&crt) < 0)
        return;
    if (gnutls_x509_crt_import(crt, &list[0], GNUTLS_X509_FMT_DER) >= 0)
        read_certificate(p, crt);
    gnutls_x509_crt_deinit(crt);
}

static void psk_user(struct tls_peer *p, gnutls_session_t session)
{
    gnutls_datum_t user;

    if (gnutls_psk_server_get_username2(session, &user) >= 0)
        add_name(p, "", user.data, user.size);
}

void tls_peer_init(struct tls_peer *p, gnutls_session_t session, bool named)
{
    *p = (struct tls_peer){.names = g_ptr_array_new_with_free_func(g_free)};
    if (!named)
        return;
    if (gnutls_auth_client_get_type(session) == GNUTLS_CRD_PSK)
        psk_user(p, session);
    else if (gnutls_auth_client_get_type(session) == GNUTLS_CRD_CERTIFICATE)
        certificate(p, session);
}

void tls_peer_clear(struct tls_peer *p)
{
    g_free(p->dn);
    g_free(p->issuer_dn);
    if (p->names)
        g_ptr_array_unref(p->names);
    *p = (struct tls_peer){0};
}

bool tls_peer_is_one_of(const struct tls_peer *p, const char *const *allowed)
{
    for (unsigned i = 0; i < p->names->len; i++) {
        if (g_strv_contains(allowed, p->names->pdata[i]))
            return true;
    }
    return false;
}
