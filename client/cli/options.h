/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line: options and commands. Pure: no I/O. */
#ifndef CLIENT_CLI_OPTIONS_H
#define CLIENT_CLI_OPTIONS_H

#include "client/cli/command.h"

/* What the command line asks for. */
enum request {
    REQUEST_RUN,  /* *command, with *options and *args */
    REQUEST_HELP, /* of *command, or of *family, or of all (both NULL) */
    REQUEST_VERSION,
};

struct invocation {
    enum request request;
    const struct command *command;
    const char *family; /* "bitmap" of `bitmap --help`; NULL: none */
    char **args;        /* points into argv */
    void *options;      /* the command's struct of options, or NULL */

    /* What every command takes. */
    char *control; /* -C; NULL: not given */
    gboolean json, help, version;
};

/* The options that every command takes; their fields are in struct invocation. */
extern const struct option common_options[];

/* Parse argv; it is reordered, and used until the invocation is cleared. 0, or -1 and *err, which
 * is CLIENT_ERROR_USAGE. Either way the caller clears the invocation. */
int options_parse(int argc, char **argv, struct invocation *invocation, GError **err);
void invocation_clear(struct invocation *i);

#endif
