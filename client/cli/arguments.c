/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/arguments.h"
#include "client/base/error.h"
#include "common/base/size.h"

void arguments_add_text(JsonObject *arguments, const char *name, const char *text)
{
    if (text)
        json_object_set_string_member(arguments, name, text);
}

int arguments_add_size(JsonObject *arguments, const char *name, const char *text, GError **err)
{
    int64_t size;

    if (!text)
        return 0;
    if (size_parse(text, &size) < 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: not a size", name, text);
    json_object_set_int_member(arguments, name, size);
    return 0;
}

int arguments_add_seconds(JsonObject *arguments, const char *name, const char *text, GError **err)
{
    guint64 seconds;

    if (!text)
        return 0;
    if (!g_ascii_string_to_unsigned(text, 10, 0, G_MAXINT64, &seconds, NULL))
        return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: not a number of seconds", name, text);
    json_object_set_int_member(arguments, name, (gint64)seconds);
    return 0;
}
