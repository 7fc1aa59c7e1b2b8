/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/sockets.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/nbd/open-socket.h"
#include "server/start/quit.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
/* After sys/socket.h, which it needs and does not include. */
#include <linux/vm_sockets.h>

#define FIRST_ACTIVATED_FD 3
#define MOST_ACTIVATED_FDS 1024
#define DEFAULT_PORT       "10809"

/* ---- socket activation ---- */

int sockets_activation(GError **err)
{
    const char *pid_text = g_getenv("LISTEN_PID"), *fds_text = g_getenv("LISTEN_FDS");
    guint64 pid, fds = 0;
    int result = 0;

    if (pid_text && fds_text) {
        if (!g_ascii_string_to_unsigned(pid_text, 10, 0, INT32_MAX, &pid, NULL))
            result = fail(err, "LISTEN_PID: '%s' is not a process id", pid_text);
        else if (pid != (guint64)getpid())
            result = 0; /* meant for another process */
        else if (!g_ascii_string_to_unsigned(fds_text, 10, 1, MOST_ACTIVATED_FDS, &fds, NULL))
            result = fail(err, "LISTEN_FDS: '%s' is not a number from 1 to %d", fds_text,
                          MOST_ACTIVATED_FDS);
        else
            result = fds;
    }
    g_unsetenv("LISTEN_PID");
    g_unsetenv("LISTEN_FDS");
    g_unsetenv("LISTEN_FDNAMES");
    return result;
}

/* Take descriptor `fd` as one of ours if it is a listening stream socket. */
static int adopt(struct sockets *s, int fd, GError **err)
{
    int type = 0, listening = 0;
    socklen_t length = sizeof type;

    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) < 0)
        return fail_errno(err, errno, "LISTEN_FDS: descriptor %d", fd);
    length = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &length) < 0)
        return fail_errno(err, errno, "LISTEN_FDS: descriptor %d", fd);
    if (type != SOCK_STREAM || !listening)
        return fail(err, "LISTEN_FDS: descriptor %d is not a listening stream socket", fd);
    if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return fail_errno(err, errno, "LISTEN_FDS: descriptor %d", fd);
    g_array_append_val(s->fds, fd);
    return 0;
}

static int adopt_all(struct sockets *s, const struct options *o, int count, GError **err)
{
    if (options_name_a_socket(o) || o->run)
        return fail(err, "socket activation (LISTEN_FDS is set) cannot be used with --unix, "
                         "--ipaddr, --port, --vsock, --single or --run");
    for (int i = 0; i < count; i++) {
        if (adopt(s, FIRST_ACTIVATED_FD + i, err) < 0)
            return -1;
    }
    return 0;
}

/* ---- sockets of our own ---- */

/* In $TMPDIR, or in /tmp if that is too long for the name of a socket. */
static char *make_private_dir(GError **err)
{
    static const char name[] = "nbdfleece-XXXXXX";
    struct sockaddr_un address;
    bool fits = strlen(g_get_tmp_dir()) + strlen("/") + strlen(name) + strlen("/socket") <
                sizeof address.sun_path;
    g_autofree char *path = g_build_filename(fits ? g_get_tmp_dir() : "/tmp", name, NULL);

    if (!g_mkdtemp(path)) {
        fail_errno(err, errno, "cannot make a private folder for a socket, '%s'", path);
        return NULL;
    }
    return g_steal_pointer(&path);
}

static int open_unix(struct sockets *s, const struct options *o, GError **err)
{
    g_autofree char *path = NULL;

    if (strcmp(o->unix_path, "-") == 0) {
        s->private_dir = make_private_dir(err);
        if (!s->private_dir)
            return -1;
        quit_leftover(s->private_dir);
        path = g_build_filename(s->private_dir, "socket", NULL);
    } else {
        path = g_canonicalize_filename(o->unix_path, NULL);
    }
    if (nbd_open_unix(path, o->selinux_label, s->fds, err) < 0)
        return -1;
    if (s->private_dir)
        quit_leftover(path);
    return 0;
}

