/* SPDX-License-Identifier: BSD-3-Clause */
/* fleecectl qmp: any QMP command. */
#include "client/base/error.h"
#include "client/cli/command.h"
#include "client/qmp/qmp-args.h"
#include "common/json/read.h"

#include <string.h>

static JsonNode *raw(struct client *c, char **args, GError **err)
{
    g_autoptr(GError) error = NULL;
    struct qmp *qmp;

    if (args[1]) {
        client_fail(err, CLIENT_ERROR_USAGE, "qmp: unexpected argument '%s' after JSON", args[1]);
        return NULL;
    }
    /* With half an object we would wait for a reply, and the server for the rest. */
    if (json_check(args[0], strlen(args[0]), &qmp_limits, &error) < 0) {
        client_fail(err, CLIENT_ERROR_USAGE, "qmp: %s", error->message);
        return NULL;
    }
    qmp = client_qmp(c, err);
    return qmp ? qmp_request(qmp, args[0], err) : NULL;
}

/* Try once; `texts` as in qmp-args.h. */
static JsonNode *try_named(struct client *c, char **args, GHashTable *texts, GError **err)
{
    JsonObject *arguments = NULL;

    if (args[1]) {
        arguments = qmp_args_parse(args + 1, texts, err);
        if (!arguments)
            return NULL;
    }
    return client_command(c, args[0], arguments, err);
}

/* Try, and again each time that the server names another argument that must be a string. */
static JsonNode *named(struct client *c, char **args, GError **err)
{
    g_autoptr(GHashTable) texts = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    const char *hint = NULL;
    GError *error = NULL;
    JsonNode *value;

    while (!(value = try_named(c, args, texts, &error)) &&
           client_error_exit_code(error) == CLIENT_FAILED &&
           qmp_args_learn(args + 1, error->message, texts, &hint))
        g_clear_error(&error);
    if (!value && hint) {
        g_propagate_error(err,
                          g_error_new(error->domain, error->code, "%s (%s)", error->message, hint));
        g_error_free(error);
    } else if (!value) {
        g_propagate_error(err, error);
    }
    return value;
}

static int run_qmp(struct client *c, const void *options, char **args, GError **err)
{
    bool is_raw = g_strchug(args[0])[0] == '{';
    GError *error = NULL;
    g_autoptr(JsonNode) value = is_raw ? raw(c, args, &error) : named(c, args, &error);

    if (!value) {
        if (!is_raw && client_error_exit_code(error) == CLIENT_FAILED)
            g_prefix_error(&error, "%s: ", args[0]);
        g_propagate_error(err, error);
        return -1;
    }
    client_print_json(c, value, !c->json);
    return 0;
}

const struct command cmd_qmp = {
    .name = "qmp",
    .synopsis = "JSON | COMMAND [KEY=VALUE]...",
    .summary = "run a QMP command and print what it returns",
    .help = "JSON is sent as it is. A VALUE that is a JSON number, boolean, string in double\n"
            "quotes, array or object is taken as that, any other as a string, and all as a\n"
            "string where the command wants one; dots in KEY make objects:\n"
            "addr.type=inet addr.data.host=localhost addr.data.port=10809\n",
    .min_args = 1,
    .max_args = -1,
    .acts = true,
    .run = run_qmp,
};
