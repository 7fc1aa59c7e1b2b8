/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The words of a command line are of three kinds: options with their arguments, which may stand
 * anywhere; the words of a disk, which are all others; and, after "--", words of a disk alone.
 * getopt_long(3) tells them apart and hands them over in order, so a disk is whatever comes between
 * its `--disk NAME` and the next one. Without any --disk, the words are those of disk0.
 */
#include "server/start/command-line.h"

#include "common/util/port.h"
#include "server/start/options-file.h"
#include "server/start/options-table.h"

#include <getopt.h>
#include <string.h>
#include <sys/socket.h>

static int read_config(struct options *o, const char *path, options_reader reader, GError **err)
{
    g_autofree char *text = reader(path, err);
    unsigned before = o->disks->len;

    if (!text || options_read_file(o, path, text, err) < 0)
        return -1;
    if (o->disks->len > before)
        options_complete_last_disk(o);
    return 0;
}

/* Say in words why getopt_long answered '?' or ':' to `word`. */
static int explain(int answer, const char *word, GError **err)
{
    g_autofree char *name = NULL;
    bool is_long = g_str_has_prefix(word, "--");

    if (is_long)
        name = g_strndup(word, strcspn(word, "="));
    else
        name = g_strdup_printf("-%c", optopt);
    if (answer == ':')
        return options_usage(err, "option '%s' needs an argument", name);
    if (is_long && options_takes_argument(name + 2) == 0)
        return options_usage(err, "option '%s' takes no argument", name);
    if (is_long) {
        unsigned matches = 0;

        for (unsigned i = 0; i < options_table_length; i++)
            matches += g_str_has_prefix(options_table[i].name, name + 2);
        if (matches > 1)
            return options_usage(err, "option '%s' could mean several options", name);
    }
    return options_usage(err, "there is no option '%s'", name);
}

/* The table as getopt_long wants it; the caller frees both. Long options answer 256 + their index
 * in the table. An alias answers the index of its option, so that an abbreviation which fits
 * several names of one option is unambiguous. */
static void make_getopt_tables(char **letters, struct option **longs)
{
    /* Words that are no options come in order, as 1; a missing argument is told as ':'. */
    GString *s = g_string_new("-:");
    struct option *list = g_new0(struct option, options_table_length + 1);

    for (unsigned i = 0; i < options_table_length; i++) {
        list[i].name = options_table[i].name;
        list[i].has_arg = options_takes_argument(options_table[i].name);
        list[i].val = 256 + (options_find(options_table[i].name) - options_table);
        if (options_table[i].letter) {
            g_string_append_c(s, options_table[i].letter);
            if (options_table[i].argument)
                g_string_append_c(s, ':');
        }
    }
    *letters = g_string_free(s, FALSE);
    *longs = list;
}

static int parse_words(struct options *o, int argc, char **argv, options_reader reader,
                       GError **err)
{
    g_autofree char *letters = NULL;
    g_autofree struct option *longs = NULL;

    make_getopt_tables(&letters, &longs);
    opterr = 0;
    optind = 0; /* glibc: begin anew */
    for (;;) {
        int at = optind > 0 ? optind : 1;
        const struct option_def *def;
        int r, c;

        c = getopt_long(argc, argv, letters, longs, NULL);
        if (c == -1)
            break;
        if (c == 1) {
            r = options_add_word(o, optarg, err);
        } else if (c == '?' || c == ':') {
            r = explain(c, argv[at], err);
        } else {
            def = c >= 256 ? &options_table[c - 256] : options_find_letter(c);
            if (strcmp(def->name, "config") == 0)
                r = read_config(o, optarg, reader, err);
            else
                r = def->set(def, o, optarg, err);
        }
        if (r < 0)
            return -1;
    }
    for (int i = optind; i < argc; i++) {
        if (options_add_word(o, argv[i], err) < 0)
            return -1;
    }
    return 0;
}

/* As in nbdkit, credentials without --tls mean `on`. If credentials of both kinds are given, the
 * keys count, and a client that has one needs no certificate. */
static void settle_tls(struct options *o)
{
    if (o->tls == TLS_UNSAID)
        o->tls = o->tls_psk || o->tls_certificates || o->tls_verify_peer ? TLS_ON : TLS_OFF;
}

/* Before a page goes to swap, the state folder may have to be written. That may need memory, which
 * only swap can free: the machine would hang. */
