/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/captive.h"

#include "common/util/error.h"
#include "common/util/log.h"

#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

struct captive {
    pid_t pid;
    guint watch; /* source */
    void (*ended)(void *opaque, int exit_code);
    void *opaque;
};

static void on_exit_of_command(GPid pid, int status, void *data)
{
    g_autofree struct captive *c = data;
    int code;

    if (WIFSIGNALED(status)) {
        log_error("the command of --run was killed by signal %d", WTERMSIG(status));
        code = 128 + WTERMSIG(status);
    } else {
        code = WEXITSTATUS(status);
    }
    c->ended(c->opaque, code);
}

/* Signals as a program expects them, though we catch some and ignore others. */
static void set_signals(posix_spawnattr_t *attributes)
{
    sigset_t set;

    sigemptyset(&set);
    posix_spawnattr_setsigmask(attributes, &set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_setsigdefault(attributes, &set);
    posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static char **make_environment(const struct options *o, const struct sockets *sockets)
{
    const struct {
        const char *name, *value; /* NULL: not set, also if it is in our own environment */
    } variables[] = {
        {"uri", sockets->uri},
        {"nbd", sockets->uri},
        {"unixsocket", sockets->unix_path},
        {"port", sockets->port},
        {"exportname", o->export_name},
        {"tls", sockets->tls},
        {"tls_certificates", o->tls_certificates ? o->tls_certificates : ""},
        {"tls_psk", o->tls_psk ? o->tls_psk : ""},
    };
    char **environment = g_get_environ();

    for (unsigned i = 0; i < G_N_ELEMENTS(variables); i++)
        environment = variables[i].value ? g_environ_setenv(environment, variables[i].name,
                                                            variables[i].value, TRUE)
                                         : g_environ_unsetenv(environment, variables[i].name);
    return environment;
}

struct captive *captive_start(const struct options *o, const struct sockets *sockets,
                              void (*ended)(void *opaque, int exit_code), void *opaque,
                              GError **err)
{
    char *argv[] = {(char *)"sh", (char *)"-c", o->run, NULL};
    g_auto(GStrv) environment = make_environment(o, sockets);
    posix_spawnattr_t attributes;
    struct captive *c;
    pid_t pid;
    int error;

    posix_spawnattr_init(&attributes);
    set_signals(&attributes);
    error = posix_spawn(&pid, "/bin/sh", NULL, &attributes, argv, environment);
    posix_spawnattr_destroy(&attributes);
    if (error) {
        fail_errno(err, error, "option '--run': /bin/sh");
        return NULL;
    }
    c = g_new(struct captive, 1);
    *c = (struct captive){.pid = pid, .ended = ended, .opaque = opaque};
    c->watch = g_child_watch_add(pid, on_exit_of_command, c);
    return c;
}

void captive_end(struct captive *c)
{
    g_source_remove(c->watch);
    kill(c->pid, SIGTERM);
    g_free(c);
}
