/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * TLS sessions in memory, against a GnuTLS client that does what ordinary clients do not.
 */
#include "tests/rigs/tls-rig.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <string.h>

#define TLS12 "NORMAL:-VERS-ALL:+VERS-TLS1.2"
#define TLS13 "NORMAL:-VERS-ALL:+VERS-TLS1.3"

static void test_data(void)
{
    static const char *const priorities[] = {
        "NORMAL",
        TLS12,
        TLS13,
        TLS12 ":-CIPHER-ALL:+AES-128-CBC",
        TLS12 ":-CIPHER-ALL:+CHACHA20-POLY1305",
        TLS13 ":-CIPHER-ALL:+AES-128-CCM",
    };
    struct world w;

    world_begin(&w);
    for (unsigned i = 0; i < G_N_ELEMENTS(priorities); i++) {
        struct pair p;
        pair_begin(&p, &w, w.open, priorities[i]);
        g_assert_true(shake_hands(&p));
        both_ways(&p);
        pair_end(&p);
    }
    world_end(&w);
}

static void test_small_records(void)
{
    static const char *const priorities[] = {TLS12, TLS13, TLS12 ":-CIPHER-ALL:+AES-256-CBC"};
    struct world w;

    world_begin(&w);
    for (unsigned i = 0; i < G_N_ELEMENTS(priorities); i++) {
        struct pair p;
        pair_begin(&p, &w, w.open, priorities[i]);
        gnutls_record_set_max_recv_size(p.client, 512);
        g_assert_true(shake_hands(&p));
        both_ways(&p);
        pair_end(&p);
    }
    world_end(&w);
}

/* Small pieces share a record: 64 replies cost one record, not 64. */
static void test_pieces(void)
{
    struct world w;
    struct pair p;
    g_autofree uint8_t *bytes = pattern(100000);
    struct iovec iov[130];
    size_t at = 0;

    world_begin(&w);
    pair_begin(&p, &w, w.open, "NORMAL");
    g_assert_true(shake_hands(&p));
    for (unsigned i = 0; i < 64; i++)
        iov[i] = (struct iovec){bytes + 16 * i, 16};
    struct iovec *first = iov;
    unsigned n = 64;
    g_assert_cmpint(tls_encrypt(p.server, &first, &n), ==, 0);
    g_assert_cmpuint(n, ==, 0);
    g_assert_cmpuint(tls_output(p.server).iov_len, <, 64 * 16 + 100);
    drain(&p);
    client_hears(&p, bytes, 64 * 16);

    for (unsigned i = 0; i < 130; i++) {
        size_t length = i % 5 == 4 ? 0 : i % 7 == 6 ? 20000 : i * 3;
        length = MIN(length, 100000 - at);
        iov[i] = (struct iovec){bytes + at, length};
        at += length;
    }
    server_says(&p, iov, 130);
    client_hears(&p, bytes, at);
    pair_end(&p);
    world_end(&w);
}

/* The client asks for new keys in the middle, for its own direction and for both. */
static void test_key_update(void)
{
    struct world w;
    struct pair p;

    world_begin(&w);
    pair_begin(&p, &w, w.open, TLS13);
    g_assert_true(shake_hands(&p));
    for (unsigned i = 0; i < 4; i++) {
        OK(gnutls_session_key_update(p.client, i % 2 ? GNUTLS_KU_PEER : 0));
        both_ways(&p);
    }
    pair_end(&p);
    world_end(&w);
}

static void *hear_and_answer(void *pair)
{
    struct pair *p = pair;
    uint8_t buf[4096];
    size_t heard = 0;

    while (heard < 4 << 20) {
        ssize_t n = tls_decrypt(p->server, buf, sizeof buf);
        if (n == -EAGAIN)
            feed(p);
        else if (n > 0)
            heard += (size_t)n;
        else
            g_error("the server hears no more");
    }
    return NULL;
}

static void *speak(void *pair)
{
    struct pair *p = pair;
    g_autofree uint8_t *bytes = pattern(1 << 16);

    for (unsigned i = 0; i < 64; i++) {
        struct iovec iov = {bytes, 1 << 16};
        server_says(p, &iov, 1);
    }
    return NULL;
}

