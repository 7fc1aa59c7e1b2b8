/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/cli/option-values.h"
#include "client/base/error.h"
#include "common/base/size.h"

#include <string.h>

#define ZSTD_MOST 19u
#define ZLIB_MOST 9u

int option_number(const char *name, const char *text, unsigned least, unsigned most,
                  unsigned *value, GError **err)
{
    guint64 number;

    if (!text)
        return 0;
    if (!g_ascii_string_to_unsigned(text, 10, least, most, &number, NULL))
        return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: not a number from %u to %u", name,
                           text, least, most);
    *value = (unsigned)number;
    return 0;
}

int option_rate(const char *name, const char *text, uint64_t *rate, GError **err)
{
    int64_t size;

    if (!text)
        return 0;
    if (size_parse(text, &size) < 0 || size == 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: not a size above 0", name, text);
    *rate = (uint64_t)size;
    return 0;
}

int option_format(const char *name, const char *text, enum destination_format *format, GError **err)
{
    if (!text)
        return 0;
    if (strcmp(text, "raw") != 0 && strcmp(text, "qcow2") != 0)
        return client_fail(err, CLIENT_ERROR_USAGE, "--%s %s: there is raw and qcow2", name, text);
    *format = strcmp(text, "raw") == 0 ? DESTINATION_RAW : DESTINATION_QCOW2;
    return 0;
}

int option_compress(const char *text, bool *compress, enum q2_compression *compression, int *level,
                    GError **err)
{
    const char *number = text ? strchr(text, ':') : NULL;
    unsigned value = 0;
    bool zlib;

    if (!text)
        return 0;
    zlib = strcmp(text, "zlib") == 0 || g_str_has_prefix(text, "zlib:");
    if (number && (zlib || g_str_has_prefix(text, "zstd:")))
        number++;
    else
        number = *text == '\0' || zlib || strcmp(text, "zstd") == 0 ? NULL : text;
    if (option_number("compress", number, 1, zlib ? ZLIB_MOST : ZSTD_MOST, &value, NULL) < 0)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "--compress=%s: there is zstd, zstd:1 to zstd:%u, zlib, and zlib:1 to "
                           "zlib:%u",
                           text, ZSTD_MOST, ZLIB_MOST);
    *compress = true;
    *compression = zlib ? Q2_ZLIB : Q2_ZSTD;
    *level = (int)value;
    return 0;
}

int option_check_target(const char *command, const struct destination_options *to, GError **err)
{
    bool qcow2 = destination_choose_format(to) == DESTINATION_QCOW2;

    if (qcow2 && destination_is_uri(to->target))
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "%s: an export takes the disk itself: --format raw", command);
    if (to->compress && (!qcow2 || strcmp(to->target, "-") == 0))
        return client_fail(err, CLIENT_ERROR_USAGE, "%s: --compress is for a qcow2 image in a file",
                           command);
    return 0;
}
