/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options may stand anywhere. They are read in one pass over all that exist; whether the command
 * takes them is looked up afterwards, so that the error can say so. The pass, that check and the
 * help are made from one table of options; which of its rows a command takes, the table of commands
 * says. Commands that will be are looked for before: what options they take, nobody knows yet.
 */
#include "client/cli/options.h"
#include "client/base/error.h"

#include <stddef.h>
#include <string.h>

/* Every command takes it. */
#define OPTION_ALWAYS (1u << 31)
/* These may be given several times: their fields are char **. */
#define OPTIONS_MANY (OPTION_HOST | OPTION_CLIENT)

static const struct option {
    unsigned bit;
    char letter;
    const char *name, *value; /* value NULL: it takes none */
    size_t field;             /* offset of its char *, char ** or gboolean in client_options */
    const char *help;
} option_table[] = {
#define FIELD(name) offsetof(struct client_options, name)
    {OPTION_ALWAYS, 'C', "control", "SOCKET", FIELD(control),
     "control socket of the server (or $NBDFLEECE_CONTROL)"},
    {OPTION_ALWAYS, 0, "json", NULL, FIELD(json), "print JSON, sizes in bytes"},
    {OPTION_ALWAYS, 'h', "help", NULL, FIELD(help), "show help, also of one COMMAND"},
    {OPTION_ALWAYS, 'V', "version", NULL, FIELD(version), "show the version"},
    {OPTION_GRANULARITY, 'g', "granularity", "N", FIELD(granularity),
     "bytes that one bit stands for: a power of two from 512 to 2G"},
    {OPTION_DISABLED, 0, "disabled", NULL, FIELD(disabled), "it does not record until enabled"},
    {OPTION_CONTEXT, 0, "context", "NAME", FIELD(context),
     "the NBD meta context to show (default: base:allocation)"},
    {OPTION_BITMAP, 'b', "bitmap", "NAME", FIELD(bitmap),
     "the dirty bitmap to show: context qemu:dirty-bitmap:NAME"},
    {OPTION_SUMMARY, 's', "summary", NULL, FIELD(summary), "no picture, only the totals"},
    {OPTION_HTML, 0, "html", "FILE", FIELD(html), "write the picture as a page for browsers"},
    {OPTION_ASCII, 0, "ascii", NULL, FIELD(ascii), "draw with ASCII characters alone"},
    {OPTION_HOST, 0, "host", "NAME|IP", FIELD(hosts),
     "a name or address of the server (default: this machine's)"},
    {OPTION_CLIENT, 0, "client", "NAME", FIELD(clients), "a client (default: client)"},
#undef FIELD
};

/* Let GLib take all options out of argv. */
static int take_options(int *argc, char ***argv, struct client_options *options, GError **err)
{
    GOptionEntry entries[G_N_ELEMENTS(option_table) + 1] = {{0}};
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    for (unsigned i = 0; i < G_N_ELEMENTS(option_table); i++) {
        const struct option *o = &option_table[i];

        entries[i].long_name = o->name;
        entries[i].short_name = o->letter;
        /* FILENAME: bytes as they are, in whatever locale. */
        entries[i].arg = o->bit & OPTIONS_MANY ? G_OPTION_ARG_FILENAME_ARRAY
                         : o->value            ? G_OPTION_ARG_FILENAME
                                               : G_OPTION_ARG_NONE;
        entries[i].arg_data = (char *)options + o->field;
    }
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error))
        return client_fail(err, CLIENT_ERROR_USAGE, "%s", error->message);
    return 0;
}

/* ---- commands that will be ---- */

/* Does the option `arg`, as it stands on the command line, have its value in the next word? */
static bool takes_next(const char *arg)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(option_table); i++) {
        const struct option *o = &option_table[i];

        if (!o->value)
            continue;
        if (g_str_has_prefix(arg, "--") ? strcmp(arg + 2, o->name) == 0
                                        : strchr(arg, o->letter) == arg + strlen(arg) - 1)
            return true;
    }
    return false;
}

