/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/unix-socket.h"

#include "common/util/error.h"

#include <glib/gstdio.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct place {
    char *folder, *path;
};

static void place_begin(struct place *p)
{
    p->folder = g_dir_make_tmp("unix-socket-XXXXXX", NULL);
    g_assert_nonnull(p->folder);
    p->path = g_build_filename(p->folder, "s", NULL);
}

static void place_end(struct place *p)
{
    unlink(p->path);
    g_assert_cmpint(g_rmdir(p->folder), ==, 0); /* nothing else was left there */
    g_free(p->folder);
    g_free(p->path);
}

static int socket_new(int type)
{
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static int listen_at(const char *path, struct stat *file)
{
    g_autoptr(GError) err = NULL;
    int fd = socket_new(SOCK_STREAM);
    int r = unix_socket_listen(fd, path, 10, file, &err);

    g_assert_no_error(err);
    g_assert_cmpint(r, ==, 0);
    return fd;
}

/* Listening at `path` fails with the text `expected` (its %s is the path), and the file that is
 * there stays. */
static void assert_refused(const char *path, const char *expected)
{
    g_autofree char *message = g_strdup_printf(expected, path);
    g_autoptr(GError) err = NULL;
    int fd = socket_new(SOCK_STREAM);
    struct stat before = {0}, after = {0};
    bool was_there = lstat(path, &before) == 0;

    g_assert_cmpint(unix_socket_listen(fd, path, 10, NULL, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, message);
    close(fd);
    g_assert_cmpint(lstat(path, &after) == 0, ==, was_there);
    g_assert_cmpuint(after.st_ino, ==, before.st_ino);
}

static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket_new(SOCK_STREAM | SOCK_NONBLOCK);

    strcpy(address.sun_path, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    close(fd);
    return -1;
}

static void test_new(void)
{
    struct place p;
    struct stat file, st;

    place_begin(&p);
    int fd = listen_at(p.path, &file);
    int client = connect_to(p.path);
    g_assert_cmpint(client, >=, 0);
    g_assert_cmpint(lstat(p.path, &st), ==, 0);
    g_assert_true(S_ISSOCK(file.st_mode));
    g_assert_cmpuint(st.st_ino, ==, file.st_ino);
    close(client);
    close(fd);
    place_end(&p);
}

static void test_stale(void)
{
    struct place p;
    struct stat old, new;

    place_begin(&p);
    close(listen_at(p.path, &old));
    int fd = listen_at(p.path, &new);
    int client = connect_to(p.path);
    g_assert_cmpint(client, >=, 0);
    close(client);
    close(fd);
    place_end(&p);
}

static void test_in_use(void)
{
    struct place p;

    place_begin(&p);
    int fd = listen_at(p.path, NULL);
    assert_refused(p.path, "%s: another process listens on it");
    close(fd);
    place_end(&p);
}

/* A full queue means that the owner is busy; it has not gone. */
static void test_full_queue(void)
{
    struct place p;
    int clients[8];
    unsigned n = 0;

    place_begin(&p);
    int fd = listen_at(p.path, NULL);
    g_assert_cmpint(listen(fd, 0), ==, 0);
    while (n < G_N_ELEMENTS(clients) && (clients[n] = connect_to(p.path)) >= 0)
        n++;
    g_assert_cmpuint(n, <, G_N_ELEMENTS(clients));
    assert_refused(p.path, "%s: another process listens on it");
    while (n > 0)
        close(clients[--n]);
    close(fd);
    place_end(&p);
}

/* With a socket of another type connect(2) cannot tell whether somebody uses it. */
static void test_datagrams(void)
{
    struct place p;
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    place_begin(&p);
    int fd = socket_new(SOCK_DGRAM);
    strcpy(address.sun_path, p.path);
    g_assert_cmpint(bind(fd, (struct sockaddr *)&address, sizeof address), ==, 0);
    assert_refused(p.path, "%s: cannot tell whether it is in use: Protocol wrong type for socket");
    close(fd);
    place_end(&p);
}

static void test_no_socket(void)
{
    struct place p;

    place_begin(&p);
    g_assert_true(g_file_set_contents(p.path, "data", -1, NULL));
    assert_refused(p.path, "%s: a file of that name is there already");
    unlink(p.path);
    g_assert_cmpint(symlink("nowhere", p.path), ==, 0);
    assert_refused(p.path, "%s: a file of that name is there already");
    unlink(p.path);
    g_assert_cmpint(g_mkdir(p.path, 0700), ==, 0);
    assert_refused(p.path, "%s: a file of that name is there already");
    g_rmdir(p.path);
    place_end(&p);
}

static void test_names(void)
{
    g_autofree char *name = g_strnfill(108, 'x');
    struct place p;
    g_autoptr(GError) err = NULL;
    int fd = socket_new(SOCK_STREAM);

    g_assert_cmpint(unix_socket_listen(fd, "", 10, NULL, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, "the name of a Unix socket is empty");
    close(fd);
    assert_refused(name, "%s: the name of a Unix socket has at most 107 bytes");
    place_begin(&p);
    g_autofree char *nowhere = g_build_filename(p.folder, "none", "s", NULL);
    assert_refused(nowhere, "%s: No such file or directory");
    place_end(&p);
}

static void test_remove(void)
{
    struct place p;
    struct stat first, second;
    g_autoptr(GError) err = NULL;

    place_begin(&p);
    int one = listen_at(p.path, &first);
    g_autofree char *aside = g_strconcat(p.path, ".old", NULL);
    g_assert_cmpint(rename(p.path, aside), ==, 0); /* so that it keeps its inode */
    int two = listen_at(p.path, &second);

    g_assert_cmpint(unix_socket_remove(p.path, &first, &err), ==, 0);
    g_assert_cmpint(access(p.path, F_OK), ==, 0); /* it is the other's */
    g_assert_cmpint(unix_socket_remove(p.path, &second, &err), ==, 0);
    g_assert_cmpint(access(p.path, F_OK), ==, -1);
    g_assert_cmpint(unix_socket_remove(p.path, &second, &err), ==, 0); /* it is gone already */
    g_assert_cmpint(unix_socket_remove(aside, &first, &err), ==, 0);
    g_assert_no_error(err);
    close(one);
    close(two);
    place_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/unix-socket/new", test_new);
    g_test_add_func("/unix-socket/stale", test_stale);
    g_test_add_func("/unix-socket/in-use", test_in_use);
    g_test_add_func("/unix-socket/full-queue", test_full_queue);
    g_test_add_func("/unix-socket/datagrams", test_datagrams);
    g_test_add_func("/unix-socket/no-socket", test_no_socket);
    g_test_add_func("/unix-socket/names", test_names);
    g_test_add_func("/unix-socket/remove", test_remove);
    return g_test_run();
}
