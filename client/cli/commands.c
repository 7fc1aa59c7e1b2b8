/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/commands.h"

#include <string.h>

const struct command *const commands[] = {
    &cmd_status,
    &cmd_disks,
    &cmd_bitmap_list,
    &cmd_bitmap_add,
    &cmd_bitmap_remove,
    &cmd_bitmap_clear,
    &cmd_bitmap_enable,
    &cmd_bitmap_disable,
    &cmd_bitmap_populate,
    &cmd_bitmap_merge,
    &cmd_checkpoint_list,
    &cmd_checkpoint_create,
    &cmd_checkpoint_delete,
    &cmd_checkpoint_show,
    &cmd_view_list,
    &cmd_view_create,
    &cmd_view_delete,
    &cmd_session_list,
    &cmd_session_begin,
    &cmd_session_renew,
    &cmd_session_commit,
    &cmd_session_abort,
    &cmd_map,
    &cmd_pull,
    &cmd_backup,
    &cmd_list,
    &cmd_verify,
    &cmd_restore,
    &cmd_prune,
    &cmd_diff,
    &cmd_mount,
    &cmd_audit,
    &cmd_report,
    &cmd_state_list,
    &cmd_state_check,
    &cmd_state_export,
    &cmd_state_adopt,
    &cmd_state_forget,
    &cmd_image_create,
    &cmd_image_info,
    &cmd_image_check,
    &cmd_image_resize,
    &cmd_tls_init,
    &cmd_qmp,
    &cmd_watch,
    NULL,
};

const char *const planned_commands[] = {
    "bitmap export", "bitmap import", "job", "push", "serve", "apply", NULL,
};

static size_t family_length(const struct command *c)
{
    return strcspn(c->name, " ");
}

bool command_in_family(const struct command *c, const char *family)
{
    size_t length = family_length(c);

    return strlen(family) == length && memcmp(c->name, family, length) == 0;
}

const char *command_action(const struct command *c)
{
    const char *space = strchr(c->name, ' ');

    return space ? space + 1 : NULL;
}

char *command_names(const char *family)
{
    GString *list = g_string_new(NULL);
    g_autofree char *previous = NULL;

    for (const struct command *const *c = commands; *c; c++) {
        const char *comma = list->len > 0 ? ", " : "";

        if (family && command_in_family(*c, family)) {
            g_string_append_printf(list, "%s%s", comma, command_action(*c));
        } else if (!family && (!previous || !command_in_family(*c, previous))) {
            g_free(previous);
            previous = g_strndup((*c)->name, family_length(*c));
            g_string_append_printf(list, "%s%s", comma, previous);
        }
    }
    return g_string_free(list, FALSE);
}
