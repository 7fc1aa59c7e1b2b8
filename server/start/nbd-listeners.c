/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/nbd-listeners.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/start/quit.h"
#include "server/start/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

void nbd_control_init(struct nbd_control *nc)
{
    *nc = (struct nbd_control){
        .uris = g_ptr_array_new_with_free_func(g_free),
        .listener_uris = g_ptr_array_new_with_free_func(g_free),
    };
}

/* QEMU's nbd-server-stop removes its socket's file, too. */
static void remove_socket(struct nbd_control *nc)
{
    if (nc->unix_path)
        quit_no_leftover(nc->unix_path);
    if (nc->unix_path && unlink(nc->unix_path) < 0 && errno != ENOENT)
        log_error("cannot remove '%s': %m", nc->unix_path);
    g_clear_pointer(&nc->unix_path, g_free);
}

void nbd_control_clear(struct nbd_control *nc)
{
    remove_socket(nc);
    g_clear_pointer(&nc->uris, g_ptr_array_unref);
    g_clear_pointer(&nc->listener_uris, g_ptr_array_unref);
}

void nbd_control_note_uris(const struct nbd_control *nc, GPtrArray *uris, const GArray *fds)
{
    for (unsigned i = 0; i < fds->len; i++) {
        char *uri = sockets_uri(g_array_index(fds, int, i), nc->tls == TLS_REQUIRE, "");

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
    struct nbd_control *nc = opaque;
    g_autoptr(GArray) fds = g_array_new(FALSE, FALSE, sizeof(int));
    int r;

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
    nbd_control_note_uris(nc, nc->listener_uris, fds);
    nc->unix_path = unix_path ? g_canonicalize_filename(unix_path, NULL) : NULL;
    if (nc->unix_path)
        quit_leftover(nc->unix_path);
    nc->listener = nbd_listen(nc->nbd, EXPORTS_ADDED, (const int *)(void *)fds->data, fds->len,
                              handshake_max_seconds, max_connections, err);
    if (!nc->listener) {
        remove_socket(nc);
        g_ptr_array_set_size(nc->listener_uris, 0);
    }
    return nc->listener ? 0 : -1;
}

static void stop(void *opaque, void (*stopped)(void *stopped_opaque), void *stopped_opaque)
{
    struct nbd_control *nc = opaque;

    if (nc->listener)
        nbd_listener_stop(nc->listener);
    nc->listener = NULL;
    remove_socket(nc);
    g_ptr_array_set_size(nc->listener_uris, 0);
    stopped(stopped_opaque);
}

static bool any_running(void *opaque)
{
    const struct nbd_control *nc = opaque;

    return nc->has_listener || nc->listener;
}

static bool started(void *opaque)
{
    const struct nbd_control *nc = opaque;

    return nc->listener != NULL;
}

static const GPtrArray *uris(void *opaque, enum export_scope scope)
{
    const struct nbd_control *nc = opaque;

    return scope == EXPORTS_LIVE ? nc->uris : nc->listener_uris;
}

static bool tls(void *opaque)
{
    const struct nbd_control *nc = opaque;

    return nc->tls != TLS_OFF;
}

static bool tls_names_clients(void *opaque)
{
    const struct nbd_control *nc = opaque;

    return nc->tls_names_clients;
}

struct control_nbd nbd_control_functions(struct nbd_control *nc)
{
    return (struct control_nbd){
        .start = start,
        .stop = stop,
        .any_running = any_running,
        .started = started,
        .uris = uris,
        .tls = tls,
        .tls_names_clients = tls_names_clients,
        .opaque = nc,
    };
}
