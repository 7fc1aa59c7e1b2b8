/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options may stand anywhere, also before the command that takes them. So GLib reads them in one
 * pass over the options of all commands. Then the command is found, and each option that was given
 * is put into the command's struct; the error about one that it does not take can say so. Planned
 * commands are looked for first, because nobody knows yet which options they will take.
 */
#include "client/cli/options.h"
#include "client/base/error.h"
#include "client/cli/commands.h"

#include <string.h>

const struct option common_options[] = {
    {"control", 'C', OPTION_TEXT, "SOCKET", offsetof(struct invocation, control),
     "control socket of the server (or $NBDFLEECE_CONTROL)"},
    {"json", 0, OPTION_FLAG, NULL, offsetof(struct invocation, json), "print JSON, sizes in bytes"},
    {"help", 'h', OPTION_FLAG, NULL, offsetof(struct invocation, help),
     "show help, also of one COMMAND"},
    {"version", 'V', OPTION_FLAG, NULL, offsetof(struct invocation, version), "show the version"},
    {NULL},
};

/* ---- what is given ---- */

/* An option, and what the command line says of it. */
struct given {
    const struct option *option; /* of that name, the first one */
    gboolean flag;
    char *text;
    char **list;
};

static void given_clear(void *data)
{
    struct given *g = data;

    g_free(g->text);
    g_strfreev(g->list);
}

static const struct option *find_option(const struct option *options, const char *name)
{
    for (const struct option *o = options; o && o->name; o++) {
        if (strcmp(o->name, name) == 0)
            return o;
    }
    return NULL;
}

static void add_options(GArray *given, const struct option *options)
{
    for (const struct option *o = options; o && o->name; o++) {
        struct given g = {.option = o};
        bool there = false;

        for (guint i = 0; i < given->len && !there; i++)
            there = strcmp(g_array_index(given, struct given, i).option->name, o->name) == 0;
        if (!there)
            g_array_append_val(given, g);
    }
}

/* All options that there are, none of them given: an array of struct given. */
static GArray *all_options(void)
{
    GArray *given = g_array_new(FALSE, FALSE, sizeof(struct given));

    g_array_set_clear_func(given, given_clear);
    add_options(given, common_options);
    for (const struct command *const *c = commands; *c; c++)
        add_options(given, (*c)->options);
    return given;
}

static GOptionEntry option_entry(struct given *g)
{
    GOptionEntry e = {.long_name = g->option->name, .short_name = g->option->letter};

    switch (g->option->kind) {
    case OPTION_FLAG:
        e.arg = G_OPTION_ARG_NONE;
        e.arg_data = &g->flag;
        break;
    case OPTION_TEXT: /* FILENAME: bytes as they are, in whatever locale */
    case OPTION_OPTIONAL:
        e.arg = G_OPTION_ARG_FILENAME;
        e.arg_data = &g->text;
        break;
    case OPTION_LIST:
        e.arg = G_OPTION_ARG_FILENAME_ARRAY;
        e.arg_data = &g->list;
        break;
    }
    return e;
}

/* Does the option `arg`, as it stands on the command line, have its value in the next word? */
static bool takes_next(const GArray *given, const char *arg)
{
    for (guint i = 0; i < given->len; i++) {
        const struct option *o = g_array_index(given, struct given, i).option;

        if (!o->value || o->kind == OPTION_OPTIONAL)
            continue;
        if (g_str_has_prefix(arg, "--") ? strcmp(arg + 2, o->name) == 0
                                        : strchr(arg, o->letter) == arg + strlen(arg) - 1)
            return true;
    }
    return false;
}

/* GLib would take the word behind an option for its value, also where the value may be missing. So
 * "--compress" alone becomes "--compress=". */
static void spell_out_optional(const GArray *given, char **args)
{
    for (; *args && strcmp(*args, "--") != 0; args++) {
        for (guint i = 0; i < given->len; i++) {
            const struct option *o = g_array_index(given, struct given, i).option;

            if (o->kind == OPTION_OPTIONAL && g_str_has_prefix(*args, "--") &&
                strcmp(*args + 2, o->name) == 0) {
                g_autofree char *spelt = g_strconcat(*args, "=", NULL);

                *args = (char *)g_intern_string(spelt);
                break;
            }
        }
        if ((*args)[0] == '-' && takes_next(given, *args) && args[1])
            args++;
    }
}

/* Let GLib take all options out of argv. */
static int take_options(int *argc, char ***argv, GArray *given, GError **err)
{
    g_autofree GOptionEntry *entries = g_new0(GOptionEntry, given->len + 1);
    g_autoptr(GOptionContext) context = g_option_context_new(NULL);
    g_autoptr(GError) error = NULL;

    for (guint i = 0; i < given->len; i++)
        entries[i] = option_entry(&g_array_index(given, struct given, i));
    g_option_context_set_help_enabled(context, FALSE);
    g_option_context_add_main_entries(context, entries, NULL);
    if (!g_option_context_parse(context, argc, argv, &error))
        return client_fail(err, CLIENT_ERROR_USAGE, "%s", error->message);
    return 0;
}

static bool is_given(const struct given *g)
{
    return g->flag || g->text || g->list;
}

