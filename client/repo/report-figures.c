/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/report-figures.h"
#include "client/base/html.h"
#include "common/base/size.h"

#include <inttypes.h>
#include <string.h>

#define DAY (INT64_C(86400) * G_USEC_PER_SEC)

static char *format_local(int64_t time, const char *format)
{
    g_autoptr(GDateTime) when = g_date_time_new_from_unix_local(time / G_USEC_PER_SEC);

    return when ? g_date_time_format(when, format) : g_strdup("?");
}

char *report_time_text(int64_t time)
{
    return format_local(time, "%Y-%m-%d %H:%M:%S");
}

char *report_tick_text(int64_t time, int64_t span)
{
    return format_local(time, span >= 6 * DAY    ? "%Y-%m-%d"
                              : span >= DAY / 24 ? "%m-%d %H:%M"
                                                 : "%H:%M:%S");
}

char *report_size_text(uint64_t bytes)
{
    char text[16];

    return g_strdup(size_format_digits(bytes, 1, text));
}

char *report_row_text(const struct report_row *row)
{
    const struct repo_disk *d = row->disk;
    g_autofree char *time = report_time_text(row->member->time),
                    *bytes = report_size_text(d->bytes), *name = html_escape(d->disk);
    GString *text = g_string_new(NULL);

    g_string_append_printf(text, "%s, member %" PRId64 "\n%s\n%s", name, row->member->id, time,
                           repo_level_name(d->level));
    if (d->parent >= 0)
        g_string_append_printf(text, " over member %" PRId64, d->parent);
    g_string_append_printf(text, "\nfile: %s\n%s", bytes, row->status);
    return g_string_free(text, FALSE);
}

char *report_verified_text(const struct report_row *row)
{
    g_autofree char *time = NULL;

    if (!row->verified)
        return g_strdup("not yet");
    time = report_time_text(row->verified->time);
    return g_strdup_printf("%s%s", time, row->verified->deep ? ", all read" : "");
}

char *report_verify_sentence(const report *p)
{
    g_autofree char *time = NULL;

    if (p->files == 0)
        return g_strdup("There are no backups yet.");
    if (p->verified == 0)
        return g_strdup("It has never been verified.");
    time = report_time_text(p->checked);
    if (p->verified < p->files)
        return g_strdup_printf("fleecectl verify has looked at %u of %u files, last at %s.",
                               p->verified, p->files, time);
    if (p->deep < p->files)
        return g_strdup_printf("fleecectl verify has looked at all files and read %u of %u, last "
                               "at %s.",
                               p->deep, p->files, time);
    return g_strdup_printf("fleecectl verify has read all files, last at %s.", time);
}
