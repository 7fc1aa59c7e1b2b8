/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Listeners: opening sockets, caps on clients, deadlines, running out of descriptors.
 */
#include "tests/rigs/nbd-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct house {
    struct rig rig;
    char *dir, *path;
    struct nbd_listener *listener;
};

static void house_begin(struct house *h, unsigned max_connections, unsigned handshake_timeout)
{
    struct nbd_options options = {
        .handshake_timeout = handshake_timeout, .threads = 4, .mask_handshake = 0xffff};
    g_autoptr(GError) err = NULL;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    rig_begin(&h->rig, &options);
    h->dir = g_dir_make_tmp("fleece-XXXXXX", &err);
    g_assert_no_error(err);
    h->path = g_build_filename(h->dir, "s", NULL);
    nbd_open_unix(h->path, NULL, fds, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(fds->len, ==, 1);
    h->listener = nbd_listen(h->rig.nbd, EXPORTS_LIVE, (int *)fds->data, 1, handshake_timeout,
                             max_connections, &err);
    g_assert_no_error(err);
}

static void house_end(struct house *h)
{
    rig_end(&h->rig);
    g_unlink(h->path);
    g_rmdir(h->dir);
    g_free(h->path);
    g_free(h->dir);
}

static struct client dial(const char *path)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_strlcpy(a.sun_path, path, sizeof a.sun_path);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&a, sizeof a), ==, 0);
    return client_on(fd);
}

static void test_many_clients(void)
{
    struct house h;
    struct client c[20];

    house_begin(&h, 0, 60);
    for (unsigned i = 0; i < G_N_ELEMENTS(c); i++) {
        c[i] = dial(h.path);
        client_go(&c[i], "disk", false, NULL, 0);
    }
    g_assert_cmpuint(nbd_listener_clients(h.listener), ==, G_N_ELEMENTS(c));
    for (unsigned i = 0; i < G_N_ELEMENTS(c); i++) {
        client_request(&c[i], 0, NBD_CMD_READ, i, 0, 512);
        client_expect_success(&c[i], i, 512);
        client_close(&c[i]);
    }
    house_end(&h);
}

/* At the cap the next client waits, and is served when another has gone. */
static void test_cap(void)
{
    struct house h;

    house_begin(&h, 2, 60);
    struct client a = dial(h.path), b = dial(h.path);
    client_go(&a, "disk", false, NULL, 0);
    client_go(&b, "disk", false, NULL, 0);
    struct client waiting = dial(h.path);
    client_request(&a, 0, NBD_CMD_READ, 1, 0, 512);
    client_expect_success(&a, 1, 512);
    g_assert_cmpuint(nbd_listener_clients(h.listener), ==, 2);
    client_close(&b);
    client_go(&waiting, "disk", false, NULL, 0);
    client_close(&waiting);
    client_close(&a);
    house_end(&h);
}

/* Each export has its own places on each port. A client that asks for an export without a free
 * place may ask for another export, or again. */
static void test_places(void)
{
    struct house h;
    struct node_info info = {.size = 1 << 20};

    house_begin(&h, 1, 60);
    fake_add(h.rig.registry, "other", &info);
    struct client a = dial(h.path), b = dial(h.path), used = rig_go(&h.rig, false);
    client_go(&a, "disk", false, NULL, 0);
    client_greet(&b, 3);
    g_assert_cmphex(client_go_option(&b, NBD_OPT_GO, "disk"), ==, NBD_REP_ERR_POLICY);
    g_assert_cmphex(client_go_option(&b, NBD_OPT_INFO, "disk"), ==, NBD_REP_ERR_POLICY);
    g_assert_cmphex(client_go_option(&b, NBD_OPT_INFO, "other"), ==, NBD_REP_ACK);
    g_assert_cmphex(client_go_option(&b, NBD_OPT_INFO, "none"), ==, NBD_REP_ERR_UNKNOWN);
    client_close(&a);
    while (client_go_option(&b, NBD_OPT_GO, "disk") != NBD_REP_ACK)
        ; /* until the end of `a` has been noticed */
    client_request(&b, 0, NBD_CMD_READ, 1, 0, 512);
    client_expect_success(&b, 1, 512);
    a = dial(h.path);
    client_go(&a, "other", false, NULL, 0);
    client_request(&used, 0, NBD_CMD_READ, 1, 0, 512); /* not of the port, so it does not count */
    client_expect_success(&used, 1, 512);
    client_close(&used);
    client_close(&a);
    client_close(&b);
    house_end(&h);
}

