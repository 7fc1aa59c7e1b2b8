/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a command of fleecectl is. A command is defined in one place, its file cmd-*.c: name,
 * options, help, and the function that does it. commands.c lists them.
 */
#ifndef CLIENT_CLI_COMMAND_H
#define CLIENT_CLI_COMMAND_H

#include "client/cli/client.h"

#include <stddef.h>

enum option_kind {
    OPTION_FLAG, /* takes no value; its field is a gboolean */
    OPTION_TEXT, /* takes a value, the last one counts; its field is a char *, NULL if not given */
    OPTION_OPTIONAL, /* --NAME or --NAME=VALUE; its field is a char *, NULL if not given, "" if it is
                        given without a value */
    OPTION_LIST,     /* may be given several times; its field is a char **, NULL if not given */
};

/* An option. Options of different commands that have the same name, or the same letter, must have
 * both in common, and the kind. */
struct option {
    const char *name; /* without the dashes; NULL ends a table */
    char letter;      /* 0: none */
    enum option_kind kind;
    const char *value; /* what help calls the value */
    size_t field;      /* offset of the field in the command's struct of options */
    const char *help;
};

struct command {
    const char *name;       /* "status", "bitmap add" */
    const char *synopsis;   /* what follows the name: arguments and options; "" if nothing does */
    const char *summary;    /* one line */
    const char *help;       /* more of it, wrapped; may be NULL */
    int min_args, max_args; /* max -1: any number */
    bool acts;              /* it changes something, and prints what */
    /* Options beside those that every command takes (options.h); NULL: none. */
    const struct option *options;
    size_t options_size; /* of the struct that their fields are in */
    /* options: that struct, or NULL. args: what the command line has beside options, up to a NULL.
     * Gathers its output in c->out. 0, or -1 and *err. */
    int (*run)(struct client *c, const void *options, char **args, GError **err);
};

extern const struct command cmd_status, cmd_disks;
extern const struct command cmd_bitmap_list, cmd_bitmap_add, cmd_bitmap_remove, cmd_bitmap_clear,
    cmd_bitmap_enable, cmd_bitmap_disable, cmd_bitmap_populate, cmd_bitmap_merge;
extern const struct command cmd_checkpoint_list, cmd_checkpoint_create, cmd_checkpoint_delete,
    cmd_checkpoint_show;
extern const struct command cmd_view_list, cmd_view_create, cmd_view_delete;
extern const struct command cmd_session_list, cmd_session_begin, cmd_session_renew,
    cmd_session_commit, cmd_session_abort;
extern const struct command cmd_map, cmd_pull;
extern const struct command cmd_list, cmd_verify, cmd_backup, cmd_restore, cmd_prune, cmd_diff,
    cmd_mount, cmd_audit, cmd_report;
extern const struct command cmd_state_list, cmd_state_check, cmd_state_export, cmd_state_adopt,
    cmd_state_forget;
extern const struct command cmd_image_create, cmd_image_info, cmd_image_check, cmd_image_resize;
extern const struct command cmd_tls_init, cmd_qmp, cmd_watch;

#endif
