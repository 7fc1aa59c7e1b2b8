/* SPDX-License-Identifier: BSD-3-Clause */
/* Which member a person means: by its ID, or by a time. */
#include "client/base/error.h"
#include "client/repo/repo-time.h"
#include "client/repo/repository.h"

#include <inttypes.h>
#include <string.h>

static bool has_disk(const struct repo_member *m, const char *disk)
{
    return !disk || repo_member_disk(m, disk);
}

/* " with disk vda", or nothing. The caller frees it. */
static char *of_disk(const char *disk)
{
    return disk ? g_strdup_printf(" with disk %s", disk) : g_strdup("");
}

/* What there is where no member has the disk, for a message. The caller frees it. */
static char *newest_disks(const struct repository *r)
{
    const struct repo_member *newest = repository_newest(r, NULL);
    g_autoptr(GString) text = g_string_new("the newest member has ");

    if (!newest)
        return g_strdup("there are no members");
    for (guint i = 0; i < newest->disks->len; i++) {
        const struct repo_disk *d = newest->disks->pdata[i];

        g_string_append_printf(text, "%s%s", i > 0 ? ", " : "", d->disk);
    }
    return g_strdup(text->str);
}

/* What there is, for a message: "there are members 0 to 20, of ... to ...". The caller frees it. */
static char *what_there_is(const struct repository *r, const char *disk)
{
    const struct repo_member *newest = repository_newest(r, disk), *oldest = NULL;
    g_autofree char *first = NULL, *last = NULL, *of = of_disk(disk);

    if (!newest)
        return newest_disks(r);
    for (guint i = 0; !oldest || !has_disk(oldest, disk); i++)
        oldest = r->members->pdata[i];
    first = repo_time_text(oldest->time);
    last = repo_time_text(newest->time);
    if (oldest == newest)
        return g_strdup_printf("the only member%s is %" PRId64 ", of %s", of, newest->id, last);
    return g_strdup_printf("the members%s are %" PRId64 ", of %s, to %" PRId64 ", of %s", of,
                           oldest->id, first, newest->id, last);
}

static struct repo_member *none(const struct repository *r, const char *disk, const char *what,
                                const char *which, GError **err)
{
    g_autofree char *there = what_there_is(r, disk), *of = of_disk(disk);

    client_fail(err, CLIENT_ERROR_FAILED, "%s: there is no member%s%s%s: %s", r->path, of, what,
                which, there);
    return NULL;
}

static struct repo_member *until_id(const struct repository *r, const char *until, const char *disk,
                                    GError **err)
{
    int64_t id = g_ascii_strtoll(until, NULL, 10);

    if (!repository_find(r, id))
        return none(r, NULL, " ", until, err);
    for (guint i = r->members->len; i > 0; i--) {
        struct repo_member *m = r->members->pdata[i - 1];

        if (m->id <= id && has_disk(m, disk))
            return m;
    }
    return none(r, disk, " not after member ", until, err);
}

/* A member that is not after a time, and older ones that are: then a clock was wrong, and which of them
 * is meant cannot be told. 0, or -1 and *err. */
static int check_clock(const struct repository *r, const struct repo_member *found, int64_t time,
                       const char *until, const char *disk, GError **err)
{
    for (guint i = 0; r->members->pdata[i] != found; i++) {
        const struct repo_member *m = r->members->pdata[i];
        g_autofree char *text = NULL;

        if (m->time <= time || !has_disk(m, disk))
            continue;
        text = repo_time_text(m->time);
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: member %" PRId64 " is not after %s, but the older member %" PRId64
                           ", of %s, is: a clock was wrong; give the ID of a member",
                           r->path, found->id, until, m->id, text);
    }
    return 0;
}

static struct repo_member *until_time(const struct repository *r, const char *until,
                                      const char *disk, GError **err)
{
    int64_t time;

    if (!repo_time_until(until, &time)) {
        client_fail(err, CLIENT_ERROR_USAGE,
                    "\"%s\" is neither the ID of a member nor a time such as 2026-11-29, "
                    "\"2026-11-29 03:00\" or 2026-11-29T03:00:00Z",
                    until);
        return NULL;
    }
    for (guint i = r->members->len; i > 0; i--) {
        struct repo_member *m = r->members->pdata[i - 1];

        if (m->time <= time && has_disk(m, disk))
            return check_clock(r, m, time, until, disk, err) == 0 ? m : NULL;
    }
    return none(r, disk, " not after ", until, err);
}

struct repo_member *repository_until(const struct repository *r, const char *until,
                                     const char *disk, GError **err)
{
    struct repo_member *newest;

    if (until && *until != '\0' && strspn(until, "0123456789") == strlen(until))
        return until_id(r, until, disk, err);
    if (until)
        return until_time(r, until, disk, err);
    newest = repository_newest(r, disk);
    return newest ? newest : none(r, disk, "", "", err);
}
