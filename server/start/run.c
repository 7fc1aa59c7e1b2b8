/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of a start is nbdkit's, because plugins rely on it: load, config, config_complete,
 * get_ready, [bind, fork, change user, chdir /], after_fork. After that threads may exist, disks
 * are opened and clients are let in. (Plugins of our own open their image when they are ready, so
 * that they have it whatever user the server becomes.) The PID file, --run, and the exit of the
 * parent that waits come last, when clients can connect.
 *
 * The end is the same backwards. While the main loop still runs, clients end (begin_end); then
 * stop() takes down whatever struct run has: one function for a start that failed at any step and
 * for the end of a server that has served.
 */
#include "server/start/run.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/log-limit.h"
#include "server/start/captive.h"
#include "server/backup/backup.h"
#include "server/backup/hook-command.h"
#include "server/backup/quiesce.h"
#include "server/control/control.h"
#include "server/start/close-disks.h"
#include "server/start/daemon.h"
#include "server/start/folders.h"
#include "server/start/nbd-listeners.h"
#include "server/nbd/nbd-server.h"
#include "server/nbd/tls-credentials.h"
#include "server/start/disks.h"
#include "server/start/quit.h"
#include "server/registry/registry.h"
#include "server/state/store.h"
#include "server/start/open-watchdog.h"
#include "server/start/shutdown.h"
#include "server/start/sockets.h"

#include <errno.h>
#include <fcntl.h>
#include <glib-unix.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* How long clients may take to leave when the server ends, before they are cut off. */
#define GRACE_MS 2000

/* Seconds between the end of all other limits and the last resort (quit.h). */
#define LAST_RESORT_SECONDS 5

/* Seconds that a disk may take to open before the log says that it is slow. */
#define SLOW_OPEN_SECONDS 5

struct run {
    const struct options *o;
    int parent;
    GPtrArray *backends; /* NULL entries: the disk has it */
    struct sockets sockets;
    int quit_fd;
    int ready_fd;                /* -1: in the foreground, or the parent has been told */
    struct tls_credentials *tls; /* NULL: --tls=off */
    struct store *store;         /* NULL: no --state */
    struct server *server;
    struct backup *backup; /* NULL: not yet */
    struct nbd_server *nbd;
    struct nbd_listeners listeners;
    struct control *control;
    GMainLoop *loop;
    struct captive *captive; /* NULL: none is running */
    int exit_code;

    /* The end. */
    bool ending;
    struct shutdown_step steps[1];
    guint cut_timer; /* source, 0: none */
    bool is_left;    /* something hangs: what it may use is left as it is */

    /* From the options, absolute: a daemon's folder is /. */
    char *pid_file, *control_path, *tls_psk;
    char *freeze_hook; /* its program's path is absolute; NULL: none */
    struct folders folders;
};

/* ---- the end, while the main loop runs ---- */

/* From the last client's thread, or at once. */
static void clients_have_gone(void *ticket)
{
    shutdown_complete(ticket);
}

static gboolean cut_clients(void *opaque)
{
    struct run *r = opaque;

    r->cut_timer = 0;
    nbd_server_cut(r->nbd);
    return G_SOURCE_REMOVE;
}

static void begin_clients(void *opaque, struct shutdown_ticket *ticket)
{
    struct run *r = opaque;

    if (!r->nbd) {
        shutdown_complete(ticket);
        return;
    }
    r->cut_timer = g_timeout_add(MIN(GRACE_MS, r->o->stop_timeout * 1000 / 2), cut_clients, r);
    nbd_server_stop(r->nbd, clients_have_gone, ticket);
}

static void give_up_clients(void *opaque)
{
    const struct run *r = opaque;
    g_autoptr(GPtrArray) left = nbd_server_left(r->nbd);

    log_error("clients have not ended after %u s", r->o->stop_timeout);
    for (unsigned i = 0; i < left->len; i++)
        log_error("%s", (const char *)left->pdata[i]);
}

static void ended(void *opaque, bool in_order)
{
    struct run *r = opaque;

    r->is_left = !in_order;
    if (r->cut_timer)
        g_source_remove(r->cut_timer);
    if (r->nbd && in_order)
        nbd_server_free(r->nbd);
    g_main_loop_quit(r->loop);
}