/* One thread receives while another sends and the client changes keys. For ThreadSanitizer. */
static void test_threads(void)
{
    struct world w;
    struct pair p;
    pthread_t threads[2];
    g_autofree uint8_t *bytes = pattern(1 << 16);
    g_autofree uint8_t *got = g_malloc(1 << 16);
    size_t heard = 0;

    world_begin(&w);
    pair_begin(&p, &w, w.open, TLS13);
    g_assert_true(shake_hands(&p));
    g_assert_cmpint(pthread_create(&threads[0], NULL, hear_and_answer, &p), ==, 0);
    g_assert_cmpint(pthread_create(&threads[1], NULL, speak, &p), ==, 0);
    for (unsigned i = 0; i < 64; i++) {
        client_says(&p, bytes, 1 << 16);
        if (i % 20 == 10) /* GnuTLS takes more than 8 in a second as an attack */
            OK(gnutls_session_key_update(p.client, GNUTLS_KU_PEER));
    }
    while (heard < 4 << 20) {
        size_t at = heard % (1 << 16);
        ssize_t n = gnutls_record_recv(p.client, got, (1 << 16) - at);
        if (n == GNUTLS_E_AGAIN)
            continue;
        g_assert_cmpint(n, >, 0);
        g_assert_cmpmem(got, n, bytes + at, n);
        heard += (size_t)n;
    }
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    pair_end(&p);
    world_end(&w);
}

static void test_renegotiation(void)
{
    struct world w;
    struct pair p;
    uint8_t byte;

    world_begin(&w);
    pair_begin(&p, &w, w.open, TLS12);
    g_assert_true(shake_hands(&p));
    g_assert_cmpint(gnutls_handshake(p.client), ==, GNUTLS_E_AGAIN);
    g_assert_true(feed(&p));
    g_assert_cmpint(tls_decrypt(p.server, &byte, 1), ==, -EPROTO);
    pair_end(&p);
    world_end(&w);
}

static void test_ends(void)
{
    struct world w;
    uint8_t byte;

    world_begin(&w);
    for (unsigned ragged = 0; ragged < 2; ragged++) {
        struct pair p;
        pair_begin(&p, &w, w.open, "NORMAL");
        g_assert_true(shake_hands(&p));
        client_says(&p, "x", 1);
        if (!ragged)
            OK(gnutls_bye(p.client, GNUTLS_SHUT_WR));
        server_hears(&p, "x", 1);
        if (ragged)
            tls_input_finished(p.server);
        g_assert_cmpint(tls_decrypt(p.server, &byte, 1), ==, 0);
        g_assert_cmpint(tls_decrypt(p.server, &byte, 1), ==, 0); /* and again */
        /* Half-closed, with or without a word: replies still go out. */
        byte = 'y';
        struct iovec last = {&byte, 1};
        server_says(&p, &last, 1);
        client_hears(&p, "y", 1);
        tls_bye(p.server);
        drain(&p);
        g_assert_cmpint(gnutls_record_recv(p.client, &byte, 1), ==, 0);
        pair_end(&p);
    }
    world_end(&w);
}

static void assert_refused(const struct world *w, const struct tls_credentials *c,
                           const char *priority, bool psk)
{
    struct pair p;

    pair_begin(&p, w, c, priority);
    if (psk)
        pair_psk(&p, "alice", 5, "00112233445566778899aabbccddeeff");
    g_assert_false(shake_hands(&p));
    g_assert_nonnull(p.why);
    g_test_message("%s: %s", priority, p.why);
    pair_end(&p);
}

static void test_refused(void)
{
    struct world w;

    world_begin(&w);
    assert_refused(&w, w.open, "NORMAL:-VERS-ALL:+VERS-TLS1.1:%COMPAT", false);
    assert_refused(&w, w.open, "NORMAL:-VERS-ALL:+VERS-TLS1.0:%COMPAT", false);
    assert_refused(&w, w.open, TLS12 ":-KX-ALL:+RSA-PSK", true);
    assert_refused(&w, w.open, TLS12 ":-KX-ALL:+ANON-ECDH", false);
    assert_refused(&w, w.psk, TLS12 ":-KX-ALL:+RSA-PSK", true);
    assert_refused(&w, w.psk, TLS12 ":-KX-ALL:+PSK", true);
    assert_refused(&w, w.psk, TLS13 ":-KX-ALL:+PSK", true); /* no forward secrecy */
    assert_refused(&w, w.psk, "NORMAL", false);
    world_end(&w);
}

