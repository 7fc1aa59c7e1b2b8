/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket as a whole: the listener, its monitors, and the events that all of them get.
 */
#include "server/control/control-private.h"
#include "common/util/accept.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "common/util/unix-socket.h"
#include "server/control/actual-size.h"
#include "server/control/monitor.h"
#include "server/control/socket.h"

#include <errno.h>
#include <glib-unix.h>
#include <sys/socket.h>
#include <unistd.h>

/* The most monitors at once. A client that opens more is taken to be broken. */
#define MAX_MONITORS 64
/* How long to wait before accepting again if no descriptor is left, not even to refuse a client. */
#define ACCEPT_AGAIN_MS 1000

struct listener {
    struct control control;
    char *path; /* absolute, because the current folder may be another when it is removed */
    struct stat file;
    int fd;
    int reserve;  /* see common/util/accept.h */
    guint source; /* accept, or the wait for accepting again */
    GList *monitors;
    unsigned next_monitor;
    bool shutdown_told;
};

static void monitor_gone(struct monitor *m, void *opaque)
{
    struct listener *l = opaque;

    l->monitors = g_list_remove(l->monitors, m);
    monitor_free(m);
}

static void welcome(struct listener *l, int fd)
{
    g_autoptr(GError) error = NULL;
    g_autofree char *name = NULL;

    if (!control_socket_may(fd, &error)) {
        log_error_limited(&l->control.refused, "%s", error->message);
        close(fd);
        return;
    }
    if (g_list_length(l->monitors) >= MAX_MONITORS) {
        log_error_limited(&l->control.refused, "control: there are %d monitors already: refused",
                          MAX_MONITORS);
        close(fd);
        return;
    }
    name = g_strdup_printf("monitor %u", ++l->next_monitor);
    l->monitors = g_list_append(l->monitors, monitor_new(fd, name, control_commands, &l->control,
                                                         &l->control.lost_events, monitor_gone, l));
}

static void start_accepting(struct listener *l);

static gboolean accept_again(gpointer p)
{
    start_accepting(p);
    return G_SOURCE_REMOVE;
}

static gboolean acceptable(gint listen_fd, GIOCondition condition, gpointer p)
{
    struct listener *l = p;
    bool refused;
    int fd = accept_or_refuse(listen_fd, SOCK_CLOEXEC | SOCK_NONBLOCK, &l->reserve, &refused);

    if (fd >= 0) {
        welcome(l, fd);
        return G_SOURCE_CONTINUE;
    }
    if (!accept_has_run_out(errno))
        return G_SOURCE_CONTINUE; /* the client has gone again, or EINTR */
    log_error_limited(&l->control.refused, "control: %s: %m",
                      refused ? "a monitor is refused" : "accept");
    if (refused)
        return G_SOURCE_CONTINUE;
    l->source = g_timeout_add(ACCEPT_AGAIN_MS, accept_again, l);
    return G_SOURCE_REMOVE;
}

static void start_accepting(struct listener *l)
{
    l->source = g_unix_fd_add_full(MONITOR_PRIORITY, l->fd, G_IO_IN, acceptable, l, NULL);
}

static void tell_monitors(void *opaque, const struct server_event *event)
{
    struct listener *l = opaque;
    GString *line = g_string_new(NULL);

    control_format_event(line, event);
    l->shutdown_told |= event->kind == EVENT_SHUTDOWN;
    for (GList *m = l->monitors; m; m = m->next)
        monitor_event(m->data, line);
    g_string_free(line, TRUE);
}

struct control *control_new(struct server *s, struct backup *backup, const struct control_nbd *nbd,
                            const char *path, GError **err)
{
    struct stat file;
    int fd = control_socket_open(path, &file, err);
    struct listener *l;

    if (fd < 0)
        return NULL;
    l = g_new0(struct listener, 1);
    l->control = (struct control){.server = s, .backup = backup, .nbd = *nbd};
    l->path = g_canonicalize_filename(path, NULL);
    l->file = file;
    l->fd = fd;
    l->reserve = accept_reserve();
    start_accepting(l);
    server_add_event_sink(s, tell_monitors, l);
    return &l->control;
}

/* How long, in milliseconds, the end waits for commands that are not done. */
#define END_MS 2000

static const char *reason_of_end(const struct control *c)
{
    return c->quit ? "host-qmp-quit" : "host-signal";
}

void control_tell_shutdown(struct control *c)
{
    const struct server_event end = {.kind = EVENT_SHUTDOWN, .reason = reason_of_end(c)};

    server_emit(c->server, &end);
}

/* Monitors hear of the end after everything that came before it. So commands that are not done are
 * waited for or given up first, and events on their way, which are callbacks of the main context,
 * are sent. No request is taken any more meanwhile. */
static void say_good_bye(struct listener *l)
{
    const struct server_event end = {
        .kind = EVENT_SHUTDOWN,
        .reason = reason_of_end(&l->control),
        .time_usec = g_get_real_time(),
    };

    for (GList *m = l->monitors; m; m = m->next)
        monitor_stop(m->data);
    control_forget_nbd_stop(&l->control);
    actual_sizes_free(g_steal_pointer(&l->control.sizes));
    if (!server_end_changes(l->control.server, END_MS))
        log_error("control: a command that waits for a disk is given up");
    while (g_main_context_iteration(NULL, FALSE))
        ;
    if (!l->shutdown_told)
        tell_monitors(l, &end);
}

void control_free(struct control *c)
{
    struct listener *l = (struct listener *)c; /* `control` comes first in it */
    g_autoptr(GError) err = NULL;

    if (!c)
        return;
    g_source_remove(l->source);
    close(l->fd);
    if (l->reserve >= 0)
        close(l->reserve);
    if (unix_socket_remove(l->path, &l->file, &err) < 0)
        log_error("control socket: %s", err->message);
    say_good_bye(l);
    server_remove_event_sink(c->server, tell_monitors, l);
    for (GList *m = l->monitors; m; m = m->next)
        monitor_free(m->data);
    g_list_free(l->monitors);
    log_limit_end(&l->control.refused);
    log_limit_end(&l->control.lost_events);
    g_free(l->path);
    g_free(l);
}