/* An export that cannot be opened gives the place back. */
static void test_places_of_what_cannot_be_opened(void)
{
    struct house h;
    struct node_info info = {.size = 1 << 20};

    house_begin(&h, 1, 60);
    struct export *other = fake_add(h.rig.registry, "other", &info);
    struct client c = dial(h.path);
    client_greet(&c, 3);
    for (unsigned i = 0; i < 3; i++)
        g_assert_cmphex(client_go_option(&c, NBD_OPT_INFO, "other"), ==, NBD_REP_ACK);
    fake_remove(h.rig.registry, other, false);
    g_assert_cmphex(client_go_option(&c, NBD_OPT_GO, "other"), ==, NBD_REP_ERR_UNKNOWN);
    g_assert_cmphex(client_go_option(&c, NBD_OPT_GO, "disk"), ==, NBD_REP_ACK);
    client_close(&c);
    house_end(&h);
}

/* The end of the server does not wait for a client that waits for a place. */
static void test_end_while_waiting_for_a_place(void)
{
    struct house h;
    struct node_info info = {.size = 1 << 20};

    house_begin(&h, 1, 60);
    fake_add(h.rig.registry, "other", &info);
    struct client a = dial(h.path), b = dial(h.path);
    client_go(&a, "disk", false, NULL, 0);
    client_greet(&b, 3);
    uint8_t name[10] = {0, 0, 0, 4, 'd', 'i', 's', 'k', 0, 0};
    client_option(&b, NBD_OPT_GO, name, sizeof name);
    rig_end_nbd(&h.rig, 60000);
    client_expect_end(&a);
    client_close(&a);
    client_close(&b);
    house_end(&h);
}

/* Clients that say nothing do not keep others out. */
static void test_silent_ones_make_way(void)
{
    struct house h;

    house_begin(&h, 2, 60);
    struct client used = dial(h.path);
    client_go(&used, "disk", false, NULL, 0);
    struct client silent = dial(h.path), more = dial(h.path);
    uint8_t hello[18];
    client_receive(&silent, hello, sizeof hello);
    client_receive(&more, hello, sizeof hello);
    struct client c = dial(h.path);
    client_go(&c, "disk", false, NULL, 0);
    client_expect_end(&silent);
    client_request(&used, 0, NBD_CMD_READ, 1, 0, 512);
    client_expect_success(&used, 1, 512);
    client_close(&c);
    client_close(&silent);
    client_close(&more);
    client_close(&used);
    house_end(&h);
}

