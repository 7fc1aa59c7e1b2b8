/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/size.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

/* As g_ascii_isspace has it: without the vertical tab, whatever the process's locale is. */
static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of one unit of `suffix`; 0: no such suffix. */
static int64_t unit_of(char suffix)
{
    static const char powers[] = "bkmgtpe";
    char c = suffix >= 'A' && suffix <= 'Z' ? (char)(suffix - 'A' + 'a') : suffix;

    if (c == 's')
        return 512;
    for (int i = 0; powers[i]; i++) {
        if (c == powers[i])
            return INT64_C(1) << (10 * i);
    }
    return 0;
}

int size_parse(const char *text, int64_t *size)
{
    const char *p = text;
    bool negative = false, too_big = false;
    int64_t value = 0, unit = 1;

    while (is_space(*p))
        p++;
    if (*p == '+' || *p == '-')
        negative = *p++ == '-';
    if (!is_digit(*p))
        return -EINVAL;
    for (; is_digit(*p); p++) {
        if (__builtin_mul_overflow(value, 10, &value) ||
            __builtin_add_overflow(value, *p - '0', &value))
            too_big = true;
    }
    if (*p) {
        unit = unit_of(*p);
        if (!unit || p[1])
            return -EINVAL;
    }
    /* The range is looked at last, so that nonsense is told as nonsense, however long it is. "-0"
     * is zero. */
    if (too_big || (negative && value > 0) || __builtin_mul_overflow(value, unit, &value))
        return -ERANGE;
    *size = value;
    return 0;
}

const char *size_format_digits(uint64_t bytes, unsigned digits, char buf[16])
{
    static const char units[] = "KMGTPE";
    static const unsigned powers[] = {1, 10, 100};
    int u = -1;
    uint64_t whole = bytes, rest = 0;

    while (whole >= 1024 && units[u + 1]) {
        rest = whole % 1024;
        whole /= 1024;
        u++;
    }
    if (u < 0) {
        snprintf(buf, 16, "%" PRIu64, bytes);
        return buf;
    }
    /* Digits are rounded down: what is shown is never more than there is. */
    unsigned fraction = (unsigned)(rest * powers[digits] / 1024);
    if (fraction)
        snprintf(buf, 16, "%u.%0*u %ciB", (unsigned)whole, (int)digits, fraction, units[u]);
    else
        snprintf(buf, 16, "%u %ciB", (unsigned)whole, units[u]);
    return buf;
}

const char *size_format(uint64_t bytes, char buf[16])
{
    return size_format_digits(bytes, 1, buf);
}