static int check_state(struct options *o, GError **err)
{
    if (!o->state_dir && o->durability != DURABILITY_UNSAID)
        return options_usage(err, "option '--durability' needs --state");
    if (!o->state_dir && o->on_state_error != STATE_ERROR_UNSAID)
        return options_usage(err, "option '--on-state-error' needs --state");
    if (o->state_dir && o->swap)
        return options_usage(err, "option '--state' cannot be used with --swap: swap must not wait "
                                  "for a file system");
    if (o->durability == DURABILITY_UNSAID)
        o->durability = DURABILITY_POWER;
    if (o->on_state_error == STATE_ERROR_UNSAID)
        o->on_state_error = STATE_KEEP_GUEST;
    return 0;
}

/* Check what follows from several options together, and settle what depends on others. */
static int check(struct options *o, GError **err)
{
    if (options_check_last_disk(o, err) < 0)
        return -1;
    if (o->action == ACTION_DUMP_PLUGIN && o->disks->len == 0)
        return options_usage(err, "option '--dump-plugin' needs a PLUGIN");
    if (o->action != ACTION_SERVE)
        return 0;
    if (o->disks->len == 0)
        return options_usage(err, "no PLUGIN is given");
    if (o->single && (o->unix_path || o->ip_address || o->port || o->vsock || o->run))
        return options_usage(
            err, "option '--single' cannot be used with --unix, --ipaddr, --port, --vsock "
                 "or --run");
    if (o->single && o->print_uri)
        return options_usage(err, "option '--print-uri' cannot be used with --single");
    if (o->run && !options_name_a_socket(o))
        o->unix_path = g_strdup("-");
    if (o->vsock && (o->ip_address || o->family != AF_UNSPEC))
        return options_usage(err, "option '--vsock' cannot be used with --ipaddr, -4 or -6");
    if (o->port && !o->vsock && port_check(o->port, NULL) < 0)
        return options_usage(err,
                             "option '--port': '%s' is neither a number from 0 to 65535 nor the "
                             "name of a service",
                             o->port);
    if (o->selinux_label && !o->unix_path)
        return options_usage(err, "option '--selinux-label' needs --unix");
    if (check_state(o, err) < 0)
        return -1;
    if (o->threads == 0)
        o->threads = OPTIONS_THREADS;
    if (o->run || o->single || o->exit_with_parent)
        o->foreground = true;
    settle_tls(o);
    return 0;
}

struct options *command_line_parse(int argc, char **argv, options_reader reader, GError **err)
{
    struct options *o = options_new();

    if (parse_words(o, argc, argv, reader, err) == 0 && check(o, err) == 0)
        return o;
    options_free(o);
    return NULL;
}

/* ---- what tells people and programs about the table ---- */

void command_line_print_help(FILE *out)
{
    fputs("nbdfleece serves disks over NBD, tracks what changes, and freezes instants.\n"
          "\n"
          "nbdfleece [OPTION]... PLUGIN [KEY=VALUE]...                      one disk, named disk0\n"
          "nbdfleece [OPTION]... --disk NAME PLUGIN [KEY=VALUE]... [--disk ...]...      several\n"
          "nbdfleece [OPTION]... --config FILE                      the same, from a key file\n"
          "\n",
          out);
    for (unsigned i = 0; i < options_table_length; i++) {
        const struct option_def *def = &options_table[i];
        g_autofree char *option = NULL;

        if (!def->help)
            continue;
        option = g_strdup_printf("--%s%s%s", def->name, def->argument ? " " : "",
                                 def->argument ? def->argument : "");
        if (def->letter)
            fprintf(out, "  -%c, ", def->letter);
        else
            fputs("      ", out);
        /* A long one has the text on a line of its own. */
        fprintf(out, strlen(option) > 30 ? "%s\n%38s%s\n" : "%-31s %.0s%s\n", option, "",
                def->help);
    }
    fputs("\nAll is explained in nbdfleece(1).\n", out);
}

void command_line_print_short(FILE *out)
{
    for (unsigned i = 0; i < options_table_length; i++) {
        if (options_table[i].letter && !options_table[i].why)
            fprintf(out, "-%c\n", options_table[i].letter);
    }
}

void command_line_print_long(FILE *out)
{
    for (unsigned i = 0; i < options_table_length; i++) {
        if (!options_find(options_table[i].name)->why)
            fprintf(out, "--%s\n", options_table[i].name);
    }
}
