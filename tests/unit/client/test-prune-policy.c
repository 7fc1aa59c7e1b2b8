/* SPDX-License-Identifier: BSD-3-Clause */
/* Which backups stay. */
#include "client/repo/prune-policy.h"

#define MOST 40

/* The instants of a case, as a person writes them, in Berlin's time; the oldest first. */
static size_t parse(const char *text, GTimeZone *zone, int64_t times[MOST])
{
    g_auto(GStrv) words = g_strsplit(text, ",", -1);
    size_t n = 0;

    for (char **w = words; *w && **w != '\0'; w++) {
        g_autoptr(GDateTime) t = g_date_time_new_from_iso8601(*w, zone);

        g_assert_nonnull(t);
        g_assert_cmpuint(n, <, MOST);
        times[n++] = g_date_time_to_unix(t) * G_USEC_PER_SEC;
    }
    return n;
}

/* A character for each backup: '.' where it goes, else the first letters of what keeps it. */
static char *kept(const struct prune_policy *p, const char *text, const char *zone_name)
{
    g_autoptr(GTimeZone) zone = g_time_zone_new_identifier(zone_name);
    unsigned reasons[MOST] = {0};
    GString *out = g_string_new(NULL);
    int64_t times[MOST];
    size_t n = parse(text, zone, times);

    prune_policy_apply(p, times, n, zone, reasons);
    for (size_t i = 0; i < n; i++) {
        g_string_append(out, i > 0 ? " " : "");
        for (unsigned rule = 0; rule < PRUNE_RULES; rule++) {
            if (reasons[i] & 1u << rule)
                g_string_append_c(out, prune_rule_name(rule)[0]);
        }
        if (reasons[i] == 0)
            g_string_append_c(out, '.');
    }
    return g_string_free(out, FALSE);
}

#define DAY(d, h) "2026-11-" #d "T" #h ":00:00"

static const struct {
    const char *name, *times, *kept;
    struct prune_policy policy;
} cases[] = {
    {"nothing there", "", "", {{1, 1, 1, 1, 1}}},
    {"one stays by every rule", DAY(29, 03), "ldwmy", {{1, 1, 1, 1, 1}}},
    {"the last two", DAY(27, 03) "," DAY(28, 03) "," DAY(29, 03), ". l l", {{2}}},
    {"more than there are", DAY(28, 03) "," DAY(29, 03), "l l", {{9}}},
    {"no rule", DAY(28, 03) "," DAY(29, 03), ". .", {{0}}},
    {"the newest of each day",
     DAY(27, 03) "," DAY(27, 23) "," DAY(28, 01) "," DAY(28, 02) "," DAY(29, 03),
     ". d . d d",
     {{0, 3}}},
    {"days without a backup do not count",
     DAY(01, 03) "," DAY(10, 03) "," DAY(20, 03) "," DAY(29, 03),
     ". d d d",
     {{0, 3}}},
    {"days are local: 23:30 and 00:30 are two, though one in UTC",
     "2026-11-28T23:30:00,2026-11-29T00:30:00",
     "d d",
     {{0, 5}}},
    {"00:30 and 23:30 are one day, though two in UTC",
     "2026-11-29T00:30:00,2026-11-29T23:30:00",
     ". d",
     {{0, 5}}},
    {"a week ends on Sunday",
     DAY(21, 03) "," DAY(22, 03) "," DAY(23, 03) "," DAY(29, 03) "," DAY(30, 03),
     ". w . w w",
     {{0, 0, 3}}},
    {"a week over the new year is one",
     "2026-12-27T03:00:00,2026-12-28T03:00:00,2026-12-31T03:00:00,2027-01-01T03:00:00,"
     "2027-01-03T03:00:00,2027-01-04T03:00:00",
     "w . . . w w",
     {{0, 0, 9}}},
    {"months, of two years",
     "2025-11-30T03:00:00,2026-10-31T03:00:00,2026-11-01T03:00:00,2026-11-30T03:00:00",
     "m m . m",
     {{0, 0, 0, 9}}},
    {"years",
     "2024-12-31T23:30:00,2025-01-01T00:30:00,2026-11-30T03:00:00",
     "y y y",
     {{0, 0, 0, 0, 3}}},
    {"each rule counts by itself",
     "2024-06-01T03:00:00,2025-06-01T03:00:00," DAY(10, 03) "," DAY(27, 03) "," DAY(28, 03) "," DAY(
         29, 03) "," DAY(29, 12),
     "y y . . d l ldy",
     {{2, 2, 0, 0, 3}}},
    {"the hour that comes twice is one day",
     "2026-10-25T02:30:00+02:00,2026-10-25T02:30:00+01:00",
     ". d",
     {{0, 2}}},
    {"a clock that was wrong once hides nothing",
     DAY(26, 03) "," DAY(27, 03) ",1970-01-01T12:00:00," DAY(28, 03) "," DAY(29, 03),
     "d d d d d",
     {{0, 5}}},
    {"a clock that went back a little keeps the newest made",
     DAY(29, 04) "," DAY(29, 03),
     ". ld",
     {{1, 1}}},
};

