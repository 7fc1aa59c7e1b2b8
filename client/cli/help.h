/* SPDX-License-Identifier: BSD-3-Clause */
/* What --help prints. Pure: no I/O. */
#ifndef CLIENT_CLI_HELP_H
#define CLIENT_CLI_HELP_H

#include "client/cli/command.h"

/* Append the help on a command, or on a family of commands, or on all (both NULL). */
void help_print(const struct command *command, const char *family, GString *out);

#endif
