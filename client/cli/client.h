/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What all of fleecectl's commands share: the terminal, the text to be printed, the connection to
 * the server. One thread.
 */
#ifndef CLIENT_CLI_CLIENT_H
#define CLIENT_CLI_CLIENT_H

#include "client/base/terminal.h"
#include "client/qmp/inventory.h"
#include "client/qmp/qmp.h"

#include <glib.h>
#include <stdbool.h>

struct client {
    char *control;            /* path of the control socket; NULL: none given */
    bool json;                /* print JSON */
    struct terminal terminal; /* what standard output is */
    GString *out;             /* what client_flush() will print */
    struct qmp *qmp;          /* NULL until client_qmp() */
};

void client_clear(struct client *c);

/* Write what has been gathered in c->out to standard output. 0, or -1 and *err. */
int client_flush(struct client *c, GError **err);

/* The connection to the server, made at the first call; NULL and *err where there is none. The
 * client owns it. */
struct qmp *client_qmp(struct client *c, GError **err);

/* Run one QMP command: its return value, which the caller frees, or NULL and *err. Takes over
 * `arguments`, which may be NULL. */
JsonNode *client_command(struct client *c, const char *name, JsonObject *arguments, GError **err);

/* The same; `object` names in the error what the command was about ("disk vda"). */
JsonNode *client_ask(struct client *c, const char *object, const char *name, JsonObject *arguments,
                     GError **err);

/* The same of a command of which only success matters. Prints nothing, or the empty return value
 * with --json. 0, or -1 and *err. */
int client_act(struct client *c, const char *object, const char *name, JsonObject *arguments,
               GError **err);

/* Ask the server what it looks after. NULL and *err. */
inventory *client_inventory(struct client *c, GError **err);

/* Append `node` to what is printed, as JSON: on one line, or indented. */
void client_print_json(struct client *c, JsonNode *node, bool pretty);

/* Print what a builder holds, as --json does: on one line. */
void client_print_builder(struct client *c, JsonBuilder *builder);

/* Append to `text` that an image is larger than its disk, if it is: whoever starts a guest from it has
 * to know. */
void client_append_image_size(GString *text, uint64_t disk, uint64_t image);

/* Tell a person something at once, on standard error: a sentence, which is cleaned. */
void client_tell(const char *text);

/* Print a line for people: what something is called, and its value, a printf text, which is
 * cleaned. */
void client_print_row(struct client *c, const char *what, const char *format, ...)
    G_GNUC_PRINTF(3, 4);

#endif