static int open_vsock(struct sockets *s, const struct options *o, GError **err)
{
    struct sockaddr_vm address = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
    const char *text = o->port ? o->port : DEFAULT_PORT;
    guint64 port;
    int fd;

    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX, &port, NULL))
        return fail(err, "option '--port': '%s' is not a port of AF_VSOCK", text);
    address.svm_port = port;
    fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return fail_errno(err, errno, "option '--vsock'");
    g_array_append_val(s->fds, fd);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, SOMAXCONN) < 0)
        return fail_errno(err, errno, "cannot listen on port %s of AF_VSOCK", text);
    return 0;
}

static int open_all(struct sockets *s, const struct options *o, GError **err)
{
    bool want_tcp = o->ip_address || o->port || !options_name_a_socket(o);

    if (o->unix_path && open_unix(s, o, err) < 0)
        return -1;
    if (o->vsock)
        return open_vsock(s, o, err);
    if (want_tcp)
        return nbd_open_tcp(o->ip_address, o->port ? o->port : DEFAULT_PORT, o->family, s->fds,
                            err);
    return 0;
}

/* ---- what they are called ---- */

union address {
    struct sockaddr any;
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
    struct sockaddr_vm vm;
};

static char *unix_uri(const char *scheme, const char *path, const char *export_name)
{
    g_autofree char *name = g_uri_escape_string(export_name, NULL, FALSE);
    g_autofree char *socket = g_uri_escape_string(path, "/", FALSE);

    return g_strdup_printf("%s+unix:///%s?socket=%s", scheme, name, socket);
}

/* The host by which a client on this machine reaches a socket that listens on `a`. */
static char *inet_host(const union address *a)
{
    char text[INET6_ADDRSTRLEN];

    if (a->any.sa_family == AF_INET) {
        if (a->in.sin_addr.s_addr == htonl(INADDR_ANY))
            return g_strdup("localhost");
        return g_strdup(inet_ntop(AF_INET, &a->in.sin_addr, text, sizeof text));
    }
    if (IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr))
        return g_strdup("localhost");
    inet_ntop(AF_INET6, &a->in6.sin6_addr, text, sizeof text);
    return g_strdup_printf("[%s]", text);
}

static char *inet_uri(const char *scheme, const char *host, unsigned port, const char *export_name)
{
    g_autofree char *name = g_uri_escape_string(export_name, NULL, FALSE);

    return g_strdup_printf("%s://%s:%u/%s", scheme, host, port, name);
}

/* The URI of a socket, found by asking the socket: the kernel may have chosen its port, and another
 * process may have made it. *path and *port stay as they are if there is none. */
static char *describe(int fd, bool tls_required, const char *export_name, char **path, char **port)
{
    const char *scheme = tls_required ? "nbds" : "nbd";
    union address a = {0};
    socklen_t length = sizeof a - 1; /* keeps a NUL behind a path */
    g_autofree char *host = NULL;
    unsigned number;

    if (getsockname(fd, &a.any, &length) < 0)
        return NULL;
    switch (a.any.sa_family) {
    case AF_UNIX:
        *path = g_strdup(a.un.sun_path);
        return unix_uri(scheme, a.un.sun_path, export_name);
    case AF_INET:
    case AF_INET6:
        number = ntohs(a.any.sa_family == AF_INET ? a.in.sin_port : a.in6.sin6_port);
        host = inet_host(&a);
        *port = g_strdup_printf("%u", number);
        return inet_uri(scheme, host, number, export_name);
    case AF_VSOCK:
        *port = g_strdup_printf("%u", a.vm.svm_port);
        return inet_uri(tls_required ? "nbds+vsock" : "nbd+vsock", "1", a.vm.svm_port, export_name);
    default:
        return NULL;
    }
}

