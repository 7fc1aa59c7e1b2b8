/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Arguments of commands: what they must look like, told as tables, checked before a command does
 * anything, with QEMU's texts.
 */
#ifndef CONTROL_ARGS_H
#define CONTROL_ARGS_H

#include <json-glib/json-glib.h>
#include <stdbool.h>
#include <stdint.h>

enum arg_type {
    ARG_STRING,
    ARG_BOOL,
    ARG_INT,       /* int64 */
    ARG_UINT32,    /* uint32 */
    ARG_SIZE,      /* 0 to INT64_MAX */
    ARG_ENUM,      /* a string, one of `values` */
    ARG_STRUCT,    /* an object with the members `of` */
    ARG_LIST,      /* an array of `of`, a single arg without a name */
    ARG_ALTERNATE, /* a string, or an object with the members `of`; `alternate` names it in errors
                    */
    ARG_TAG,       /* a string that chooses what the ARG_BRANCH member beside it looks like */
    ARG_BRANCH,    /* an object with the members that `branch` has for the tag's value */
};

/* One argument. Tables end with a name of NULL. */
struct arg {
    const char *name;
    enum arg_type type;
    bool optional;
    union {
        const char *const *values; /* ends with NULL */
        const struct arg *of;
        /* The members for a tag's value; NULL: there is no such value. A branch comes behind its
         * tag, which is called "type". */
        const struct arg *(*branch)(const char *tag);
    };
    const char *alternate;
};

/* How tables are written: ARG("name", type, .of = ...), ..., ARGS_END */
#define ARG(n, t, ...)                                                                             \
    {                                                                                              \
        .name = (n), .type = (t), ##__VA_ARGS__                                                    \
    }
#define ARG_OPT(n, t, ...)                                                                         \
    {                                                                                              \
        .name = (n), .type = (t), .optional = true, ##__VA_ARGS__                                  \
    }
#define ARGS_END                                                                                   \
    {                                                                                              \
        .name = NULL                                                                               \
    }

/* A table without arguments. */
extern const struct arg no_args[];

/* Check an object against a table: wrong types, values out of range, members that are missing, in
 * the table's order, then members that are unexpected. Nested names are full
 * (`actions[0].data.node`) where QEMU's are. 0, or -1 and *err. */
int args_check(const struct arg *table, JsonObject *args, GError **err);

/* Values of checked arguments. */
const char *arg_string(JsonObject *args, const char *name);        /* NULL: not given */
bool arg_bool(JsonObject *args, const char *name, bool otherwise); /* `otherwise`: not given */
int64_t arg_int(JsonObject *args, const char *name, int64_t otherwise);
JsonObject *arg_object(JsonObject *args, const char *name); /* NULL: not given */
JsonArray *arg_list(JsonObject *args, const char *name);    /* NULL: not given */

#endif
