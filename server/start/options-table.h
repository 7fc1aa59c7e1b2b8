/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of options: what there is, what each takes, and what it sets. */
#ifndef START_OPTIONS_TABLE_H
#define START_OPTIONS_TABLE_H

#include "server/start/options.h"

struct option_def;
typedef int (*option_setter)(const struct option_def *def, struct options *o, const char *value,
                             GError **err);

struct option_def {
    const char *name;
    char letter;          /* 0: none */
    const char *argument; /* its name in --help; NULL: it takes none */
    option_setter set;    /* NULL: command_line_parse knows it */
    const char *help;     /* NULL: not listed in --help */
    size_t field;         /* offset in struct options, for setters that are told where */
    unsigned min, max;    /* of numbers */
    const char *why;      /* not NULL: it is refused, and this is the reason */
    const char *alias;    /* not NULL: another name for the option of this name; nothing else set */
};

extern const struct option_def options_table[];
extern const unsigned options_table_length;

/* By name, without dashes, through aliases; by letter. NULL: there is none. */
const struct option_def *options_find(const char *name);
const struct option_def *options_find_letter(char letter);

/* Does the option `name` (long, without dashes) take an argument? -1: there is no such option. */
int options_takes_argument(const char *name);
/* Set the option `name` to its argument, NULL where it takes none. 0, or -1 and *err. */
int options_set(struct options *o, const char *name, const char *value, GError **err);

#endif