char *sockets_uri(int fd, bool tls_required, const char *export_name)
{
    g_autofree char *path = NULL, *port = NULL;

    return describe(fd, tls_required, export_name, &path, &port);
}

/* Add the credentials for TLS to a URI, in the words of nbdkit and libnbd. As in nbdkit, this is
 * not done if clients may do without TLS. The path is absolute, because the reader of the URI may
 * be in another folder. */
static void add_credentials(char **uri, const struct options *o)
{
    const char *path = o->tls_psk ? o->tls_psk : o->tls_certificates;
    g_autofree char *plain = *uri, *absolute = NULL, *escaped = NULL;

    *uri = NULL;
    if (o->tls == TLS_REQUIRE && path && plain) {
        absolute = g_canonicalize_filename(path, NULL);
        escaped = g_uri_escape_string(absolute, "/", FALSE);
        *uri = g_strdup_printf("%s%c%s=%s", plain, strchr(plain, '?') ? '&' : '?',
                               o->tls_psk ? "tls-psk-file" : "tls-certificates", escaped);
    } else {
        *uri = g_steal_pointer(&plain);
    }
}

/* Fill in uri, unix_path and port, each from the first socket that has one. */
static void describe_all(struct sockets *s, const struct options *o)
{
    for (unsigned i = 0; i < s->fds->len; i++) {
        g_autofree char *path = NULL, *port = NULL;
        g_autofree char *uri = describe(g_array_index(s->fds, int, i), o->tls == TLS_REQUIRE,
                                        o->export_name, &path, &port);

        if (!s->uri) {
            add_credentials(&uri, o);
            s->uri = g_steal_pointer(&uri);
        }
        if (!s->unix_path)
            s->unix_path = g_steal_pointer(&path);
        if (!s->port)
            s->port = g_steal_pointer(&port);
    }
}

int sockets_open(struct sockets *s, const struct options *o, int activated, GError **err)
{
    *s = (struct sockets){.fds = g_array_new(FALSE, FALSE, sizeof(int))};
    if ((activated ? adopt_all(s, o, activated, err) : open_all(s, o, err)) < 0)
        return -1;
    s->tls = o->tls == TLS_REQUIRE ? "2" : o->tls == TLS_ON ? "1" : NULL;
    describe_all(s, o);
    if (!s->uri)
        s->uri = g_strdup("");
    if (!s->unix_path)
        s->unix_path = g_strdup("");
    if (!s->port)
        s->port = g_strdup("");
    return 0;
}

int sockets_give(const struct sockets *s, uid_t uid, GError **err)
{
    g_autofree char *path = NULL;

    if (!s->private_dir)
        return 0;
    path = g_build_filename(s->private_dir, "socket", NULL);
    if (chown(path, uid, -1) < 0 || chown(s->private_dir, uid, -1) < 0)
        return fail_errno(err, errno, "cannot change the owner of '%s'", s->private_dir);
    return 0;
}

void sockets_release(struct sockets *s)
{
    g_array_set_size(s->fds, 0);
}

static void remove_private_dir(struct sockets *s)
{
    g_autofree char *path = g_build_filename(s->private_dir, "socket", NULL);

    quit_no_leftover(path);
    quit_no_leftover(s->private_dir);
    if (unlink(path) < 0 && errno != ENOENT)
        log_error("cannot remove '%s': %m", path);
    if (rmdir(s->private_dir) < 0)
        log_error("cannot remove '%s': %m", s->private_dir);
}

void sockets_close(struct sockets *s)
{
    for (unsigned i = 0; s->fds && i < s->fds->len; i++)
        close(g_array_index(s->fds, int, i));
    if (s->fds)
        g_array_unref(s->fds);
    if (s->private_dir)
        remove_private_dir(s);
    g_free(s->private_dir);
    g_free(s->uri);
    g_free(s->unix_path);
    g_free(s->port);
    *s = (struct sockets){0};
}
