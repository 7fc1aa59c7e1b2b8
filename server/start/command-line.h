/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From words to struct options, with no effect on anything else, and what tells people and programs
 * about the options that there are.
 */
#ifndef START_COMMAND_LINE_H
#define START_COMMAND_LINE_H

#include "server/start/options.h"

#include <stdio.h>

/* How --config gets its file: the whole text, or NULL and *err. The caller frees it with g_free. */
typedef char *(*options_reader)(const char *path, GError **err);

/* Parse a command line; argv[0] is not looked at. NULL and *err (OPTIONS_ERROR, or what `reader`
 * gave). `tls` of the result is not TLS_UNSAID. One thread at a time, because getopt has global
 * state. */
struct options *command_line_parse(int argc, char **argv, options_reader reader, GError **err);

/* What --help, --short-options and --long-options print. */
void command_line_print_help(FILE *out);
void command_line_print_short(FILE *out);
void command_line_print_long(FILE *out);

#endif
