/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: options, commands, and the help on both. Pure: no I/O. */
#ifndef CLIENT_CLI_OPTIONS_H
#define CLIENT_CLI_OPTIONS_H

#include "client/cli/command.h"

/* What the command line asks for. */
enum request {
    REQUEST_RUN,  /* *command, with *args */
    REQUEST_HELP, /* of *command, or of the family of commands *args[0], or of all (both NULL) */
    REQUEST_VERSION,
};

struct invocation {
    enum request request;
    const struct command *command;
    const char *family; /* "bitmap" of `bitmap --help`; NULL: none */
    char **args;        /* points into argv */
};

/* Parse argv; it is reordered. `options` is filled in (the caller frees its strings). 0, or -1 and
 * *err, which is CLIENT_ERROR_USAGE. */
int options_parse(int argc, char **argv, struct client_options *options,
                  struct invocation *invocation, GError **err);

/* Append the help that `invocation` asks for. */
void options_help(const struct invocation *invocation, GString *out);

#endif