/* Move what is given into the field that `option` has in `options`. */
static void store(struct given *g, const struct option *option, void *options)
{
    void *field = (char *)options + option->field;

    switch (option->kind) {
    case OPTION_FLAG:
        *(gboolean *)field = g->flag;
        g->flag = FALSE;
        break;
    case OPTION_TEXT:
    case OPTION_OPTIONAL:
        *(char **)field = g_steal_pointer(&g->text);
        break;
    case OPTION_LIST:
        *(char ***)field = g_steal_pointer(&g->list);
        break;
    }
}

static void store_common(GArray *given, struct invocation *invocation)
{
    for (guint i = 0; i < given->len; i++) {
        struct given *g = &g_array_index(given, struct given, i);

        if (is_given(g) && find_option(common_options, g->option->name))
            store(g, g->option, invocation);
    }
}

/* Store what is left. */
static int store_options(GArray *given, const struct command *command, void *options, GError **err)
{
    for (guint i = 0; i < given->len; i++) {
        struct given *g = &g_array_index(given, struct given, i);
        const struct option *o = find_option(command->options, g->option->name);

        if (!is_given(g))
            continue;
        if (!o)
            return client_fail(err, CLIENT_ERROR_USAGE, "%s takes no --%s", command->name,
                               g->option->name);
        store(g, o, options);
    }
    return 0;
}

/* ---- planned commands ---- */

/* The next word from *arg on that is no option; *arg is moved behind it. NULL: there is none. */
static const char *next_word(const GArray *given, char ***arg)
{
    for (; **arg; ++*arg) {
        if ((**arg)[0] != '-')
            return *(*arg)++;
        if (takes_next(given, **arg) && (*arg)[1])
            ++*arg;
    }
    return NULL;
}

static int check_planned(const GArray *given, char **args, GError **err)
{
    const char *first = next_word(given, &args);
    const char *second = first ? next_word(given, &args) : NULL;
    g_autofree char *both = g_strconcat(first, " ", second, NULL);

    for (const char *const *name = planned_commands; first && *name; name++) {
        if (strcmp(*name, first) == 0 || g_strcmp0(*name, both) == 0)
            return client_fail(err, CLIENT_ERROR_USAGE,
                               "%s is not there yet: it is planned, and not in this version",
                               *name);
    }
    return 0;
}

/* ---- arguments ---- */

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

/* The command that `args` begin with, in args[0..1]: *command (NULL where a family needs one more
 * word) and *family. 0, or -1 and *err. */
static int find_command(char **args, const struct command **command, const char **family,
                        GError **err)
{
    g_autofree char *names = NULL;

    *command = NULL;
    *family = NULL;
    for (const struct command *const *c = commands; *c; c++) {
        if (!command_in_family(*c, args[0]))
            continue;
        *family = args[0];
        if (!command_action(*c) || g_strcmp0(command_action(*c), args[1]) == 0) {
            *command = *c;
            return 0;
        }
    }
    if (*family && !args[1])
        return 0;
    names = command_names(*family);
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

/* Find the command, and what it is to do. */
static int parse_command(char **args, GArray *given, struct invocation *i, GError **err)
{
    g_autofree char *names = NULL;

    if (find_command(args, &i->command, &i->family, err) < 0)
        return -1;
    if (i->help)
        return 0;
    if (!i->command) {
        names = command_names(i->family);
        return client_fail(err, CLIENT_ERROR_USAGE, "%s what? there is %s", args[0], names);
    }
    i->args = args + (command_action(i->command) ? 2 : 1);
    i->options = g_malloc0(i->command->options_size);
    if (store_options(given, i->command, i->options, err) < 0)
        return -1;
    return check_arguments(i->command, i->args, err);
}

int options_parse(int argc, char **argv, struct invocation *invocation, GError **err)
{
    g_autoptr(GArray) given = all_options();
    char **args = argv + 1;

    memset(invocation, 0, sizeof *invocation);
    spell_out_optional(given, args);
    if (check_planned(given, args, err) < 0 || take_options(&argc, &argv, given, err) < 0)
        return -1;
    drop_separator(args);
    store_common(given, invocation);
    invocation->args = args;
    if (invocation->version) {
        invocation->request = REQUEST_VERSION;
        return 0;
    }
    invocation->request = invocation->help ? REQUEST_HELP : REQUEST_RUN;
    if (check_encoding(args, err) < 0)
        return -1;
    if (args[0])
        return parse_command(args, given, invocation, err);
    if (invocation->help)
        return 0;
    return client_fail(err, CLIENT_ERROR_USAGE, "no command: see fleecectl --help");
}

/* Free the fields of a command's struct of options. */
static void free_fields(const struct option *options, void *fields)
{
    for (const struct option *o = options; o && o->name; o++) {
        void *field = (char *)fields + o->field;

        if (o->kind == OPTION_TEXT || o->kind == OPTION_OPTIONAL)
            g_free(*(char **)field);
        else if (o->kind == OPTION_LIST)
            g_strfreev(*(char ***)field);
    }
}

void invocation_clear(struct invocation *i)
{
    free_fields(common_options, i);
    if (i->options)
        free_fields(i->command->options, i->options);
    g_free(i->options);
    memset(i, 0, sizeof *i);
}