/* Monitors hear of it first, and are answered until the clients have gone. */
static void begin_end(struct run *r)
{
    if (r->ending)
        return;
    r->ending = true;
    log_debug("the server ends");
    if (r->control)
        control_tell_shutdown(r->control);
    if (r->captive)
        captive_end(r->captive);
    backup_stop(r->backup);
    nbd_listeners_end(&r->listeners);
    plugin_begin_shutdown();
    r->steps[0] = (struct shutdown_step){
        .limit_ms = r->o->stop_timeout * 1000,
        .begin = begin_clients,
        .give_up = give_up_clients,
    };
    shutdown_start(r->steps, G_N_ELEMENTS(r->steps), ended, r);
}

/* ---- what ends it ---- */

static gboolean on_quit(int fd, GIOCondition condition, void *opaque)
{
    begin_end(opaque);
    return G_SOURCE_REMOVE;
}

static void on_captive_ended(void *opaque, int exit_code)
{
    struct run *r = opaque;

    r->captive = NULL;
    r->exit_code = exit_code;
    quit_request(); /* which also arms the last resort */
    begin_end(r);
}

static void ask_to_quit(void *opaque)
{
    quit_request();
}

/* ---- start-up, before the fork ---- */

static char *absolute(const char *path)
{
    return path ? g_canonicalize_filename(path, NULL) : NULL;
}

/* Called before the change of user, because keys may be for root alone. */
static int load_tls(struct run *r, GError **err)
{
    const struct options *o = r->o;

    if (o->tls == TLS_OFF)
        return 0;
    r->tls_psk = absolute(o->tls_psk);
    r->tls = r->tls_psk
                 ? tls_credentials_psk(r->tls_psk, err)
                 : tls_credentials_certificates(o->tls_certificates, o->tls_verify_peer, err);
    return r->tls ? 0 : -1;
}

static int prepare(struct run *r, GError **err)
{
    int activated = sockets_activation(err);

    if (activated < 0)
        return -1;
    umask(0022);
    r->pid_file = absolute(r->o->pid_file);
    r->control_path = absolute(r->o->control);
    folders_init(&r->folders, r->o);
    if (r->o->freeze_hook) {
        r->freeze_hook = hook_command_resolve(r->o->freeze_hook, err);
        if (!r->freeze_hook)
            return -1;
    }
    r->quit_fd = quit_open(err);
    if (r->quit_fd < 0)
        return -1;
    /* A plugin may ask for the end in any callback. The start is finished all the same, as in
     * nbdkit. */
    plugin_set_shutdown(ask_to_quit, NULL);
    r->backends = disks_load(r->o, DISKS_GET_READY, err);
    if (!r->backends)
        return -1;
    if (load_tls(r, err) < 0)
        return -1;
    quit_install();
    if (disks_open_ahead(r->backends, r->o->readonly, err) < 0)
        return -1;
    if (sockets_open(&r->sockets, r->o, activated, err) < 0)
        return -1;
    return activated;
}

/* Become the process that will serve. */
static int settle(struct run *r, bool background, GError **err)
{
    const struct options *o = r->o;
    uid_t uid;

    if (background && daemon_fork(&r->ready_fd, err) < 0)
        return -1;
    /* Memory locks do not survive a fork, and need rights that a change of user gives up. */
    if (o->swap && daemon_stay_in_memory(err) < 0)
        return -1;
    if (o->user &&
        (daemon_find_user(o->user, &uid, err) < 0 || sockets_give(&r->sockets, uid, err) < 0))
        return -1;
    if (daemon_change_user(o->user, o->group, err) < 0)
        return -1;
    if (o->exit_with_parent && daemon_exit_with_parent(r->parent, err) < 0)
        return -1;
    return 0;
}

/* ---- start-up, after the fork ---- */

/* Check files that are used only later, by the first client or when everything runs: the user that
 * we are now must be able to use them. */
static int check_paths(const struct run *r, GError **err)
{
    if (r->pid_file && daemon_check_pid_file(r->pid_file, err) < 0)
        return -1;
    if (r->tls_psk && tls_credentials_check_psk(r->tls_psk, err) < 0)
        return -1;
    return r->freeze_hook ? quiesce_check(r->freeze_hook, err) : 0;
}

