/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/tls-credentials.h"

#include "common/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <sys/stat.h>
#include <unistd.h>

/* Appended to the system's priorities. PSK files are for SHA-256, so TLS 1.3 leaves two ciphers, of
 * which GnuTLS's clients prefer ChaCha20, six times slower than AES where the processor knows AES:
 * it is not offered. */
#define VERSIONS       "-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:-RSA-PSK"
#define X509_ALGORITHM VERSIONS
#define PSK_ALGORITHM  VERSIONS ":-PSK:+ECDHE-PSK:+DHE-PSK:-CHACHA20-POLY1305"

struct tls_credentials {
    gnutls_certificate_credentials_t x509; /* or */
    gnutls_psk_server_credentials_t psk;
    gnutls_priority_t priority;
    bool verify_peer;
};

void tls_credentials_free(struct tls_credentials *c)
{
    if (!c)
        return;
    if (c->x509)
        gnutls_certificate_free_credentials(c->x509);
    if (c->psk)
        gnutls_psk_free_server_credentials(c->psk);
    if (c->priority)
        gnutls_priority_deinit(c->priority);
    g_free(c);
}
typedef struct tls_credentials credentials; /* g_autoptr takes one word */
G_DEFINE_AUTOPTR_CLEANUP_FUNC(credentials, tls_credentials_free)

bool tls_credentials_name_clients(const struct tls_credentials *c)
{
    return c->psk || c->verify_peer;
}

static int fail_gnutls(GError **err, int error, const char *what)
{
    return fail(err, "TLS: %s: %s", what, gnutls_strerror(error));
}

static int set_priority(struct tls_credentials *c, const char *algorithms, GError **err)
{
    int r = gnutls_priority_init2(&c->priority, algorithms, NULL, GNUTLS_PRIORITY_INIT_DEF_APPEND);

    return r < 0 ? fail_gnutls(err, r, "the system's priorities cannot be used") : 0;
}

/* GnuTLS has one error for everything that can be wrong with a file. */
static int check_readable(const char *path, GError **err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return fail_errno(err, errno, "TLS: '%s'", path);
    bool is_folder = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode);
    close(fd);
    return is_folder ? fail_errno(err, EISDIR, "TLS: '%s'", path) : 0;
}

/* ---- certificates ---- */

static int load_ca(struct tls_credentials *c, const char *dir, GError **err)
{
    g_autofree char *path = g_build_filename(dir, "ca-cert.pem", NULL);

    if (check_readable(path, err) < 0)
        return -1;
    int n = gnutls_certificate_set_x509_trust_file(c->x509, path, GNUTLS_X509_FMT_PEM);
    if (n < 0)
        return fail_gnutls(err, n, path);
    return n > 0 ? 0 : fail(err, "TLS: '%s' has no certificate in it", path);
}

static int load_crl(struct tls_credentials *c, const char *dir, GError **err)
{
    g_autofree char *path = g_build_filename(dir, "ca-crl.pem", NULL);

    if (access(path, F_OK) < 0 && errno == ENOENT)
        return 0;
    if (check_readable(path, err) < 0)
        return -1;
    int n = gnutls_certificate_set_x509_crl_file(c->x509, path, GNUTLS_X509_FMT_PEM);
    return n < 0 ? fail_gnutls(err, n, path) : 0;
}

static int load_key(struct tls_credentials *c, const char *dir, GError **err)
{
    g_autofree char *cert = g_build_filename(dir, "server-cert.pem", NULL);
    g_autofree char *key = g_build_filename(dir, "server-key.pem", NULL);

    if (check_readable(cert, err) < 0 || check_readable(key, err) < 0)
        return -1;
    int r = gnutls_certificate_set_x509_key_file2(c->x509, cert, key, GNUTLS_X509_FMT_PEM, NULL, 0);
    return r < 0 ? fail_gnutls(err, r, cert) : 0;
}

/* Where nbdkit looks. NULL and *err: nowhere. */
static char *find_dir(GError **err)
{
    const char *home = g_getenv("HOME");
    GPtrArray *places = g_ptr_array_new_with_free_func(g_free);
    char *found = NULL;

    if (geteuid() == 0 || !home) {
        g_ptr_array_add(places, g_strdup(TLS_CERTIFICATES_OF_ROOT));
    } else {
        g_ptr_array_add(places, g_build_filename(home, ".pki", "nbdkit", NULL));
        g_ptr_array_add(places, g_build_filename(home, ".config", "pki", "nbdkit", NULL));
    }
    for (unsigned i = 0; i < places->len && !found; i++) {
        g_autofree char *cert = g_build_filename(places->pdata[i], "server-cert.pem", NULL);

        if (access(cert, F_OK) == 0)
            found = g_strdup(places->pdata[i]);
    }
    if (!found) {
        g_ptr_array_add(places, NULL);
        g_autofree char *all = g_strjoinv(", ", (char **)places->pdata);
        fail(err, "TLS: there are no certificates in %s: use --tls-certificates or --tls-psk", all);
    }
    g_ptr_array_unref(places);
    return found;
}

struct tls_credentials *tls_credentials_certificates(const char *dir, bool verify_peer,
                                                     GError **err)
{
    g_autofree char *place = dir ? g_strdup(dir) : find_dir(err);
    g_autoptr(credentials) c = g_new0(struct tls_credentials, 1);

    if (!place)
        return NULL;
    c->verify_peer = verify_peer;
    int r = gnutls_certificate_allocate_credentials(&c->x509);
    if (r < 0) {
        fail_gnutls(err, r, "certificates");
        return NULL;
    }
    if (load_ca(c, place, err) < 0 || load_crl(c, place, err) < 0 || load_key(c, place, err) < 0 ||
        set_priority(c, X509_ALGORITHM, err) < 0)
        return NULL;
    return g_steal_pointer(&c);
}

/* ---- pre-shared keys ---- */

int tls_credentials_check_psk(const char *path, GError **err)
{
    return check_readable(path, err);
}

struct tls_credentials *tls_credentials_psk(const char *path, GError **err)
{
    g_autoptr(credentials) c = g_new0(struct tls_credentials, 1);

    if (check_readable(path, err) < 0)
        return NULL;
    int r = gnutls_psk_allocate_server_credentials(&c->psk);
    if (r >= 0)
        r = gnutls_psk_set_server_credentials_file(c->psk, path);
    if (r < 0) {
        fail_gnutls(err, r, path);
        return NULL;
    }
    return set_priority(c, PSK_ALGORITHM, err) < 0 ? NULL : g_steal_pointer(&c);
}

/* ---- sessions ---- */

/* The certificate must be made for clients, or for any use: nobody gets in with a server's
 * certificate that was stolen. */
static void verify_client(gnutls_session_t session)
{
    static const gnutls_typed_vdata_st purpose = {
        .type = GNUTLS_DT_KEY_PURPOSE_OID,
        .data = (unsigned char *)(char *)GNUTLS_KP_TLS_WWW_CLIENT,
    };

    gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    gnutls_session_set_verify_cert2(session, (gnutls_typed_vdata_st *)&purpose, 1, 0);
}

int tls_credentials_apply(const struct tls_credentials *c, gnutls_session_t session)
{
    int r = gnutls_priority_set(session, c->priority);

    if (r < 0)
        return r;
    if (c->psk)
        return gnutls_credentials_set(session, GNUTLS_CRD_PSK, c->psk);
    r = gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, c->x509);
    if (r >= 0 && c->verify_peer)
        verify_client(session);
    return r;
}
