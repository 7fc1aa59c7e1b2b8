/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The list of all commands, and their names. A command's family is the first word of its name
 * ("bitmap" of "bitmap add"), the second one is its action.
 */
#ifndef CLIENT_CLI_COMMANDS_H
#define CLIENT_CLI_COMMANDS_H

#include "client/cli/command.h"

/* In the order of --help; families stand together. Ends with NULL. */
extern const struct command *const commands[];
/* Names of commands that are planned: "backup", "bitmap export". Ends with NULL. */
extern const char *const planned_commands[];

bool command_in_family(const struct command *c, const char *family);
/* "add" of "bitmap add"; NULL if the name has one word. */
const char *command_action(const struct command *c);

/* All families, or the actions in one: "list, add, remove". The caller g_frees it. */
char *command_names(const char *family);

#endif
