/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/help.h"
#include "client/cli/commands.h"
#include "client/cli/options.h"

#include <stdbool.h>
#include <string.h>

#define HELP_COLUMNS 80u

static void append_options(GString *out, const struct option *options)
{
    for (const struct option *o = options; o->name; o++) {
        bool optional = o->kind == OPTION_OPTIONAL && o->value;
        g_autofree char *name = g_strconcat("--", o->name,
                                            optional   ? "[="
                                            : o->value ? " "
                                                       : "",
                                            o->value ? o->value : "", optional ? "]" : "", NULL);

        if (o->letter != 0)
            g_string_append_printf(out, "  -%c, %-20s %s\n", o->letter, name, o->help);
        else
            g_string_append_printf(out, "      %-20s %s\n", name, o->help);
    }
}

static void append_commands(GString *out)
{
    for (const struct command *const *c = commands; *c; c++)
        g_string_append_printf(out, "  %-17s  %s\n", (*c)->name, (*c)->summary);
}

static void append_planned(GString *out)
{
    gsize begin; /* of the line */

    g_string_append(out, "\nNot there yet:\n ");
    begin = out->len - 1;
    for (const char *const *name = planned_commands; *name; name++) {
        const char *end = name[1] ? "," : "\n";

        if (out->len - begin + strlen(*name) > HELP_COLUMNS - 2) {
            g_string_append(out, "\n ");
            begin = out->len - 1;
        }
        g_string_append_printf(out, " %s%s", *name, end);
    }
}

static void append_family(GString *out, const char *family)
{
    for (const struct command *const *c = commands; *c; c++) {
        if (command_in_family(*c, family))
            g_string_append_printf(out, "  %s %s\n      %s\n", (*c)->name, (*c)->synopsis,
                                   (*c)->summary);
    }
}

static void help_command(GString *out, const struct command *c)
{
    g_string_append_printf(out, "Usage: fleecectl [-C SOCKET] [--json] %s%s%s\n\n%s%s\n", c->name,
                           *c->synopsis != '\0' ? " " : "", c->synopsis,
                           (const char[]){g_ascii_toupper(c->summary[0]), '\0'}, c->summary + 1);
    if (c->help)
        g_string_append_printf(out, "\n%s", c->help);
    if (c->options) {
        g_string_append(out, "\nOptions:\n");
        append_options(out, c->options);
    }
}

static void help_all(GString *out, const char *family)
{
    g_string_append_printf(out, "Usage: fleecectl [-C SOCKET] [--json] %s ...\n\n",
                           family ? family : "COMMAND");
    if (!family)
        g_string_append(
            out, "Control and inspect a running nbdfleece(1); make and restore backups.\n\n");
    g_string_append(out, "Commands:\n");
    if (!family) {
        append_commands(out);
        append_planned(out);
    } else {
        append_family(out, family);
    }
    g_string_append(out, "\nOptions:\n");
    append_options(out, common_options);
    g_string_append(out, "\nfleecectl COMMAND --help tells more of one command.\n"
                         "Exit codes: 0 done, 1 failed, 2 usage, 3 done in part, 4 no server.\n");
}

void help_print(const struct command *command, const char *family, GString *out)
{
    if (command)
        help_command(out, command);
    else
        help_all(out, family);
}
