/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of fleecectl's commands: what --help and the command line's parser know of them. */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

#include "client/cli/client.h"

/* Options that a command may take; --json, -C and --help go with all. */
enum {
    OPTION_GRANULARITY = 1 << 0,
    OPTION_DISABLED = 1 << 1,
    OPTION_CONTEXT = 1 << 2,
    OPTION_BITMAP = 1 << 3,
    OPTION_SUMMARY = 1 << 4,
    OPTION_HTML = 1 << 5,
    OPTION_ASCII = 1 << 6,
    OPTION_HOST = 1 << 7,
    OPTION_CLIENT = 1 << 8,
};

struct command {
    const char *name;       /* "status", "bitmap add" */
    const char *synopsis;   /* what follows the name: arguments and options; "" if nothing does */
    const char *summary;    /* one line */
    const char *help;       /* more of it, wrapped; may be NULL */
    int min_args, max_args; /* max -1: any number */
    unsigned options;       /* OPTION_* */
    /* args: what the command line has beside options, up to a NULL. Gathers its output in c->out.
     * 0, or -1 and *err. */
    int (*run)(struct client *c, char **args, GError **err);
};

/* The table; it ends with a row without name. */
extern const struct command commands[];
/* Names, as in the table, of commands that will be: "backup", "bitmap export". Ends with NULL. */
extern const char *const planned_commands[];

/* The functions that the table names. */
int cmd_status(struct client *c, char **args, GError **err);
int cmd_disks(struct client *c, char **args, GError **err);
int cmd_bitmap_list(struct client *c, char **args, GError **err);
int cmd_bitmap_add(struct client *c, char **args, GError **err);
int cmd_bitmap_remove(struct client *c, char **args, GError **err);
int cmd_bitmap_clear(struct client *c, char **args, GError **err);
int cmd_bitmap_enable(struct client *c, char **args, GError **err);
int cmd_bitmap_disable(struct client *c, char **args, GError **err);
int cmd_bitmap_merge(struct client *c, char **args, GError **err);
int cmd_view_list(struct client *c, char **args, GError **err);
int cmd_view_create(struct client *c, char **args, GError **err);
int cmd_view_delete(struct client *c, char **args, GError **err);
int cmd_tls_init(struct client *c, char **args, GError **err);
int cmd_map(struct client *c, char **args, GError **err);
int cmd_qmp(struct client *c, char **args, GError **err);
int cmd_watch(struct client *c, char **args, GError **err);

#endif
