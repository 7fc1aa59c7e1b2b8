/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/client.h"
#include "client/base/error.h"
#include "common/json/write.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

void client_clear(struct client *c)
{
    qmp_close(c->qmp);
    g_string_free(c->out, TRUE);
    g_free(c->control);
}

int client_flush(struct client *c, GError **err)
{
    gsize done = 0;

    while (done < c->out->len) {
        ssize_t n = write(STDOUT_FILENO, c->out->str + done, c->out->len - done);

        if (n >= 0) {
            done += (gsize)n;
        } else if (errno != EINTR) {
            int error = errno;

            g_string_truncate(c->out, 0);
            return client_fail(err, CLIENT_ERROR_FAILED, "cannot write to standard output: %s",
                               g_strerror(error));
        }
    }
    g_string_truncate(c->out, 0);
    return 0;
}

struct qmp *client_qmp(struct client *c, GError **err)
{
    if (c->qmp)
        return c->qmp;
    if (!c->control) {
        client_fail(err, CLIENT_ERROR_USAGE,
                    "which server? give its control socket by -C SOCKET or in $NBDFLEECE_CONTROL");
        return NULL;
    }
    c->qmp = qmp_connect(c->control, err);
    return c->qmp;
}

JsonNode *client_command(struct client *c, const char *name, JsonObject *arguments, GError **err)
{
    struct qmp *qmp = client_qmp(c, err);

    if (!qmp) {
        if (arguments)
            json_object_unref(arguments);
        return NULL;
    }
    return qmp_command(qmp, name, arguments, err);
}

inventory *client_inventory(struct client *c, GError **err)
{
    struct qmp *qmp = client_qmp(c, err);

    return qmp ? inventory_get(qmp, err) : NULL;
}

JsonNode *client_ask(struct client *c, const char *object, const char *name, JsonObject *arguments,
                     GError **err)
{
    GError *error = NULL;
    JsonNode *value = client_command(c, name, arguments, &error);

    if (!value && client_error_exit_code(error) == CLIENT_FAILED)
        g_prefix_error(&error, "%s: ", object);
    if (!value)
        g_propagate_error(err, error);
    return value;
}

int client_act(struct client *c, const char *object, const char *name, JsonObject *arguments,
               GError **err)
{
    g_autoptr(JsonNode) value = client_ask(c, object, name, arguments, err);

    if (!value)
        return -1;
    if (c->json)
        client_print_json(c, value, false);
    return 0;
}

void client_print_json(struct client *c, JsonNode *node, bool pretty)
{
    g_autofree char *text = json_write(node, pretty);

    g_string_append(c->out, text);
    g_string_append_c(c->out, '\n');
}

void client_print_builder(struct client *c, JsonBuilder *builder)
{
    g_autoptr(JsonNode) root = json_builder_get_root(builder);

    client_print_json(c, root, false);
}

void client_print_row(struct client *c, const char *what, const char *format, ...)
{
    g_autofree char *value = NULL;
    g_autofree char *clean = NULL;
    va_list args;

    va_start(args, format);
    value = g_strdup_vprintf(format, args);
    va_end(args);
    clean = text_clean(value, !c->terminal.utf8);
    g_string_append_printf(c->out, "%s%-11s%s  %s\n", c->terminal.bold ? "\033[1m" : "", what,
                           c->terminal.bold ? "\033[0m" : "", clean);
}

void client_append_image_size(GString *text, uint64_t disk, uint64_t image)
{
    if (image != disk)
        g_string_append_printf(text,
                               "note: the disk has %" PRIu64 " bytes, and the qcow2 image %" PRIu64
                               ", because its size is in sectors of 512 bytes\n",
                               disk, image);
}

void client_tell(const char *text)
{
    g_autofree char *clean = text_clean(text, false);

    fprintf(stderr, "fleecectl: %s\n", clean);
}
