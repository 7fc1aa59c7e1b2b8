/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/qmp/qmp-args.h"
#include "client/base/error.h"
#include "client/qmp/qmp.h"
#include "common/json/read.h"
#include "common/json/value.h"

#include <string.h>

/* Keys nested deeper than this are not arguments of any command. */
#define KEY_DEPTH_MAX 32

/* Is `text` a number by JSON's grammar? (json-glib takes more, like 010.) */
static bool is_number(const char *text)
{
    return g_regex_match_simple("\\A-?(0|[1-9][0-9]*)(\\.[0-9]+)?([eE][-+]?[0-9]+)?\\z", text, 0,
                                0);
}

/* Does it look like a JSON value, so that it must be one? */
static bool is_json(const char *text)
{
    return strchr("{[\"", text[0])
               ? text[0] != '\0'
               : is_number(text) || strcmp(text, "true") == 0 || strcmp(text, "false") == 0;
}

static JsonNode *parse_value(const char *key, const char *text, GHashTable *texts, GError **err)
{
    g_autoptr(GError) error = NULL;
    JsonNode *node;

    if (!is_json(text) || (texts && g_hash_table_contains(texts, key)))
        return json_node_init_string(json_node_alloc(), text);
    node = json_read(text, strlen(text), &qmp_limits, &error);
    /* What is too large for a number can still be a name. */
    if (!node && is_number(text))
        return json_node_init_string(json_node_alloc(), text);
    if (!node)
        client_fail(err, CLIENT_ERROR_USAGE, "%s: %s", key, error->message);
    return node;
}

/* The object that is member `name` of `parent`, made if there is none; NULL if the member is
 * something else. */
static JsonObject *enter(JsonObject *parent, const char *name)
{
    if (!json_object_has_member(parent, name))
        json_object_set_object_member(parent, name, json_object_new());
    return json_member_object(parent, name);
}

static int add(JsonObject *arguments, const char *key, const char *text, GHashTable *texts,
               GError **err)
{
    g_auto(GStrv) parts = g_strsplit(key, ".", KEY_DEPTH_MAX);
    JsonObject *object = arguments;
    JsonNode *value;
    char **part = parts;

    for (; part[1] && object; part++)
        object = **part != '\0' ? enter(object, *part) : NULL;
    if (!object || **part == '\0' || strchr(*part, '.'))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "'%s' cannot be a key here: a part is empty, or is a value already",
                           key);
    if (json_object_has_member(object, *part))
        return client_fail(err, CLIENT_ERROR_USAGE, "key '%s' is given twice", key);
    value = parse_value(key, text, texts, err);
    if (!value)
        return -1;
    json_object_set_member(object, *part, value);
    return 0;
}

JsonObject *qmp_args_parse(char *const *words, GHashTable *texts, GError **err)
{
    g_autoptr(JsonObject) arguments = json_object_new();

    for (; *words; words++) {
        const char *equals = strchr(*words, '=');
        g_autofree char *key = NULL;

        if (!equals || equals == *words) {
            client_fail(err, CLIENT_ERROR_USAGE, "'%s' is not KEY=VALUE", *words);
            return NULL;
        }
        key = g_strndup(*words, (gsize)(equals - *words));
        if (!g_utf8_validate(*words, -1, NULL)) {
            client_fail(err, CLIENT_ERROR_USAGE, "%s: not UTF-8", key);
            return NULL;
        }
        if (add(arguments, key, equals + 1, texts, err) < 0)
            return NULL;
    }
    return g_steal_pointer(&arguments);
}

/* The full name of the argument that the error says must be a string, or NULL. The caller g_frees
 * it. */
static char *name_in(const char *error)
{
    static const char before[] = "Invalid parameter type for '", after[] = "', expected: string";

    if (!g_str_has_prefix(error, before) || !g_str_has_suffix(error, after))
        return NULL;
    return g_strndup(error + strlen(before), strlen(error) - strlen(before) - strlen(after));
}

bool qmp_args_learn(char *const *words, const char *error, GHashTable *texts, const char **hint)
{
    g_autofree char *name = name_in(error);

    *hint = NULL;
    for (; name && *words; words++) {
        gsize length = strcspn(*words, "=");

        if (strncmp(name, *words, length) != 0)
            continue;
        if (name[length] == '\0')
            return g_hash_table_add(texts, g_steal_pointer(&name));
        if (strchr(".[", name[length]) && strchr("[{", (*words)[length + 1]))
            *hint = "in JSON a string has double quotes";
    }
    return false;
}
