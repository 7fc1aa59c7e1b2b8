/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/tls-rig.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <gnutls/x509-ext.h>
#include <string.h>

/* ---- certificates ---- */

/* The extension: all in less than 128 bytes each. */
static void set_sans(gnutls_x509_crt_t crt, const struct san *sans)
{
    g_autoptr(GByteArray) der = g_byte_array_new();

    for (; sans->length > 0; sans++) {
        unsigned char head[] = {sans->tag, (unsigned char)sans->length};
        g_byte_array_append(der, head, sizeof head);
        g_byte_array_append(der, sans->bytes, sans->length);
    }
    unsigned char sequence[] = {0x30, 0x81, (unsigned char)der->len};
    g_byte_array_prepend(der, sequence, sizeof sequence);
    OK(gnutls_x509_crt_set_extension_by_oid(crt, GNUTLS_X509EXT_OID_SAN, der->data, der->len, 0));
}

struct identity make_identity(const struct identity *ca, const char *name, unsigned length,
                              const struct san *sans)
{
    struct identity id;
    gnutls_x509_crt_t issuer;
    unsigned char serial[] = {1, (unsigned char)g_random_int_range(0, 256),
                              (unsigned char)g_random_int_range(0, 256)};

    OK(gnutls_x509_privkey_init(&id.key));
    OK(gnutls_x509_privkey_generate(id.key, GNUTLS_PK_ECDSA,
                                    GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    OK(gnutls_x509_crt_init(&id.crt));
    issuer = ca ? ca->crt : id.crt;
    OK(gnutls_x509_crt_set_version(id.crt, 3));
    OK(gnutls_x509_crt_set_serial(id.crt, serial, sizeof serial));
    OK(gnutls_x509_crt_set_activation_time(id.crt, time(NULL) - 3600));
    OK(gnutls_x509_crt_set_expiration_time(id.crt, time(NULL) + 3600));
    OK(gnutls_x509_crt_set_key(id.crt, id.key));
    OK(gnutls_x509_crt_set_dn_by_oid(id.crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, length));
    OK(gnutls_x509_crt_set_basic_constraints(id.crt, ca == NULL, -1));
    OK(gnutls_x509_crt_set_key_usage(id.crt, ca == NULL ? GNUTLS_KEY_KEY_CERT_SIGN
                                                        : GNUTLS_KEY_DIGITAL_SIGNATURE));
    if (sans != NULL)
        set_sans(id.crt, sans);
    OK(gnutls_x509_crt_sign2(id.crt, issuer, ca ? ca->key : id.key, GNUTLS_DIG_SHA256, 0));
    return id;
}

void identity_free(struct identity *id)
{
    gnutls_x509_crt_deinit(id->crt);
    gnutls_x509_privkey_deinit(id->key);
}

static void write_pem(const char *dir, const char *name, gnutls_datum_t pem)
{
    g_autofree char *path = g_build_filename(dir, name, NULL);
    g_autoptr(GError) err = NULL;

    g_file_set_contents(path, (const char *)pem.data, pem.size, &err);
    g_assert_no_error(err);
    gnutls_free(pem.data);
}

void write_certificate(const char *dir, const char *name, const struct identity *id)
{
    gnutls_datum_t pem;
    OK(gnutls_x509_crt_export2(id->crt, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(dir, name, pem);
}

void write_key(const char *dir, const char *name, const struct identity *id)
{
    gnutls_datum_t pem;
    OK(gnutls_x509_privkey_export2(id->key, GNUTLS_X509_FMT_PEM, &pem));
    write_pem(dir, name, pem);
}

void world_begin(struct world *w)
{
    /* alice, and "ali\0ce" in psktool's notation. */
    static const char keys[] = "alice:00112233445566778899aabbccddeeff\n"
                               "#616c69006365:ffeeddccbbaa99887766554433221100\n";
    g_autoptr(GError) err = NULL;

    w->dir = g_dir_make_tmp("fleece-XXXXXX", &err);
    g_assert_no_error(err);
    w->ca = make_identity(NULL, "ca", 2, NULL);
    w->server = make_identity(&w->ca, "server", 6, NULL);
    write_certificate(w->dir, "ca-cert.pem", &w->ca);
    write_certificate(w->dir, "server-cert.pem", &w->server);
    write_key(w->dir, "server-key.pem", &w->server);
    w->psk_file = g_build_filename(w->dir, "keys.psk", NULL);
    g_file_set_contents(w->psk_file, keys, -1, &err);
    g_assert_no_error(err);
    w->open = tls_credentials_certificates(w->dir, false, &err);
    g_assert_no_error(err);
    w->verify = tls_credentials_certificates(w->dir, true, &err);
    g_assert_no_error(err);
    w->psk = tls_credentials_psk(w->psk_file, &err);
    g_assert_no_error(err);
}

void world_end(struct world *w)
{
    static const char *const names[] = {"ca-cert.pem", "server-cert.pem", "server-key.pem",
                                        "keys.psk"};

    tls_credentials_free(w->open);
    tls_credentials_free(w->verify);
    tls_credentials_free(w->psk);
    identity_free(&w->ca);
    identity_free(&w->server);
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(w->dir, names[i], NULL);
        g_unlink(path);
    }
    g_rmdir(w->dir);
    g_free(w->psk_file);
    g_free(w->dir);
}

/* ---- a client, and the wire between the two ---- */

static ssize_t client_push(gnutls_transport_ptr_t pair, const void *bytes, size_t length)
{
    struct pair *p = pair;

    pthread_mutex_lock(&p->lock);
    g_byte_array_append(p->to_server, bytes, (guint)length);
    pthread_mutex_unlock(&p->lock);
    return (ssize_t)length;
}

static ssize_t client_pull(gnutls_transport_ptr_t pair, void *bytes, size_t length)
{
    struct pair *p = pair;

    pthread_mutex_lock(&p->lock);
    size_t n = MIN(length, p->to_client->len);
    if (n > 0) {
        memcpy(bytes, p->to_client->data, n);
        g_byte_array_remove_range(p->to_client, 0, (guint)n);
    }
    pthread_mutex_unlock(&p->lock);
    if (n == 0) {
        gnutls_transport_set_errno(p->client, EAGAIN);
        return -1;
    }
    return (ssize_t)n;
}

static int client_pull_timeout(gnutls_transport_ptr_t pair, unsigned ms)
{
    const struct pair *p = pair;
    return p->to_client->len > 0;
}

void pair_begin(struct pair *p, const struct world *w, const struct tls_credentials *c,
                const char *priority)
{
    g_autoptr(GError) err = NULL;

    *p = (struct pair){.to_server = g_byte_array_new(), .to_client = g_byte_array_new()};
    pthread_mutex_init(&p->lock, NULL);
    p->server = tls_session_new(c, &err);
    g_assert_no_error(err);
    OK(gnutls_init(&p->client, GNUTLS_CLIENT | GNUTLS_NONBLOCK));
    OK(gnutls_priority_set_direct(p->client, priority, NULL));
    gnutls_transport_set_ptr(p->client, p);
    gnutls_transport_set_push_function(p->client, client_push);
    gnutls_transport_set_pull_function(p->client, client_pull);
    gnutls_transport_set_pull_timeout_function(p->client, client_pull_timeout);
    OK(gnutls_certificate_allocate_credentials(&p->x509));
    OK(gnutls_certificate_set_x509_trust(p->x509, (gnutls_x509_crt_t *)&w->ca.crt, 1));
    OK(gnutls_credentials_set(p->client, GNUTLS_CRD_CERTIFICATE, p->x509));
    gnutls_session_set_verify_cert(p->client, NULL, 0);
}

void pair_identity(struct pair *p, const struct identity *id)
{
    gnutls_x509_crt_t crt = id->crt;
    OK(gnutls_certificate_set_x509_key(p->x509, &crt, 1, id->key));
}

void pair_psk(struct pair *p, const char *user, unsigned length, const char *hex)
{
    gnutls_datum_t name = {(unsigned char *)(char *)user, length};
    gnutls_datum_t key = {(unsigned char *)(char *)hex, (unsigned)strlen(hex)};

    OK(gnutls_psk_allocate_client_credentials(&p->psk));
    OK(gnutls_psk_set_client_credentials2(p->psk, &name, &key, GNUTLS_PSK_KEY_HEX));
    OK(gnutls_credentials_set(p->client, GNUTLS_CRD_PSK, p->psk));
}

void pair_end(struct pair *p)
{
    tls_session_free(p->server);
    gnutls_deinit(p->client);
    gnutls_certificate_free_credentials(p->x509);
    if (p->psk != NULL)
        gnutls_psk_free_client_credentials(p->psk);
    g_byte_array_unref(p->to_server);
    g_byte_array_unref(p->to_client);
    pthread_mutex_destroy(&p->lock);
    g_free(p->why);
}

bool feed(struct pair *p)
{
    pthread_mutex_lock(&p->lock);
    size_t n = MIN(p->to_server->len, TLS_IN_SIZE);
    if (n > 0) {
        memcpy(p->server->in, p->to_server->data, n);
        g_byte_array_remove_range(p->to_server, 0, (guint)n);
        tls_input(p->server, n);
    }
    pthread_mutex_unlock(&p->lock);
    return n > 0;
}

void drain(struct pair *p)
{
    struct iovec output = tls_output(p->server);

    pthread_mutex_lock(&p->lock);
    if (output.iov_len > 0)
        g_byte_array_append(p->to_client, output.iov_base, (guint)output.iov_len);
    pthread_mutex_unlock(&p->lock);
    tls_sent(p->server, output.iov_len);
}

bool shake_hands(struct pair *p)
{
    int server = -EAGAIN, client = GNUTLS_E_AGAIN;

    for (unsigned i = 0; i < 100; i++) {
        if (client == GNUTLS_E_AGAIN)
            client = gnutls_handshake(p->client);
        bool fed = feed(p);
        if (!fed && client < 0 && client != GNUTLS_E_AGAIN)
            tls_input_finished(p->server); /* the client has given up */
        if (server == -EAGAIN)
            server = tls_handshake(p->server, &p->why);
        drain(p);
        if (server != -EAGAIN && (client != GNUTLS_E_AGAIN || server < 0))
            break;
    }
    g_assert_cmpint(server, !=, -EAGAIN);
    if (server == 0)
        g_assert_cmpint(client, ==, 0);
    return server == 0;
}

/* ---- data ---- */

void client_says(struct pair *p, const void *bytes, size_t length)
{
    for (size_t done = 0; done < length;) {
        ssize_t n = gnutls_record_send(p->client, (const uint8_t *)bytes + done, length - done);
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
}

void server_hears(struct pair *p, const void *bytes, size_t length)
{
    g_autofree uint8_t *got = g_malloc(length);

    for (size_t done = 0; done < length;) {
        ssize_t n = tls_decrypt(p->server, got + done, length - done);
        if (n == -EAGAIN) {
            g_assert_true(feed(p));
            continue;
        }
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
    g_assert_cmpmem(got, length, bytes, length);
}

void server_says(struct pair *p, struct iovec *iov, unsigned n)
{
    while (n > 0) {
        g_assert_cmpint(tls_encrypt(p->server, &iov, &n), ==, 0);
        drain(p);
    }
}

void client_hears(struct pair *p, const void *bytes, size_t length)
{
    g_autofree uint8_t *got = g_malloc(length);

    for (size_t done = 0; done < length;) {
        ssize_t n = gnutls_record_recv(p->client, got + done, length - done);
        if (n == GNUTLS_E_AGAIN && p->to_client->len > 0)
            continue; /* it was not data */
        g_assert_cmpint(n, >, 0);
        done += (size_t)n;
    }
    g_assert_cmpmem(got, length, bytes, length);
}

uint8_t *pattern(size_t length)
{
    uint8_t *bytes = g_malloc(length);

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 7 + i / 251);
    return bytes;
}

void both_ways(struct pair *p)
{
    static const size_t sizes[] = {1, 28, 4096, 16383, 16384, 16385, 1 << 20};

    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        g_autofree uint8_t *bytes = pattern(sizes[i]);
        struct iovec whole = {bytes, sizes[i]};

        client_says(p, bytes, sizes[i]);
        server_hears(p, bytes, sizes[i]);
        server_says(p, &whole, 1);
        client_hears(p, bytes, sizes[i]);
    }
    /* nothing is left over */
    uint8_t byte;
    g_assert_cmpint(tls_decrypt(p->server, &byte, 1), ==, -EAGAIN);
    g_assert_cmpint(gnutls_record_recv(p->client, &byte, 1), ==, GNUTLS_E_AGAIN);
}
