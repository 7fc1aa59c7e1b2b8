/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdfleece-qmp(7) agrees with the tables of commands, both ways: each command has a section, which
 * begins with the command's summary and has an item for each argument, with its type; and the
 * manual has no section and no argument that the tables do not have.
 */
#include "server/control/control-private.h"

#include <string.h>

static char **read_manual(void)
{
    const char *source = g_getenv("top_srcdir");
    g_autofree char *path = g_build_filename(source ? source : ".", "man/nbdfleece-qmp.pod", NULL);
    g_autofree char *text = NULL;
    GError *error = NULL;

    g_file_get_contents(path, &text, NULL, &error);
    g_assert_no_error(error);
    return g_strsplit(text, "\n", 0);
}

static const char *type_word(const struct arg *a)
{
    switch (a->type) {
    case ARG_BOOL:
        return "boolean";
    case ARG_INT:
    case ARG_UINT32:
    case ARG_SIZE:
        return "integer";
    case ARG_STRUCT:
    case ARG_BRANCH:
        return "object";
    case ARG_LIST:
        return "array";
    case ARG_STRING:
    case ARG_ENUM:
    case ARG_TAG:
    case ARG_ALTERNATE:
        break;
    }
    return "string";
}

/* Does an item such as "C<a>, C<b> (strings, optional)" describe the argument `a`? */
static bool describes(const char *item, const struct arg *a)
{
    g_autofree char *name = g_strdup_printf("C<%s>", a->name);
    g_autofree char *type = g_strdup_printf("(%s", type_word(a));
    const char *bracket = strchr(item, '(');

    if (!strstr(item, name) || !g_str_has_prefix(bracket, type))
        return false;
    bracket += strlen(type);
    if (g_str_has_prefix(bracket, " of string")) /* the manual may name an array's elements */
        bracket += strlen(" of string");
    if (*bracket == 's')
        bracket++;
    return strcmp(bracket, a->optional ? ", optional)" : ")") == 0;
}

static unsigned count_names(const char *item)
{
    unsigned n = 0;

    for (const char *p = item; (p = strstr(p, "C<")); p++)
        n++;
    return n;
}

/* The lines of a section, without the line that begins it. */
static void check_section(const struct qmp_command *c, char **lines)
{
    g_autofree char *begin = g_strjoinv(" ", lines);
    unsigned depth = 0, described = 0, wanted = 0;

    if (!g_str_has_prefix(g_strchug(begin), c->summary))
        g_error("%s: its section does not begin with \"%s\"", c->name, c->summary);
    for (char **line = lines; *line; line++) {
        depth += g_str_has_prefix(*line, "=over");
        depth -= g_str_has_prefix(*line, "=back");
        if (depth == 1 && g_str_has_prefix(*line, "=item C<") && strchr(*line, '('))
            described += count_names(*line);
    }
    for (const struct arg *a = c->args; a->name; a++) {
        bool found = false;

        wanted++;
        for (char **line = lines; *line; line++)
            found |=
                g_str_has_prefix(*line, "=item C<") && strchr(*line, '(') && describes(*line, a);
        if (!found)
            g_error("%s: no item for its argument %s (%s%s)", c->name, a->name, type_word(a),
                    a->optional ? ", optional" : "");
    }
    if (described != wanted)
        g_error("%s: its section has %u arguments, its table %u", c->name, described, wanted);
}

/* A section begins at line `at` and ends before the next heading. */
static void check_command(const struct qmp_command *c, char **manual, unsigned at)
{
    unsigned end = at + 1;
    char *next;

    while (manual[end] && !g_str_has_prefix(manual[end], "=head"))
        end++;
    next = g_steal_pointer(&manual[end]);
    check_section(c, manual + at + 1);
    manual[end] = next;
}

static bool has_section(char **manual, const char *name)
{
    g_autofree char *heading = g_strdup_printf("=head2 %s", name);

    return g_strv_contains((const char *const *)manual, heading);
}

/* Headings with a space or a capital letter are about something else. */
static bool is_command_heading(const char *line)
{
    if (!g_str_has_prefix(line, "=head2 "))
        return false;
    line += strlen("=head2 ");
    return !strchr(line, ' ') && g_ascii_islower(line[0]);
}

static void test_manual(void)
{
    g_auto(GStrv) manual = read_manual();
    unsigned checked = 0, all = 0;

    for (unsigned i = 0; manual[i]; i++) {
        const struct qmp_command *c;

        if (!is_command_heading(manual[i]))
            continue;
        c = qmp_find(control_commands, manual[i] + strlen("=head2 "));
        if (!c)
            g_error("the manual has %s, the server has not", manual[i]);
        check_command(c, manual, i);
        checked++;
    }
    for (const struct qmp_command *const *table = control_commands; *table; table++) {
        for (const struct qmp_command *c = *table; c->name; c++, all++)
            if (!has_section(manual, c->name))
                g_error("the manual does not have %s", c->name);
    }
    g_assert_cmpuint(checked, ==, all);
    g_assert_cmpuint(all, >, 20);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/control/manual", test_manual);
    return g_test_run();
}
