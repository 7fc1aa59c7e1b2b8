/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl: the client of nbdfleece. */
#include "client/base/error.h"
#include "client/cli/client.h"
#include "client/cli/help.h"
#include "client/cli/options.h"

#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

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
            client_flush(c, &ignored);
            return -1;
        }
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