static int start_backup(struct run *r, GError **err)
{
    const struct session_options options = {
        .lease = r->o->backup_lease,
        .freeze_hook = r->freeze_hook,
        .freeze_timeout = r->o->freeze_timeout,
    };

    r->backup = backup_new(r->server, &options, err);
    return r->backup ? 0 : -1;
}

static int add_disks(struct run *r, GError **err)
{
    struct server_options options = {
        .scratch_dir = r->folders.scratch,
        .scratch_limit = r->o->scratch_limit,
        .on_cbw_error = r->o->on_cbw_error,
        .readonly = r->o->readonly,
    };

    if (folders_open_store(&r->folders, &r->store, err) < 0)
        return -1;
    options.store = r->store;
    for (unsigned i = 0; i < r->backends->len; i++) {
        if (plugin_after_fork(r->backends->pdata[i], err) < 0)
            return -1;
    }
    r->server = server_new(&options);
    if (folders_check_scratch(&r->folders, server_scratch_pool(r->server), err) < 0)
        return -1;
    server_set_quit(r->server, ask_to_quit, NULL);
    for (unsigned i = 0; i < r->backends->len; i++) {
        const struct option_disk *disk = r->o->disks->pdata[i];
        struct backend *b = g_steal_pointer(&r->backends->pdata[i]);
        struct open_watchdog watch;

        open_watchdog_begin(&watch, disk->name, disk->plugin, SLOW_OPEN_SECONDS);
        bool added = server_add_disk(r->server, disk->name, b, err) != NULL;
        open_watchdog_end(&watch);
        if (!added)
            return -1;
    }
    return server_start_store(r->server, err) < 0 ? -1 : start_backup(r, err);
}

/* The client of -s gets copies of descriptors 0 and 1. What others write to these two by mistake
 * must not reach it. */
static int serve_stdio(struct run *r, GError **err)
{
    int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    int out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (in < 0 || out < 0 || null < 0)
        return fail_errno(err, errno, "standard input and output");
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    close(null);
    return nbd_serve_stdio(r->nbd, in, out, ask_to_quit, NULL, err);
}

static int start_nbd(struct run *r, GError **err)
{
    const struct options *o = r->o;
    struct nbd_options options = {
        .tls = r->tls,
        .tls_required = o->tls == TLS_REQUIRE,
        .handshake_timeout = o->handshake_timeout,
        .max_connections = o->max_connections,
        .threads = o->threads,
        .poll_max_ns = o->poll_max_ns,
        .mask_handshake = (uint16_t)o->mask_handshake, /* there are no more flags */
        .no_structured_replies = o->no_structured_replies,
        .no_meta_contexts = o->no_meta_contexts,
        .no_extended_headers = o->no_extended_headers,
        .keepalive = o->keepalive,
    };
    struct nbd_listener *listener;

    r->nbd = nbd_server_new(r->server, &options);
    r->listeners.nbd = r->nbd;
    r->listeners.tls = o->tls;
    r->listeners.tls_names_clients = r->tls && tls_credentials_name_clients(r->tls);
    if (o->single)
        return 0;
    nbd_listeners_note_uris(&r->listeners, r->listeners.uris, r->sockets.fds);
    listener = nbd_listen(r->nbd, EXPORTS_LIVE, (const int *)(void *)r->sockets.fds->data,
                          r->sockets.fds->len, o->handshake_timeout, o->max_connections, err);
    sockets_release(&r->sockets);
    if (!listener)
        return -1;
    r->listeners.has_listener = true;
    return 0;
}

static int start_control(struct run *r, GError **err)
{
    struct control_nbd functions = nbd_listeners_functions(&r->listeners);

    if (!r->control_path)
        return 0;
    r->control = control_new(r->server, r->backup, &functions, r->control_path, err);
    if (!r->control)
        return -1;
    quit_leftover(r->control_path);
    log_info("%s transient: they end with this server",
             r->store ? "views of no backup session are" : "dirty bitmaps and views are");
    return 0;
}

