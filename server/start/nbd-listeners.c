/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/nbd-listeners.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/unix-socket.h"
#include "server/start/quit.h"
#include "server/start/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

void nbd_listeners_init(struct nbd_listeners *l)
{
    *l = (struct nbd_listeners){
        .uris = g_ptr_array_new_with_free_func(g_free),
        .listener_uris = g_ptr_array_new_with_free_func(g_free),
    };
}

/* QEMU's nbd-server-stop removes its socket's file, too. */
static void remove_socket(struct nbd_listeners *l)
{
    g_autoptr(GError) err = NULL;

    if (!l->unix_path)
        return;
    quit_no_leftover(l->unix_path);
    if (unix_socket_remove(l->unix_path, &l->unix_file, &err) < 0)
        log_error("%s", err->message);
    g_clear_pointer(&l->unix_path, g_free);
}

/* The file of a listening socket: to be removed with it. */
static void note_socket(struct nbd_listeners *l, const char *path)
{
    if (!path || lstat(path, &l->unix_file) < 0)
        return;
    l->unix_path = g_canonicalize_filename(path, NULL);
    quit_leftover(l->unix_path);
}

void nbd_listeners_end(struct nbd_listeners *l)
{
    l->ending = true;
    l->has_listener = false;
    l->listener = NULL;
    remove_socket(l);
    g_ptr_array_set_size(l->uris, 0);
    g_ptr_array_set_size(l->listener_uris, 0);
}

void nbd_listeners_clear(struct nbd_listeners *l)
{
    remove_socket(l);
    g_clear_pointer(&l->uris, g_ptr_array_unref);
    g_clear_pointer(&l->listener_uris, g_ptr_array_unref);
}

void nbd_listeners_note_uris(const struct nbd_listeners *l, GPtrArray *uris, const GArray *fds)
{
    for (unsigned i = 0; i < fds->len; i++) {
        char *uri = sockets_uri(g_array_index(fds, int, i), l->tls == TLS_REQUIRE, "");

        if (uri)
            g_ptr_array_add(uris, uri);
    }
}

/* A copy of a descriptor that the process was started with, if it is a listening socket. */
static int open_fd(int fd, GArray *fds, GError **err)
{
    int listening = 0, copy;
    socklen_t length = sizeof listening;

    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0)
        return fail_errno(err, errno, "file descriptor %d", fd);
    if (!listening)
        return fail(err, "file descriptor %d is not a listening socket", fd);
    copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0)
        return fail_errno(err, errno, "file descriptor %d", fd);
    g_array_append_val(fds, copy);
    return 0;
}

static int start(void *opaque, const char *unix_path, const char *host, const char *port, int fd,
                 unsigned handshake_max_seconds, unsigned max_connections, GError **err)
{
    struct nbd_listeners *l = opaque;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    int r;

    if (l->ending)
        return fail(err, "the server is ending");
    if (unix_path)
        r = nbd_open_unix(unix_path, NULL, fds, err);
    else if (port)
        r = nbd_open_tcp(host && *host ? host : NULL, port, AF_UNSPEC, fds, err);
    else
        r = open_fd(fd, fds, err);
    if (r < 0) {
        for (unsigned i = 0; i < fds->len; i++)
            close(g_array_index(fds, int, i));
        return -1;
    }
    nbd_listeners_note_uris(l, l->listener_uris, fds);
    note_socket(l, unix_path);
    l->listener = nbd_listen(l->nbd, EXPORTS_ADDED, (const int *)(void *)fds->data, fds->len,
                             handshake_max_seconds, max_connections, err);
    if (!l->listener) {
        remove_socket(l);
        g_ptr_array_set_size(l->listener_uris, 0);
    }
    return l->listener ? 0 : -1;
}

static void stop(void *opaque)
{
    struct nbd_listeners *l = opaque;

    if (l->listener)
        nbd_listener_stop_wait(l->listener);
    l->listener = NULL;
    remove_socket(l);
    g_ptr_array_set_size(l->listener_uris, 0);
}

static bool any_running(void *opaque)
{
    const struct nbd_listeners *l = opaque;

    return l->has_listener || l->listener;
}

static bool started(void *opaque)
{
    const struct nbd_listeners *l = opaque;

    return l->listener != NULL;
}

static const GPtrArray *uris(void *opaque, enum export_scope scope)
{
    const struct nbd_listeners *l = opaque;

    return scope == EXPORTS_LIVE ? l->uris : l->listener_uris;
}

static bool tls(void *opaque)
{
    const struct nbd_listeners *l = opaque;

    return l->tls != TLS_OFF;
}

static bool tls_names_clients(void *opaque)
{
    const struct nbd_listeners *l = opaque;

    return l->tls_names_clients;
}

struct control_nbd nbd_listeners_functions(struct nbd_listeners *l)
{
    return (struct control_nbd){
        .start = start,
        .stop = stop,
        .any_running = any_running,
        .started = started,
        .uris = uris,
        .tls = tls,
        .tls_names_clients = tls_names_clients,
        .opaque = l,
    };
}
