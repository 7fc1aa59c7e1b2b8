/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/port.h"

#include "common/util/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool has_letter(const char *text)
{
    while (*text && !g_ascii_isalpha(*text))
        text++;
    return *text != '\0';
}

int port_check(const char *text, GError **err)
{
    const char *digits = text;

    if (has_letter(text))
        return 0;
    if (text[0] == '\0' || strspn(text, "0123456789") != strlen(text))
        return fail(err, "can't convert to a number: %s", text);
    digits += strspn(text, "0");
    if (strlen(digits) > 5 || g_ascii_strtoull(digits, NULL, 10) > UINT16_MAX)
        return fail(err, "port %s out of range", text);
    return 0;
}
