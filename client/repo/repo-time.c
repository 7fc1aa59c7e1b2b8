/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/repo-time.h"

#include <string.h>

char *repo_time_text(int64_t time)
{
    g_autoptr(GDateTime) when = NULL;
    g_autofree char *seconds = NULL;

    if (time < 0)
        return NULL;
    when = g_date_time_new_from_unix_utc(time / G_USEC_PER_SEC);
    if (!when)
        return NULL;
    seconds = g_date_time_format(when, "%Y-%m-%dT%H:%M:%S");
    return g_strdup_printf("%s.%06dZ", seconds, (int)(time % G_USEC_PER_SEC));
}

/* The next `digits` digits of *text, as a number, which moves on. -1: there are not so many. */
static int take_digits(const char **text, unsigned digits)
{
    int number = 0;

    for (unsigned i = 0; i < digits; i++) {
        if (!g_ascii_isdigit((*text)[i]))
            return -1;
        number = number * 10 + (*text)[i] - '0';
    }
    *text += digits;
    return number;
}

/* Does *text begin with one of `characters`? Then it moves on. */
static bool take_character(const char **text, const char *characters)
{
    if (**text == '\0' || !strchr(characters, **text))
        return false;
    (*text)++;
    return true;
}

/* What has been read of a time; the unit is the smallest that was named. */
struct moment {
    int year, month, day, hour, minute, second, usec;
    enum { DAY, MINUTE, SECOND, FRACTION } unit;
};

static bool take_fraction(const char **text, struct moment *m)
{
    const char *digits = *text;
    int scale = G_USEC_PER_SEC;

    for (; g_ascii_isdigit(**text); (*text)++) {
        scale /= 10;
        m->usec += (**text - '0') * scale;
    }
    m->unit = FRACTION;
    return *text > digits;
}

static bool take_moment(const char **text, struct moment *m)
{
    *m = (struct moment){.unit = DAY};
    if ((m->year = take_digits(text, 4)) < 0 || !take_character(text, "-") ||
        (m->month = take_digits(text, 2)) < 0 || !take_character(text, "-") ||
        (m->day = take_digits(text, 2)) < 0)
        return false;
    if (!take_character(text, "T "))
        return true;
    m->unit = MINUTE;
    if ((m->hour = take_digits(text, 2)) < 0 || !take_character(text, ":") ||
        (m->minute = take_digits(text, 2)) < 0)
        return false;
    if (!take_character(text, ":"))
        return true;
    m->unit = SECOND;
    if ((m->second = take_digits(text, 2)) < 0)
        return false;
    return take_character(text, ".") ? take_fraction(text, m) : true;
}

static int64_t microseconds(GDateTime *when)
{
    return g_date_time_to_unix(when) * G_USEC_PER_SEC;
}

/* The first microsecond of a moment and the first behind its unit. */
static bool resolve(const struct moment *m, GTimeZone *zone, int64_t *first, int64_t *behind)
{
    g_autoptr(GDateTime) when =
        g_date_time_new(zone, m->year, m->month, m->day, m->hour, m->minute, m->second);
    g_autoptr(GDateTime) next = NULL;

    if (!when || g_date_time_to_unix(when) < 0)
        return false;
    next = m->unit == DAY      ? g_date_time_add_days(when, 1)
           : m->unit == MINUTE ? g_date_time_add_minutes(when, 1)
                               : g_date_time_add_seconds(when, 1);
    if (!next)
        return false;
    *first = microseconds(when) + m->usec;
    *behind = m->unit == FRACTION ? *first + 1 : microseconds(next);
    return true;
}

bool repo_time_parse(const char *text, int64_t *time)
{
    g_autoptr(GTimeZone) utc = g_time_zone_new_utc();
    g_autofree char *again = NULL;
    const char *rest = text;
    struct moment m;
    int64_t first, behind;

    if (!take_moment(&rest, &m) || !resolve(&m, utc, &first, &behind))
        return false;
    again = repo_time_text(first);
    if (g_strcmp0(again, text) != 0)
        return false;
    *time = first;
    return true;
}

bool repo_time_until(const char *text, int64_t *time)
{
    g_autoptr(GTimeZone) zone = NULL;
    const char *rest = text;
    struct moment m;
    int64_t first, behind;

    if (!take_moment(&rest, &m) || (*rest && m.unit == DAY))
        return false;
    if (*rest && !strchr("Z+-", *rest))
        return false;
    zone = *rest ? g_time_zone_new_identifier(rest) : g_time_zone_new_local();
    if (!zone || !resolve(&m, zone, &first, &behind))
        return false;
    *time = behind - 1;
    return true;
}
