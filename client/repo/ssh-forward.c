/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ssh runs `cat` on the other host, with a pipe of ours as its input. What it prints first tells that
 * the forwarding is there; the end of the pipe, also when this process is killed, ends it.
 *
 * A ^C on the terminal goes to ssh, too. It must outlive it, so that the session on the other host
 * can be ended in order: ssh has these signals blocked.
 */
#include "client/repo/ssh-forward.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READY      "ready\n"
#define OUTPUT_MAX 65536 /* bytes of what a shell may say before that */

struct ssh_forward {
    char *host, *folder, *socket;
    GPid pid;    /* 0: it does not run */
    int in, out; /* our ends of its pipes; -1 */
};

static void set_signals_up(gpointer opaque)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_SETMASK, &set, NULL);
    signal(SIGPIPE, SIG_DFL);
}

/* Where a user's sockets are, or else those of ssh: others cannot make or move anything there, which they
 * could in a temporary folder. The caller frees it. NULL and *err. */
static char *choose_place(GError **err)
{
    const char *runtime = g_getenv("XDG_RUNTIME_DIR");
    g_autofree char *place = NULL;

    if (runtime && g_path_is_absolute(runtime))
        return g_strdup(runtime);
    place = g_build_filename(g_get_home_dir(), ".ssh", NULL);
    if (mkdir(place, 0700) == 0 || errno == EEXIST)
        return g_steal_pointer(&place);
    client_fail(err, CLIENT_ERROR_FAILED,
                "%s: %s (the sockets that ssh forwards can be elsewhere, in "
                "$XDG_RUNTIME_DIR)",
                place, g_strerror(errno));
    return NULL;
}

/* A folder that only this user can enter. NULL and *err. */
static char *make_folder(GError **err)
{
    g_autofree char *place = choose_place(err);
    g_autofree char *name = place ? g_build_filename(place, "fleecectl-XXXXXX", NULL) : NULL;

    if (!name)
        return NULL;
    if (g_mkdtemp(name))
        return g_steal_pointer(&name);
    client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", name, g_strerror(errno));
    return NULL;
}

static int start(struct ssh_forward *f, const char *target, GError **err)
{
    g_autofree char *forward = g_strdup_printf("%s:%s", f->socket, target);
    const char *const argv[] = {"ssh",
                                "-o",
                                "ControlMaster=no",
                                "-o",
                                "ControlPath=none",
                                "-o",
                                "ExitOnForwardFailure=yes",
                                "-o",
                                "ForwardAgent=no",
                                "-o",
                                "ForwardX11=no",
                                "-o",
                                "StreamLocalBindMask=0177",
                                "-o", /* a host that has gone is noticed after a minute */
                                "ServerAliveInterval=15",
                                "-o",
                                "ServerAliveCountMax=4",
                                "-T",
                                "-L",
                                forward,
                                "--",
                                f->host,
                                "echo ready; exec cat",
                                NULL};
    g_autoptr(GError) error = NULL;

    if (g_spawn_async_with_pipes(NULL, (char **)argv, NULL,
                                 G_SPAWN_SEARCH_PATH | G_SPAWN_DO_NOT_REAP_CHILD, set_signals_up,
                                 NULL, &f->pid, &f->in, &f->out, NULL, &error))
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED, "ssh: %s", error->message);
}

/* Wait until there is something to be read. 0, or -1 and *err. */
static int wait_readable(const struct ssh_forward *f, GError **err)
{
    struct pollfd fds[] = {{.fd = f->out, .events = POLLIN},
                           {.fd = interrupt_fd(err), .events = POLLIN}};

    if (fds[1].fd < 0)
        return -1;
    while (poll(fds, G_N_ELEMENTS(fds), -1) < 0 && errno == EINTR)
        ;
    if (fds[1].revents == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_INTERRUPTED, "interrupted while ssh connected to %s",
                       f->host);
}

/* Wait until it says that it is ready; a shell may say other things before. */
static int wait_ready(const struct ssh_forward *f, GError **err)
{
    g_autoptr(GString) text = g_string_new(NULL);

    while (text->len < OUTPUT_MAX && !g_str_has_suffix(text->str, READY)) {
        char c;

        if (wait_readable(f, err) < 0)
            return -1;
        if (read(f->out, &c, 1) != 1)
            return client_fail(err, CLIENT_ERROR_UNREACHABLE,
                               "%s: ssh could not connect, or forward", f->host);
        g_string_append_c(text, c);
    }
    if (g_str_has_suffix(text->str, READY))
        return 0;
    return client_fail(err, CLIENT_ERROR_UNREACHABLE, "%s: this is no shell that ssh has run",
                       f->host);
}

static int open_forward(struct ssh_forward *f, const char *target, GError **err)
{
    if (*target == '/' && strchr(target, ':'))
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: ssh forwards no path with a colon",
                           target);
    f->folder = make_folder(err);
    if (!f->folder)
        return -1;
    f->socket = g_build_filename(f->folder, "socket", NULL);
    return start(f, target, err) < 0 ? -1 : wait_ready(f, err);
}

struct ssh_forward *ssh_forward_new(const char *host, const char *target, GError **err)
{
    struct ssh_forward *f = g_new0(struct ssh_forward, 1);

    f->host = g_strdup(host);
    f->in = f->out = -1;
    if (open_forward(f, target, err) == 0)
        return f;
    ssh_forward_free(f);
    return NULL;
}

const char *ssh_forward_socket(const struct ssh_forward *f)
{
    return f->socket;
}

void ssh_forward_free(struct ssh_forward *f)
{
    if (!f)
        return;
    if (f->in >= 0)
        close(f->in);
    if (f->out >= 0)
        close(f->out);
    if (f->pid > 0) {
        kill(f->pid, SIGKILL); /* nothing is under way any more, and it need not say goodbye */
        while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
            ;
        g_spawn_close_pid(f->pid);
    }
    if (f->socket)
        unlink(f->socket);
    if (f->folder)
        rmdir(f->folder);
    g_free(f->socket);
    g_free(f->folder);
    g_free(f->host);
    g_free(f);
}

char *ssh_host_name(const char *host, GError **err)
{
    const char *const argv[] = {"ssh", "-G", "--", host, NULL};
    g_autofree char *text = NULL;
    g_auto(GStrv) lines = NULL;
    g_autoptr(GError) error = NULL;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &text, NULL, NULL,
                      &error)) {
        client_fail(err, CLIENT_ERROR_FAILED, "ssh -G %s: %s", host, error->message);
        return NULL;
    }
    lines = g_strsplit(text, "\n", -1);
    for (char **line = lines; *line; line++) {
        if (g_str_has_prefix(*line, "hostname "))
            return g_strdup(*line + strlen("hostname "));
    }
    client_fail(err, CLIENT_ERROR_FAILED, "ssh -G %s: it does not say a host name", host);
    return NULL;
}
