/* SPDX-License-Identifier: BSD-3-Clause */
/* nbdkit_parse_*(3). Each reads the whole string, or complains and leaves the result untouched. */
#include "common/base/nbdkit-abi.h"

#include "common/util/delay.h"
#include "common/base/size.h"

#include <errno.h>
#include <glib.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Complain where strtoll or strtoull has failed, as `end` and `in_range` (by errno) tell. */
static int judge(const char *what, const char *text, const char *end, bool in_range)
{
    if (end == text) {
        nbdkit_error("%s: %s where a number is expected", what,
                     *text ? "no digits" : "an empty string");
        return -1;
    }
    if (*end) {
        nbdkit_error("%s: could not parse number: \"%s\": trailing garbage", what, text);
        return -1;
    }
    if (!in_range) {
        nbdkit_error("%s: could not parse number: \"%s\": out of range", what, text);
        return -1;
    }
    return 0;
}

static int parse_signed(const char *what, const char *text, long long min, long long max,
                        long long *value)
{
    char *end;

    errno = 0;
    *value = strtoll(text, &end, 0);
    return judge(what, text, end, errno == 0 && *value >= min && *value <= max);
}

static int parse_natural(const char *what, const char *text, unsigned long long max,
                         unsigned long long *value)
{
    const char *p = text;
    char *end;

    /* strtoull makes its largest number of "-1". */
    while (g_ascii_isspace(*p))
        p++;
    if (*p == '-') {
        nbdkit_error("%s: negative numbers are not allowed", what);
        return -1;
    }
    errno = 0;
    *value = strtoull(text, &end, 0);
    return judge(what, text, end, errno == 0 && *value <= max);
}

#define DEFINE_SIGNED(name, type, min, max)                                                        \
    int nbdkit_parse_##name(const char *what, const char *text, type *result)                      \
    {                                                                                              \
        long long value;                                                                           \
        if (parse_signed(what, text, min, max, &value) < 0)                                        \
            return -1;                                                                             \
        if (result)                                                                                \
            *result = (type)value;                                                                 \
        return 0;                                                                                  \
    }

#define DEFINE_NATURAL(name, type, max)                                                            \
    int nbdkit_parse_##name(const char *what, const char *text, type *result)                      \
    {                                                                                              \
        unsigned long long value;                                                                  \
        if (parse_natural(what, text, max, &value) < 0)                                            \
            return -1;                                                                             \
        if (result)                                                                                \
            *result = (type)value;                                                                 \
        return 0;                                                                                  \
    }

DEFINE_SIGNED(int, int, INT_MIN, INT_MAX)
DEFINE_SIGNED(int8_t, int8_t, INT8_MIN, INT8_MAX)
DEFINE_SIGNED(int16_t, int16_t, INT16_MIN, INT16_MAX)
DEFINE_SIGNED(int32_t, int32_t, INT32_MIN, INT32_MAX)
DEFINE_SIGNED(int64_t, int64_t, INT64_MIN, INT64_MAX)
DEFINE_NATURAL(unsigned, unsigned, UINT_MAX)
DEFINE_NATURAL(uint8_t, uint8_t, UINT8_MAX)
DEFINE_NATURAL(uint16_t, uint16_t, UINT16_MAX)
DEFINE_NATURAL(uint32_t, uint32_t, UINT32_MAX)
DEFINE_NATURAL(uint64_t, uint64_t, UINT64_MAX)

int64_t nbdkit_parse_size(const char *text)
{
    int64_t size;

    switch (size_parse(text, &size)) {
    case 0:
        return size;
    case -ERANGE:
        nbdkit_error("could not parse size: \"%s\": negative or too large", text);
        return -1;
    default:
        nbdkit_error("could not parse size: \"%s\": not a number with an optional suffix of "
                     "b k m g t p e s",
                     text);
        return -1;
    }
}

int nbdkit_parse_bool(const char *text)
{
    static const char *const words[][2] = {
        {"0", "1"}, {"false", "true"}, {"f", "t"}, {"no", "yes"}, {"n", "y"}, {"off", "on"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(words); i++) {
        for (int value = 0; value < 2; value++) {
            if (!g_ascii_strcasecmp(text, words[i][value]))
                return value;
        }
    }
    nbdkit_error("could not parse boolean: \"%s\"", text);
    return -1;
}

int nbdkit_parse_delay(const char *what, const char *text, unsigned *sec, unsigned *nsec)
{
    uint64_t ns;

    if (delay_parse(text, &ns)) {
        *sec = (unsigned)(ns / 1000000000);
        *nsec = (unsigned)(ns % 1000000000);
        return 0;
    }
    nbdkit_error("%s: could not parse delay: \"%s\"", what, text);
    return -1;
}

/* A number, N%, N:M or N/M. */
int nbdkit_parse_probability(const char *what, const char *text, double *result)
{
    const char *end;
    double value, of;

    if (decimal_parse(text, &value, &end)) {
        bool good = !*end;

        if (end[0] == '%' && !end[1]) {
            value /= 100;
            good = true;
        } else if ((*end == ':' || *end == '/') && decimal_parse(end + 1, &of, &end) && !*end) {
            if (of > 0) {
                value /= of;
                good = isfinite(value);
            } else if (value == 0) {
                good = true; /* 0:0, nbdkit's word for never */
            }
        }
        if (good) {
            *result = value;
            return 0;
        }
    }
    nbdkit_error("%s: could not parse probability: \"%s\"", what, text);
    return -1;
}
