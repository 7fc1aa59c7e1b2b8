/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/open-socket.h"

#include "common/util/error.h"
#include "common/util/port.h"
#include "common/util/unix-socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKCREATE "/proc/self/attr/sockcreate"

/* ---- TCP ---- */

/* One address. The descriptor, or a negative errno. */
static int listen_on(const struct addrinfo *a)
{
    int one = 1;
    int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (fd < 0)
        return -errno;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) < 0 ||
        (a->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) < 0) ||
        bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, SOMAXCONN) < 0) {
        int error = errno;
        close(fd);
        return -error;
    }
    return fd;
}

/* Port 0 means any free port; then all addresses get the same one. */
static void same_port(struct addrinfo *rest, int fd)
{
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } bound;
    socklen_t length = sizeof bound;

    if (getsockname(fd, &bound.any, &length) < 0)
        return;
    /* The port is at the same place in both. */
    for (struct addrinfo *a = rest; a; a = a->ai_next) {
        if (a->ai_family == AF_INET && ((struct sockaddr_in *)a->ai_addr)->sin_port == 0)
            ((struct sockaddr_in *)a->ai_addr)->sin_port = bound.v4.sin_port;
        if (a->ai_family == AF_INET6 && ((struct sockaddr_in6 *)a->ai_addr)->sin6_port == 0)
            ((struct sockaddr_in6 *)a->ai_addr)->sin6_port = bound.v6.sin6_port;
    }
}

/* Does the machine lack IPv6, or the address? Then the other addresses will do. A port that is in
 * use is an error. */
static bool is_missing_family(int error)
{
    return error == -EAFNOSUPPORT || error == -EADDRNOTAVAIL || error == -EPROTONOSUPPORT;
}

int nbd_open_tcp(const char *host, const char *port, int family, GArray *fds, GError **err)
{
    struct addrinfo hints = {.ai_family = family,
                             .ai_socktype = SOCK_STREAM,
                             .ai_protocol = IPPROTO_TCP,
                             .ai_flags = AI_PASSIVE};
    struct addrinfo *list;
    const char *shown = host ? host : "*";
    guint before = fds->len;
    int error = 0;

    if (port_check(port, err) < 0)
        return -1;
    int r = getaddrinfo(host, port, &hints, &list);
    if (r != 0)
        return fail(err, "cannot listen on %s port %s: %s", shown, port,
                    r == EAI_SYSTEM ? g_strerror(errno) : gai_strerror(r));
    for (struct addrinfo *a = list; a; a = a->ai_next) {
        int fd = listen_on(a);
        if (fd >= 0) {
            g_array_append_val(fds, fd);
            same_port(a->ai_next, fd);
            continue;
        }
        error = fd;
        if (!is_missing_family(error))
            break;
    }
    freeaddrinfo(list);
    if (fds->len > before && (error == 0 || is_missing_family(error)))
        return 0;
    for (guint i = before; i < fds->len; i++)
        close(g_array_index(fds, int, i));
    g_array_set_size(fds, before);
    return fail_errno(err, error, "cannot listen on %s port %s", shown, port);
}

/* ---- Unix ---- */

/* Sockets that this thread makes get the label from now on; NULL: none. */
static int set_sockcreate(const char *label)
{
    int fd = open(SOCKCREATE, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    size_t length = label ? strlen(label) + 1 : 0;
    ssize_t n = write(fd, label ? label : "", length);
    int error = n < 0 ? -errno : 0;
    close(fd);
    return error;
}

static int make_unix_socket(const char *label, GError **err)
{
    if (label) {
        int r = set_sockcreate(label);
        if (r < 0)
            return fail_errno(err, r, "cannot give sockets the SELinux label %s", label);
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = errno;
    if (label)
        set_sockcreate(NULL);
    if (fd < 0)
        return fail_errno(err, error, "cannot make a Unix socket");
    return fd;
}

int nbd_open_unix(const char *path, const char *selinux_label, GArray *fds, GError **err)
{
    int fd = make_unix_socket(selinux_label, err);
    if (fd < 0)
        return -1;
    if (unix_socket_listen(fd, path, SOMAXCONN, NULL, err) < 0) {
        g_prefix_error(err, "cannot listen: ");
        close(fd);
        return -1;
    }
    g_array_append_val(fds, fd);
    return 0;
}
