/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/prune-policy.h"

static const char *const names[PRUNE_RULES] = {"last", "daily", "weekly", "monthly", "yearly"};

const char *prune_rule_name(enum prune_rule rule)
{
    return names[rule];
}

bool prune_policy_keeps(const struct prune_policy *p)
{
    for (unsigned rule = 0; rule < PRUNE_RULES; rule++) {
        if (p->keep[rule] > 0)
            return true;
    }
    return false;
}

/* A number for the period that `time` is in: the same for all of the period, another one for any
 * other. Weeks are those of ISO 8601, whose year is not always the calendar's. */
static int64_t period(enum prune_rule rule, int64_t time, GTimeZone *zone)
{
    g_autoptr(GDateTime) utc = g_date_time_new_from_unix_utc(time / G_USEC_PER_SEC);
    g_autoptr(GDateTime) local = utc ? g_date_time_to_timezone(utc, zone) : NULL;

    if (!local)
        return time; /* beyond the calendar: a period of its own */
    switch (rule) {
    case PRUNE_DAILY:
        return g_date_time_get_year(local) * INT64_C(1000) + g_date_time_get_day_of_year(local);
    case PRUNE_WEEKLY:
        return g_date_time_get_week_numbering_year(local) * INT64_C(100) +
               g_date_time_get_week_of_year(local);
    case PRUNE_MONTHLY:
        return g_date_time_get_year(local) * INT64_C(100) + g_date_time_get_month(local);
    case PRUNE_YEARLY:
        return g_date_time_get_year(local);
    case PRUNE_LAST:
    case PRUNE_RULES:
        break;
    }
    return time;
}

static void apply(enum prune_rule rule, unsigned keep, const int64_t *times, size_t n,
                  GTimeZone *zone, unsigned *reasons)
{
    int64_t last = 0;
    unsigned kept = 0;

    /* A clock that was wrong for a while makes a period of its own; it hides no other backup. */
    for (size_t i = n; i-- > 0 && kept < keep;) {
        int64_t now = period(rule, times[i], zone);

        if (rule != PRUNE_LAST && kept > 0 && now == last)
            continue;
        reasons[i] |= 1u << rule;
        last = now;
        kept++;
    }
}

void prune_policy_apply(const struct prune_policy *p, const int64_t *times, size_t n,
                        GTimeZone *zone, unsigned *reasons)
{
    for (unsigned rule = 0; rule < PRUNE_RULES; rule++)
        apply(rule, p->keep[rule], times, n, zone, reasons);
}