static bool is(const struct pair *p, const char *name)
{
    const char *const list[] = {"somebody", name, NULL};
    return tls_peer_is_one_of(&p->server->peer, list);
}

static void test_psk(void)
{
    static const char key[] = "00112233445566778899aabbccddeeff";
    static const char *const priorities[] = {TLS12 ":-KX-ALL:+ECDHE-PSK:+DHE-PSK",
                                             TLS13 ":-KX-ALL:+ECDHE-PSK:+DHE-PSK"};
    struct world w;

    world_begin(&w);
    for (unsigned i = 0; i < G_N_ELEMENTS(priorities); i++) {
        struct pair p;
        pair_begin(&p, &w, w.psk, priorities[i]);
        pair_psk(&p, "alice", 5, key);
        g_assert_true(shake_hands(&p));
        both_ways(&p);
        g_assert_true(is(&p, "alice"));
        g_assert_false(is(&p, "alic"));
        g_assert_false(is(&p, "alice2"));
        g_assert_false(is(&p, "Alice"));
        g_assert_false(is(&p, ""));
        g_assert_null(p.server->peer.dn);
        pair_end(&p);

        static const char *const wrong[] = {"alic", "alice2", "bob", ""};
        for (unsigned j = 0; j < G_N_ELEMENTS(wrong); j++) {
            pair_begin(&p, &w, w.psk, priorities[i]);
            pair_psk(&p, wrong[j], (unsigned)strlen(wrong[j]), key);
            g_assert_false(shake_hands(&p));
            pair_end(&p);
        }
        pair_begin(&p, &w, w.psk, priorities[i]);
        pair_psk(&p, "alice", 5, "11112233445566778899aabbccddeeff");
        g_assert_false(shake_hands(&p));
        pair_end(&p);
    }
    world_end(&w);
}

/* A name with a NUL in it matches no name of a list, and not its own part before the NUL either. */
static void test_psk_nul(void)
{
    struct world w;
    struct pair p;

    world_begin(&w);
    pair_begin(&p, &w, w.psk, TLS13 ":-KX-ALL:+ECDHE-PSK");
    pair_psk(&p, "ali\0ce", 6, "ffeeddccbbaa99887766554433221100");
    if (shake_hands(&p)) { /* GnuTLS knows the user; we do not */
        g_assert_cmpuint(p.server->peer.names->len, ==, 0);
        g_assert_false(is(&p, "ali"));
        g_assert_false(is(&p, ""));
    }
    pair_end(&p);
    world_end(&w);
}

static void test_certificate_names(void)
{
    static const unsigned char four[] = {192, 0, 2, 1}, six[16] = {0x20, 1, 0xd, 0xb8, [15] = 1};
    static const struct san sans[] = {
        {0x82, "host.example.com", 16},
        {0x82, "good.example.com\0.evil.example", 30},
        {0x81, "ops@example.com", 15},
        {0x86, "urn:backup", 10},
        {0x87, four, 4},
        {0x87, six, 16},
        {0, NULL, 0},
    };
    static const char *const yes[] = {
        "CN=alice",       "DNS:host.example.com", "EMAIL:ops@example.com",
        "URI:urn:backup", "IP:192.0.2.1",         "IP:2001:db8::1"};
    static const char *const no[] = {
        "alice",
        "CN=alic",
        "CN=alice2",
        "cn=alice",
        "CN=alice,O=x",
        "DNS:host",
        "host.example.com",
        "DNS:good.example.com",
        "DNS:*.example.com",
        "DNS:HOST.example.com",
        "EMAIL:ops",
        "",
    };
    struct world w;

    world_begin(&w);
    struct identity alice = make_identity(&w.ca, "alice", 5, sans);
    for (unsigned v = 0; v < 2; v++) {
        struct pair p;
        pair_begin(&p, &w, w.verify, v ? TLS13 : TLS12);
        pair_identity(&p, &alice);
        g_assert_true(shake_hands(&p));
        for (unsigned i = 0; i < G_N_ELEMENTS(yes); i++)
            g_assert_true(is(&p, yes[i]));
        for (unsigned i = 0; i < G_N_ELEMENTS(no); i++)
            g_assert_false(is(&p, no[i]));
        g_assert_cmpstr(p.server->peer.dn, ==, "CN=alice");
        g_assert_cmpstr(p.server->peer.issuer_dn, ==, "CN=ca");
        pair_end(&p);

        /* A certificate that nobody has verified gives no names. */
        pair_begin(&p, &w, w.open, v ? TLS13 : TLS12);
        pair_identity(&p, &alice);
        g_assert_true(shake_hands(&p));
        g_assert_cmpuint(p.server->peer.names->len, ==, 0);
        g_assert_null(p.server->peer.dn);
        pair_end(&p);
    }
    identity_free(&alice);
    world_end(&w);
}