static void test_cases(void)
{
    for (size_t i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *got = kept(&cases[i].policy, cases[i].times, "Europe/Berlin");

        g_test_message("%s", cases[i].name);
        g_assert_cmpstr(got, ==, cases[i].kept);
    }
}

/* The days of another zone. */
static void test_zone(void)
{
    static const struct prune_policy daily = {{0, 5}};
    g_autofree char *apart =
        kept(&daily, "2026-11-29T01:30:00+01:00,2026-11-29T08:00:00+01:00", "America/New_York");
    g_autofree char *one =
        kept(&daily, "2026-11-29T01:30:00+01:00,2026-11-29T08:00:00+01:00", "Europe/Berlin");

    g_assert_cmpstr(apart, ==, "d d");
    g_assert_cmpstr(one, ==, ". d");
}

/* What a rule keeps does not depend on when prune ran before: pruning after each backup keeps the same as
 * pruning once at the end. */
static void test_often(void)
{
    static const struct prune_policy policy = {{2, 3, 2, 2, 1}};
    g_autoptr(GTimeZone) zone = g_time_zone_new_utc();
    int64_t once[400], often[400];
    unsigned reasons[400] = {0};
    size_t n_often = 0;

    for (size_t i = 0; i < G_N_ELEMENTS(once); i++) {
        size_t left = 0;

        once[i] = (INT64_C(1700000000) + (int64_t)i * 39600) * G_USEC_PER_SEC;
        often[n_often++] = once[i];
        memset(reasons, 0, sizeof reasons);
        prune_policy_apply(&policy, often, n_often, zone, reasons);
        for (size_t k = 0; k < n_often; k++) {
            if (reasons[k])
                often[left++] = often[k];
        }
        n_often = left;
    }
    memset(reasons, 0, sizeof reasons);
    prune_policy_apply(&policy, once, G_N_ELEMENTS(once), zone, reasons);
    for (size_t i = 0, k = 0; i < G_N_ELEMENTS(once); i++) {
        if (!reasons[i])
            continue;
        g_assert_cmpuint(k, <, n_often);
        g_assert_cmpint(often[k++], ==, once[i]);
    }
}

static void test_keeps(void)
{
    struct prune_policy none = {{0}}, yearly = {{0, 0, 0, 0, 1}};

    g_assert_false(prune_policy_keeps(&none));
    g_assert_true(prune_policy_keeps(&yearly));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/client/prune/policy", test_cases);
    g_test_add_func("/client/prune/zone", test_zone);
    g_test_add_func("/client/prune/often", test_often);
    g_test_add_func("/client/prune/keeps", test_keeps);
    return g_test_run();
}
