/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl: the client of nbdfleece. */
#include "client/base/error.h"
#include "client/cli/client.h"
#include "client/cli/help.h"
#include "client/cli/options.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static bool has_option(const struct command *command, const char *name)
{
    for (const struct option *o = command->options; o && o->name; o++) {
        if (strcmp(o->name, name) == 0)
            return true;
    }
    return false;
}

/* Where certificates do not fit, GnuTLS's words say only that. */
static void add_tls_hint(const struct command *command, GError **err)
{
    const char *hint = has_option(command, "tls-certificates")
                           ? "--tls-certificates DIR"
                           : "tls-certificates=DIR in the URI (nbds://...?tls-certificates=DIR)";
    GError *error = *err;

    if (!g_error_matches(error, CLIENT_ERROR, CLIENT_ERROR_TLS))
        return;
    *err = g_error_new(CLIENT_ERROR, CLIENT_ERROR_TLS,
                       "%s The server is there, but it and this client do not take each other's "
                       "certificates. %s names the folder with this client's.",
                       error->message, hint);
    g_error_free(error);
}

/* The command is done, and nobody must take it for one that has changed nothing. */
static int flush_done(struct client *c, GError **err)
{
    GError *error = NULL;

    if (client_flush(c, &error) == 0)
        return 0;
    client_fail(err, CLIENT_ERROR_PARTLY, "it is done, but %s", error->message);
    g_error_free(error);
    return -1;
}

/* Do what the command line asks for. What a command has gathered is printed also if it fails
 * later. */
static int carry_out(struct client *c, const struct invocation *invocation, GError **err)
{
    g_autoptr(GError) ignored = NULL;

    switch (invocation->request) {
    case REQUEST_HELP:
        help_print(invocation->command, invocation->family, c->out);
        break;
    case REQUEST_VERSION:
        g_string_append(c->out, "fleecectl " PACKAGE_VERSION "\n");
        break;
    case REQUEST_RUN:
        if (invocation->command->run(c, invocation->options, invocation->args, err) < 0) {
            add_tls_hint(invocation->command, err);
            client_flush(c, &ignored);
            return -1;
        }
        if (invocation->command->acts)
            return flush_done(c, err);
        break;
    }
    return client_flush(c, err);
}

static int report(const GError *error)
{
    /* A server's text must not act on the terminal. */
    g_autofree char *message = text_clean(error->message, false);

    fprintf(stderr, "fleecectl: %s\n", message);
    return client_error_exit_code(error);
}

/* A chain of backups has a file for each, and several disks are restored at once. */
static void raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

int main(int argc, char **argv)
{
    struct client c = {.out = g_string_new(NULL)};
    struct invocation invocation;
    g_autoptr(GError) error = NULL;
    int code = CLIENT_DONE;

    setlocale(LC_CTYPE, "");
    raise_descriptors();
    terminal_init(&c.terminal);
    if (options_parse(argc, argv, &invocation, &error) == 0) {
        c.control = g_strdup(invocation.control ? invocation.control : getenv("NBDFLEECE_CONTROL"));
        c.json = invocation.json;
        carry_out(&c, &invocation, &error);
    }
    if (error)
        code = report(error);
    invocation_clear(&invocation);
    client_clear(&c);
    return code;
}
