/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/identity.h"

#include <inttypes.h>

#define SECOND INT64_C(1000000000)

static int64_t later(int64_t time, int64_t by)
{
    return time > INT64_MAX - by ? INT64_MAX : time + by;
}

/* The machine went down. Pages of the live file may be old, so its times are of no use. All that we
 * changed was changed before this boot began, and within the last lease. */
static int64_t until_reboot(const struct identity_past *past)
{
    int64_t until = past->boot_time > 0 ? past->boot_time - 1 : 0;

    /* A clock that is behind the boot that it has counted itself was set back: nothing is known. */
    if (past->boot_time > past->now)
        return 0;
    /* So is one that is behind a lease by more than a lease is long, and no boot bounds that. */
    if (past->boot_time == 0 && past->lease > later(past->now, LIVE_LEASE_NS))
        return 0;
    if (past->lease > 0 && (until == 0 || past->lease < until))
        until = past->lease;
    return until;
}

int64_t identity_changed_until(const struct identity_past *past)
{
    const struct live_last *last = &past->last;

    if (past->rebooted)
        return until_reboot(past);
    if (!past->last_known || last->changed <= 0)
        return 0;
    /* The clock was set back: times before and after cannot be compared. */
    if (last->changed > later(past->now, IDENTITY_TICKS))
        return 0;
    if (!last->under_way)
        return later(last->changed, IDENTITY_TICKS);
    return later(MAX(last->changed, MIN(last->alive, past->now)), IDENTITY_UNDER_WAY);
}

bool identity_size_fits(const struct catalogue_disk *d, uint64_t size)
{
    return size == d->size || (d->resize_to != 0 && size == d->resize_to);
}

static char *show_time(int64_t ns)
{
    g_autoptr(GDateTime) t = g_date_time_new_from_unix_utc(ns / SECOND);

    return t ? g_date_time_format(t, "%Y-%m-%d %H:%M:%S UTC") : g_strdup("?");
}

/* Of a disk that ended in order. */
static char *judge_content(const struct catalogue_disk *d, const struct image_identity *now)
{
    const char *then = d->content ? d->content : "", *content = now->content ? now->content : "";

    if (g_str_equal(then, content))
        return NULL;
    if (!*then || !*content)
        return g_strdup("it cannot be seen whether the image was changed while it was not served");
    return g_strdup("the image was changed while it was not served");
}

/* Of a disk whose server died. */
static char *judge_modified(const struct catalogue_disk *d, const struct image_identity *now)
{
    g_autofree char *changed = NULL;
    g_autofree char *until = NULL;

    if (!now->content || !*now->content)
        return NULL; /* writes to it cannot be seen at all */
    if (d->content && g_str_equal(now->content, d->content))
        return NULL; /* nobody has changed it since the server began */
    if (now->modified <= 0)
        return g_strdup("the server died, and the image has no time of its last change");
    if (d->changed_until <= 0)
        return g_strdup("the server died, and it is not known when it last changed the image");
    if (now->modified <= d->changed_until)
        return NULL;
    changed = show_time(now->modified);
    until = show_time(d->changed_until);
    return g_strdup_printf("the server died, and somebody else has changed the image since: it was "
                           "last changed at %s, by the server at %s at the latest",
                           changed, until);
}

char *identity_judge(const struct catalogue_disk *d, const struct image_identity *now,
                     uint64_t size)
{
    const char *then = d->image ? d->image : "", *image = now->image ? now->image : "";

    if (now->transient)
        return g_strdup("the image does not outlive the server that it was in");
    if (!d->adopted && !g_str_equal(then, image))
        return g_strdup_printf("the image is another one: it was '%s' and is now '%s'", then,
                               image);
    if (!identity_size_fits(d, size))
        return g_strdup_printf("the image was resized while it was not served: from %" PRIu64
                               " to %" PRIu64 " bytes",
                               d->size, size);
    if (d->adopted)
        return NULL;
    return d->state == DISK_CLEAN ? judge_content(d, now) : judge_modified(d, now);
}