/* The deadline is absolute: bytes that trickle in do not move it. */
static void test_deadline(void)
{
    struct house h;
    uint8_t hello[18], byte = 0;

    house_begin(&h, 10, 1);
    struct client silent = dial(h.path), trickle = dial(h.path);
    client_receive(&trickle, hello, sizeof hello);
    client_receive(&silent, hello, sizeof hello);
    int64_t begin = g_get_monotonic_time();
    uint8_t flags[4] = {0, 0, 0, 3};
    client_send(&trickle, flags, sizeof flags);
    uint8_t header[16];
    store_be64(header, NBD_OPTION_MAGIC);
    store_be32(header + 8, NBD_OPT_GO);
    store_be32(header + 12, 60000);
    client_send(&trickle, header, sizeof header);
    /* A byte whenever 20 ms have passed without the end. */
    struct timeval pause = {.tv_usec = 20000};
    setsockopt(trickle.fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
    ssize_t n;
    while ((n = recv(trickle.fd, hello, 1, 0)) < 0 && errno == EAGAIN)
        (void)!send(trickle.fd, &byte, 1, MSG_NOSIGNAL);
    g_assert_cmpint(n, <=, 0);
    client_expect_end(&silent);
    g_assert_cmpint(g_get_monotonic_time() - begin, <, 30 * G_USEC_PER_SEC);
    client_close(&silent);
    client_close(&trickle);
    house_end(&h);
}

/* Without free descriptors a new client is refused at once, and the others are served. Later a new
 * client is served again. */
static void test_out_of_descriptors(void)
{
    struct house h;
    struct rlimit old, tight;

    house_begin(&h, 0, 60);
    struct client served = dial(h.path), c = dial(h.path);
    client_go(&served, "disk", false, NULL, 0);
    client_go(&c, "disk", false, NULL, 0);
    struct client late = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &old), ==, 0);
    tight = old;
    tight.rlim_cur = (rlim_t)late.fd + 1;
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    g_strlcpy(a.sun_path, h.path, sizeof a.sun_path);
    g_assert_cmpint(connect(late.fd, (struct sockaddr *)&a, sizeof a), ==, 0);
    late = client_on(late.fd);
    client_expect_end(&late);
    client_request(&served, 0, NBD_CMD_READ, 1, 0, 512);
    client_expect_success(&served, 1, 512);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &old), ==, 0);
    client_close(&late);
    late = dial(h.path);
    client_go(&late, "disk", false, NULL, 0);
    client_close(&late);
    client_close(&c);
    client_close(&served);
    house_end(&h);
}

static void test_stop_listener(void)
{
    struct house h;

    house_begin(&h, 0, 60);
    struct client a = dial(h.path), b = dial(h.path), other = rig_go(&h.rig, false);
    client_go(&a, "disk", false, NULL, 0);
    client_greet(&b, 3);
    nbd_listener_stop(h.listener, rig_note_gone, &h.rig);
    client_expect_end(&a);
    client_expect_end(&b);
    rig_wait_gone(&h.rig, 1);
    client_request(&other, 0, NBD_CMD_READ, 1, 0, 512); /* not of that listener */
    client_expect_success(&other, 1, 512);
    client_close(&a);
    client_close(&b);
    client_close(&other);
    house_end(&h);
}

/* A client that hangs in a plugin delays neither the call nor the other clients, and its end is
 * told when it comes. */
static void test_stop_listener_with_a_hung_client(void)
{
    struct house h;

    house_begin(&h, 0, 60);
    fake_hold(h.rig.registry, 4096);
    struct client a = dial(h.path), b = dial(h.path), other = rig_go(&h.rig, false);
    client_go(&a, "disk", false, NULL, 0);
    client_go(&b, "disk", false, NULL, 0);
    client_request(&a, 0, NBD_CMD_READ, 1, 4096, 512);
    fake_wait_held(h.rig.registry, 1);
    nbd_listener_stop(h.listener, rig_note_gone, &h.rig);
    client_expect_end(&a);
    client_expect_end(&b);
    client_request(&other, 0, NBD_CMD_READ, 1, 0, 512);
    client_expect_success(&other, 1, 512);
    g_assert_cmpuint(rig_count_gone(&h.rig), ==, 0);
    fake_release(h.rig.registry, 4096);
    rig_wait_gone(&h.rig, 1);
    client_close(&a);
    client_close(&b);
    client_close(&other);
    house_end(&h);
}

static void test_stale_socket(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *dir = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "s", NULL);
    g_autofree char *file = g_build_filename(dir, "f", NULL);
    g_autofree char *long_name = g_strnfill(200, 'x');
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    g_assert_cmpint(nbd_open_unix(path, NULL, fds, &err), ==, 0);
    g_assert_cmpint(nbd_open_unix(path, NULL, fds, &err), ==, -1); /* in use */
    g_assert_nonnull(strstr(err->message, path));
    g_clear_error(&err);
    close(g_array_index(fds, int, 0)); /* as after a crash: the file stays */
    g_assert_cmpint(nbd_open_unix(path, NULL, fds, &err), ==, 0);
    g_assert_no_error(err);
    close(g_array_index(fds, int, 1));
    g_assert_true(g_file_set_contents(file, "precious", -1, NULL));
    g_assert_cmpint(nbd_open_unix(file, NULL, fds, &err), ==, -1); /* not a socket: not touched */
    g_clear_error(&err);
    g_assert_true(g_file_test(file, G_FILE_TEST_IS_REGULAR));
    g_assert_cmpint(nbd_open_unix(long_name, NULL, fds, &err), ==, -1);
    g_clear_error(&err);
    g_assert_cmpuint(fds->len, ==, 2);
    g_unlink(path);
    g_unlink(file);
    g_rmdir(dir);
}