/* A subject with a NUL in it does not match its part before the NUL: RFC 4514 escapes the NUL. */
static void test_subject_nul(void)
{
    struct world w;
    struct pair p;

    world_begin(&w);
    struct identity evil = make_identity(&w.ca, "alice\0x", 7, NULL);
    pair_begin(&p, &w, w.verify, TLS13);
    pair_identity(&p, &evil);
    if (shake_hands(&p))
        g_assert_false(is(&p, "CN=alice"));
    pair_end(&p);
    identity_free(&evil);
    world_end(&w);
}

/* Bytes that are no TLS give an error at any point of a handshake, and never a crash or a loop. */
static void test_garbage(void)
{
    struct world w;

    world_begin(&w);
    for (unsigned cut = 0; cut < 400; cut += 13) {
        struct pair p;
        pair_begin(&p, &w, w.verify, "NORMAL");
        gnutls_handshake(p.client);
        g_byte_array_set_size(p.to_server, MIN(cut, p.to_server->len));
        for (unsigned i = 0; i < 300; i++) {
            uint8_t byte = (uint8_t)(i * cut + 5);
            g_byte_array_append(p.to_server, &byte, 1);
        }
        feed(&p);
        int r = tls_handshake(p.server, &p.why);
        g_assert_cmpint(r, !=, 0);
        if (r == -EAGAIN) {
            tls_input_finished(p.server);
            r = tls_handshake(p.server, &p.why);
        }
        g_assert_cmpint(r, ==, -EPROTO);
        g_assert_nonnull(p.why);
        pair_end(&p);
    }
    world_end(&w);
}

static void test_credentials_errors(void)
{
    g_autoptr(GError) err = NULL;
    struct world w;

    world_begin(&w);
    g_autofree char *key = g_build_filename(w.dir, "server-key.pem", NULL);
    g_autofree char *expected = g_strdup_printf("TLS: '%s': No such file or directory", key);
    g_unlink(key);
    g_assert_null(tls_credentials_certificates(w.dir, false, &err));
    g_assert_cmpstr(err->message, ==, expected);
    g_clear_error(&err);
    write_certificate(w.dir, "server-key.pem", &w.server); /* not a key */
    g_assert_null(tls_credentials_certificates(w.dir, false, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    write_key(w.dir, "server-key.pem", &w.ca); /* of another certificate */
    g_assert_null(tls_credentials_certificates(w.dir, false, &err));
    g_assert_nonnull(err);
    g_clear_error(&err);
    g_assert_null(tls_credentials_psk("/no/such/file", &err));
    g_assert_cmpstr(err->message, ==, "TLS: '/no/such/file': No such file or directory");
    world_end(&w);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/tls/data", test_data);
    g_test_add_func("/tls/small-records", test_small_records);
    g_test_add_func("/tls/pieces", test_pieces);
    g_test_add_func("/tls/key-update", test_key_update);
    g_test_add_func("/tls/threads", test_threads);
    g_test_add_func("/tls/renegotiation", test_renegotiation);
    g_test_add_func("/tls/ends", test_ends);
    g_test_add_func("/tls/refused", test_refused);
    g_test_add_func("/tls/psk", test_psk);
    g_test_add_func("/tls/psk-nul", test_psk_nul);
    g_test_add_func("/tls/certificate-names", test_certificate_names);
    g_test_add_func("/tls/subject-nul", test_subject_nul);
    g_test_add_func("/tls/garbage", test_garbage);
    g_test_add_func("/tls/credentials-errors", test_credentials_errors);
    return g_test_run();
}