/* The next word from *arg on that is no option, and *arg behind it; NULL: none. */
static const char *next_word(char ***arg)
{
    for (; **arg; ++*arg) {
        if ((**arg)[0] != '-')
            return *(*arg)++;
        if (takes_next(**arg) && (*arg)[1])
            ++*arg;
    }
    return NULL;
}

static int check_planned(char **args, GError **err)
{
    const char *first = next_word(&args);
    const char *second = first ? next_word(&args) : NULL;
    g_autofree char *both = g_strconcat(first, " ", second, NULL);

    for (const char *const *name = planned_commands; first && *name; name++) {
        if (strcmp(*name, first) == 0 || g_strcmp0(*name, both) == 0)
            return client_fail(err, CLIENT_ERROR_USAGE,
                               "%s is not there yet: it is planned, and not in this version",
                               *name);
    }
    return 0;
}

/* GLib leaves the "--" that ends the options in place where words follow that look like some. */
static void drop_separator(char **args)
{
    while (*args && strcmp(*args, "--") != 0)
        args++;
    for (; *args; args++)
        args[0] = args[1];
}

/* Names go into JSON, which is UTF-8. */
static int check_encoding(char *const *args, GError **err)
{
    for (; *args; args++) {
        if (!g_utf8_validate(*args, -1, NULL))
            return client_fail(err, CLIENT_ERROR_USAGE, "argument '%s' is not UTF-8", *args);
    }
    return 0;
}

static bool is_set(const struct option *o, const struct client_options *options)
{
    const char *field = (const char *)options + o->field;

    return o->value ? *(char *const *)field != NULL : *(const gboolean *)field;
}

static int check_options(const struct command *command, const struct client_options *options,
                         GError **err)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(option_table); i++) {
        const struct option *o = &option_table[i];

        if (!(o->bit & (command->options | OPTION_ALWAYS)) && is_set(o, options))
            return client_fail(err, CLIENT_ERROR_USAGE, "%s takes no --%s", command->name, o->name);
    }
    return 0;
}

/* ---- finding the command ---- */

/* A command's family is the first word of its name: "bitmap" of "bitmap add". */
static size_t family_length(const struct command *c)
{
    return strcspn(c->name, " ");
}

static bool in_family(const struct command *c, const char *word)
{
    size_t length = family_length(c);

    return strlen(word) == length && memcmp(c->name, word, length) == 0;
}

/* The second word of its name, or NULL. */
static const char *action(const struct command *c)
{
    const char *space = strchr(c->name, ' ');

    return space ? space + 1 : NULL;
}

/* All families, or, with a family, the actions in it: "list, add, remove". */
static char *list_names(const char *family)
{
    GString *list = g_string_new(NULL);
    g_autofree char *previous = NULL;

    for (const struct command *c = commands; c->name; c++) {
        const char *comma = list->len > 0 ? ", " : "";

        if (family && in_family(c, family)) {
            g_string_append_printf(list, "%s%s", comma, action(c));
        } else if (!family && (!previous || !in_family(c, previous))) {
            g_free(previous);
            previous = g_strndup(c->name, family_length(c));
            g_string_append_printf(list, "%s%s", comma, previous);
        }
    }
    return g_string_free(list, FALSE);
}

/* The command that `args` begin with, in words[0..1]: *command (NULL where a family needs one more
 * word) and *family. 0, or -1 and *err. */
static int find_command(char **args, const struct command **command, const char **family,
                        GError **err)
{
    g_autofree char *names = NULL;

    *command = NULL;
    *family = NULL;
    for (const struct command *c = commands; c->name; c++) {
        if (in_family(c, args[0])) {
            *family = args[0];
            if (!action(c) || g_strcmp0(action(c), args[1]) == 0) {
                *command = c;
                return 0;
            }
        }
    }
    if (*family && !args[1])
        return 0;
    names = list_names(*family);
    if (*family)
        return client_fail(err, CLIENT_ERROR_USAGE, "unknown command '%s %s': there is %s", args[0],
                           args[1], names);
    return client_fail(err, CLIENT_ERROR_USAGE, "unknown command '%s': there is %s", args[0],
                       names);
}