static void test_selinux_label(void)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *dir = g_dir_make_tmp("fleece-XXXXXX", NULL);
    g_autofree char *path = g_build_filename(dir, "s", NULL);
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));

    if (g_file_test("/sys/fs/selinux/enforce", G_FILE_TEST_EXISTS)) {
        g_test_skip("this machine has SELinux, and no label is known to be allowed");
    } else {
        g_assert_cmpint(nbd_open_unix(path, "system_u:object_r:svirt_t:s0", fds, &err), ==, -1);
        g_assert_nonnull(strstr(err->message, "SELinux"));
        g_assert_cmpuint(fds->len, ==, 0);
    }
    g_unlink(path);
    g_rmdir(dir);
}

static void test_tcp(void)
{
    g_autoptr(GError) err = NULL;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    struct sockaddr_storage a;
    socklen_t length = sizeof a;
    uint8_t hello[18];
    struct rig r;

    rig_begin(&r, NULL);
    nbd_open_tcp("127.0.0.1", "0", AF_UNSPEC, fds, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(fds->len, ==, 1);
    g_assert_cmpint(getsockname(g_array_index(fds, int, 0), (struct sockaddr *)&a, &length), ==, 0);
    g_autofree char *port = g_strdup_printf("%u", ntohs(((struct sockaddr_in *)&a)->sin_port));
    g_assert_cmpint(nbd_open_tcp("127.0.0.1", port, AF_INET, fds, &err), ==, -1); /* in use */
    g_assert_nonnull(strstr(err->message, port));
    g_clear_error(&err);
    g_assert_cmpint(nbd_open_tcp("127.0.0.1", "0", AF_INET6, fds, &err), ==, -1);
    g_clear_error(&err);
    g_assert_cmpint(nbd_open_tcp(NULL, "no such service", AF_UNSPEC, fds, &err), ==, -1);
    g_clear_error(&err);
    g_assert_cmpuint(fds->len, ==, 1);

    g_assert_nonnull(nbd_listen(r.nbd, EXPORTS_LIVE, (int *)fds->data, 1, 60, 0, &err));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&a, length), ==, 0);
    struct client c = client_on(fd);
    client_receive(&c, hello, sizeof hello);
    client_close(&c); /* in the middle of the handshake */
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    g_assert_cmpint(connect(fd, (struct sockaddr *)&a, length), ==, 0);
    c = client_on(fd);
    client_go(&c, "disk", true, NULL, 0);
    client_request(&c, 0, NBD_CMD_READ, 1, 0, 1 << 20);
    client_expect_success(&c, 1, 1 << 20);
    client_close(&c);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-listener/many-clients", test_many_clients);
    g_test_add_func("/nbd-listener/cap", test_cap);
    g_test_add_func("/nbd-listener/places", test_places);
    g_test_add_func("/nbd-listener/places/cannot-be-opened", test_places_of_what_cannot_be_opened);
    g_test_add_func("/nbd-listener/places/end", test_end_while_waiting_for_a_place);
    g_test_add_func("/nbd-listener/silent-ones-make-way", test_silent_ones_make_way);
    g_test_add_func("/nbd-listener/deadline", test_deadline);
    g_test_add_func("/nbd-listener/out-of-descriptors", test_out_of_descriptors);
    g_test_add_func("/nbd-listener/stop-listener", test_stop_listener);
    g_test_add_func("/nbd-listener/stop-listener/hung-client",
                    test_stop_listener_with_a_hung_client);
    g_test_add_func("/nbd-listener/stale-socket", test_stale_socket);
    g_test_add_func("/nbd-listener/selinux-label", test_selinux_label);
    g_test_add_func("/nbd-listener/tcp", test_tcp);
    return g_test_run();
}