/* Clients can connect: tell everybody who waits for that. */
static int announce(struct run *r, GError **err)
{
    const struct options *o = r->o;

    if (o->single && serve_stdio(r, err) < 0)
        return -1;
    if (r->pid_file && daemon_write_pid(r->pid_file, err) < 0)
        return -1;
    if (o->print_uri && (printf("%s\n", r->sockets.uri) < 0 || fflush(stdout) == EOF))
        return fail_errno(err, errno, "option '--print-uri': standard output");
    if (o->run) {
        r->captive = captive_start(o, &r->sockets, on_captive_ended, r, err);
        if (!r->captive)
            return -1;
    }
    if (r->ready_fd >= 0) {
        daemon_ready(r->ready_fd, o->verbose);
        r->ready_fd = -1;
        /* Not earlier, because the caller must see why a start failed. */
        if (!o->log_chosen)
            log_set_target(LOG_TO_SYSLOG);
    }
    return 0;
}

static int start(struct run *r, GError **err)
{
    int activated = prepare(r, err);

    if (activated < 0)
        return -1;
    if (settle(r, !r->o->foreground && !activated, err) < 0)
        return -1;
    r->loop = g_main_loop_new(NULL, FALSE);
    if (check_paths(r, err) < 0 || add_disks(r, err) < 0 || start_nbd(r, err) < 0 ||
        start_control(r, err) < 0)
        return -1;
    g_unix_fd_add(r->quit_fd, G_IO_IN, on_quit, r);
    return announce(r, err);
}

/* ---- the end, when the clients have gone ---- */

/* Is all of the server gone? */
static bool free_server(struct run *r)
{
    if (!r->server)
        return true;
    if (!close_disks(r->server, r->o->stop_timeout * 1000 / 2) || r->is_left)
        return false;
    return server_free(r->server);
}

/* Take down whatever there is, in the opposite order. What may still be in use, because a thread
 * hangs in a plugin, is left as it is. */
static void stop(struct run *r)
{
    if (r->control) {
        quit_no_leftover(r->control_path);
        control_free(r->control);
    }
    /* control_free does it, too; but leases end sessions also where there is no control socket. */
    if (r->server && !r->control && !server_end_changes(r->server, GRACE_MS))
        log_error("a change that waits for a disk is given up");
    backup_free(r->backup);
    r->is_left = !free_server(r) || r->is_left;
    /* A disk that is left may still change: then the next start recovers, as after a crash. */
    if (r->store && !r->is_left && !store_close(r->store) && !r->exit_code)
        r->exit_code = EXIT_FAILURE;
    if (r->backends) {
        disks_free(r->backends);
        g_ptr_array_unref(r->backends);
    }
    nbd_listeners_clear(&r->listeners);
    sockets_close(&r->sockets);
    if (r->loop)
        g_main_loop_unref(r->loop);
    g_free(r->pid_file);
    g_free(r->control_path);
    g_free(r->freeze_hook);
    folders_clear(&r->folders);
    log_limits_end();
    if (r->is_left)
        return;
    tls_credentials_free(r->tls);
    g_free(r->tls_psk);
}

/* Something is left: say so by the exit code. Take nothing away that a thread in a plugin may still
 * use: neither the options, nor what libraries free when a process ends. */
static void G_GNUC_NORETURN exit_with_something_left(const struct run *r)
{
    log_error("the server did not end in order");
    fflush(stdout); /* not all: a plugin's thread may hang with a file of its own locked */
    _exit(r->exit_code ? r->exit_code : EXIT_FAILURE);
}

int run_server(const struct options *o, int parent)
{
    struct run r = {.o = o, .parent = parent, .quit_fd = -1, .ready_fd = -1};
    g_autoptr(GError) err = NULL;

    nbd_listeners_init(&r.listeners);
    if (start(&r, &err) < 0) {
        log_error("%s", err->message);
        r.exit_code = EXIT_FAILURE;
        if (r.loop)
            begin_end(&r);
    } else {
        quit_started(o->stop_timeout * 3 / 2 + LAST_RESORT_SECONDS);
    }
    if (r.loop)
        g_main_loop_run(r.loop);
    stop(&r);
    if (r.is_left)
        exit_with_something_left(&r);
    return r.exit_code;
}