static int check_arguments(const struct command *command, char **args, GError **err)
{
    int n = (int)g_strv_length(args);

    if (n < command->min_args)
        return client_fail(err, CLIENT_ERROR_USAGE, "%s: too few arguments: it takes %s",
                           command->name, command->synopsis);
    if (command->max_args >= 0 && n > command->max_args)
        return client_fail(err, CLIENT_ERROR_USAGE, "%s: unexpected argument '%s'", command->name,
                           args[command->max_args]);
    return 0;
}

int options_parse(int argc, char **argv, struct client_options *options,
                  struct invocation *invocation, GError **err)
{
    char **args = argv + 1;
    g_autofree char *names = NULL;

    memset(invocation, 0, sizeof *invocation);
    if (check_planned(args, err) < 0 || take_options(&argc, &argv, options, err) < 0)
        return -1;
    drop_separator(args);
    invocation->args = args;
    if (options->version) {
        invocation->request = REQUEST_VERSION;
        return 0;
    }
    invocation->request = options->help ? REQUEST_HELP : REQUEST_RUN;
    if (check_encoding(args, err) < 0)
        return -1;
    if (!args[0])
        return options->help
                   ? 0
                   : client_fail(err, CLIENT_ERROR_USAGE, "no command: see fleecectl --help");
    if (find_command(args, &invocation->command, &invocation->family, err) < 0)
        return -1;
    if (options->help)
        return 0;
    if (!invocation->command) {
        names = list_names(invocation->family);
        return client_fail(err, CLIENT_ERROR_USAGE, "%s what? there is %s", args[0], names);
    }
    invocation->args += action(invocation->command) ? 2 : 1;
    if (check_options(invocation->command, options, err) < 0)
        return -1;
    return check_arguments(invocation->command, invocation->args, err);
}

/* ---- help ---- */

#define HELP_COLUMNS 80u

static void append_options(GString *out, unsigned set)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(option_table); i++) {
        const struct option *o = &option_table[i];
        g_autofree char *name = NULL;

        if (!(o->bit & set))
            continue;
        name = g_strconcat("--", o->name, o->value ? " " : "", o->value ? o->value : "", NULL);
        if (o->letter != 0)
            g_string_append_printf(out, "  -%c, %-20s %s\n", o->letter, name, o->help);
        else
            g_string_append_printf(out, "      %-20s %s\n", name, o->help);
    }
}

static void append_commands(GString *out)
{
    for (const struct command *c = commands; c->name; c++)
        g_string_append_printf(out, "  %-16s %s\n", c->name, c->summary);
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
    for (const struct command *c = commands; c->name; c++) {
        if (in_family(c, family))
            g_string_append_printf(out, "  %s %s\n      %s\n", c->name, c->synopsis, c->summary);
    }
}

static void help_command(GString *out, const struct command *c)
{
    g_string_append_printf(out, "Usage: fleecectl [-C SOCKET] [--json] %s%s%s\n\n%s%s\n", c->name,
                           *c->synopsis != '\0' ? " " : "", c->synopsis,
                           (const char[]){g_ascii_toupper(c->summary[0]), '\0'}, c->summary + 1);
    if (c->help)
        g_string_append_printf(out, "\n%s", c->help);
    if (c->options != 0) {
        g_string_append(out, "\nOptions:\n");
        append_options(out, c->options);
    }
}

static void help_all(GString *out, const char *family)
{
    g_string_append_printf(out, "Usage: fleecectl [-C SOCKET] [--json] %s ...\n\n",
                           family ? family : "COMMAND");
    if (!family)
        g_string_append(out, "Control and inspect a running nbdfleece(1).\n\n");
    g_string_append(out, "Commands:\n");
    if (!family) {
        append_commands(out);
        append_planned(out);
    } else {
        append_family(out, family);
    }
    g_string_append(out, "\nOptions:\n");
    append_options(out, OPTION_ALWAYS);
    g_string_append(out, "\nfleecectl COMMAND --help tells more of one command.\n"
                         "Exit codes: 0 done, 1 failed, 2 usage, 4 no server.\n");
}

void options_help(const struct invocation *invocation, GString *out)
{
    if (invocation->command)
        help_command(out, invocation->command);
    else
        help_all(out, invocation->family);
}
