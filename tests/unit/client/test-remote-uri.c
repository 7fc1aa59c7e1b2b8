/* SPDX-License-Identifier: BSD-3-Clause */
/* NBD URIs of a server on another host. */
#include "client/repo/remote-uri.h"

#include <glib.h>

static void test_target(void)
{
    static const struct {
        const char *uri, *target;
    } cases[] = {
        {"nbd+unix:///b1%2Fvda?socket=/run/fleece.nbd", "/run/fleece.nbd"},
        {"nbds+unix:///x?tls-certificates=/etc/x&socket=/run/a%20b", "/run/a b"},
        {"nbd://localhost:10810/b1%2Fvda", "localhost:10810"},
        {"nbd://localhost/x", "localhost:10809"},
        {"nbd://127.0.0.1:7/x", "localhost:7"},
        {"nbd://[::1]:7/x", "localhost:7"},
        {"nbds://localhost:10810/x", NULL},
        {"nbd://storage.example.com/x", NULL},
        {"nbd+unix:///x", NULL},
        {"not a URI", NULL},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *target = remote_uri_target(cases[i].uri);

        g_assert_cmpstr(target, ==, cases[i].target);
    }
}

#define ASSERT_CHANGED(call, expected)                                                             \
    do {                                                                                           \
        g_autofree char *text_ = call;                                                             \
        g_assert_cmpstr(text_, ==, expected);                                                      \
    } while (0)

static void test_socket(void)
{
    ASSERT_CHANGED(remote_uri_by_socket("nbd+unix:///b1%2Fvda?socket=/run/fleece.nbd", "/tmp/a b"),
                   "nbd+unix:///b1%2Fvda?socket=/tmp/a%20b");
    ASSERT_CHANGED(remote_uri_by_socket("nbds+unix:///x?socket=/s&tls-certificates=/c", "/t"),
                   "nbds+unix:///x?tls-certificates=/c&socket=/t");
    ASSERT_CHANGED(remote_uri_by_socket("nbd://localhost:10810/b1%2Fvda", "/t"),
                   "nbd+unix:///b1%2Fvda?socket=/t");
}

static void test_host(void)
{
    ASSERT_CHANGED(remote_uri_by_host("nbds://localhost:10810/b1%2Fvda", "far.example.com"),
                   "nbds://far.example.com:10810/b1%2Fvda");
    ASSERT_CHANGED(remote_uri_by_host("nbds://localhost/x", "2001:db8::1"),
                   "nbds://[2001:db8::1]/x");
    ASSERT_CHANGED(remote_uri_by_host("nbds://other.example.com/x", "far"),
                   "nbds://other.example.com/x");
    ASSERT_CHANGED(remote_uri_by_host("nbd://localhost/x", "far"), "nbd://localhost/x");
}

static void test_certificates(void)
{
    ASSERT_CHANGED(remote_uri_with_certificates("nbds://far:1/x", "/etc/c d"),
                   "nbds://far:1/x?tls-certificates=/etc/c%20d");
    ASSERT_CHANGED(remote_uri_with_certificates("nbds://far/x?tls-certificates=/own", "/etc"),
                   "nbds://far/x?tls-certificates=/own");
    ASSERT_CHANGED(remote_uri_with_certificates("nbds+unix:///x?socket=/s", "/etc"),
                   "nbds+unix:///x?socket=/s&tls-certificates=/etc");
    ASSERT_CHANGED(remote_uri_with_certificates("nbd://far/x", "/etc"), "nbd://far/x");
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/remote-uri/target", test_target);
    g_test_add_func("/remote-uri/socket", test_socket);
    g_test_add_func("/remote-uri/host", test_host);
    g_test_add_func("/remote-uri/certificates", test_certificates);
    return g_test_run();
}
