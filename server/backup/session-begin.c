/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How a session begins. All that can fail is done before the instant: names are reserved, and views,
 * frozen maps, the checkpoint and the record are staged. When the instant has been, the exports are
 * opened. When it fails, what was reserved is released; the instant drops the rest.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/names.h"
#include "server/backup/session-private.h"
#include "server/disk/view-frozen.h"

#include <string.h>

#define MAX_BITMAP_NAME 1023
/* Bytes of a record that a beginning leaves free: for the reason of an abort, e.g. */
#define RECORD_SPARE 8192

static int check_id(struct sessions *all, const char *id, GError **err)
{
    const struct session *n;

    if (!name_is_well_formed(id))
        return fail(err, "Invalid backup session id '%s'", id);
    if (strlen(id) > SESSION_MAX_ID)
        return fail(err, "Backup session id too long: '%s'", id);
    n = sessions_lookup(all, id, false);
    return n && (!session_is_down(n) || n->dropped)
               ? fail(err, "Backup session id '%s' is already in use", id)
               : 0;
}

/* ---- one disk ---- */

static int name_disk(struct session *n, unsigned k, const struct session_request_disk *r,
                     GError **err)
{
    struct session_record_disk *names = session_record_disk(&n->record, k);
    const char *disk = disk_name(r->disk);
    struct session_disk *d = &n->disks[k];

    d->disk = r->disk;
    d->node = session_node_name(n, disk);
    names->disk = g_strdup(disk);
    names->export = g_strdup(r->export ? r->export : d->node);
    names->bitmap = r->bitmap ? g_strdup(r->bitmap) : g_strdup_printf("backup-%s", disk);
    names->size = disk_size(r->disk);
    if (names->bitmap[0] == '\0')
        return fail(err, "Bitmap name cannot be empty");
    return strlen(names->bitmap) > MAX_BITMAP_NAME
               ? fail(err, "Bitmap name too long: %s", names->bitmap)
               : 0;
}

static int reserve(struct session *n, unsigned k, GError **err)
{
    struct session_disk *d = &n->disks[k];

    if (server_reserve_own_node_name(n->all->server, d->node, err) < 0)
        return -1;
    d->reserved = true;
    return session_reserve_export(n, k, err);
}

static int stage_view(struct session *n, unsigned k, struct instant *i, GError **err)
{
    const struct view_options o = {
        .on_error = server_options(n->all->server)->on_cbw_error,
        .quota = n->quota,
    };
    struct session_disk *d = &n->disks[k];

    return instant_view_create(i, d->disk, d->node, &o, &d->view, err);
}

/* What a session says that is strict; g_free. */
static char *refusal(const struct session *n, unsigned k)
{
    const struct session_record_disk *names = session_record_disk(&n->record, k);

    return g_strdup_printf("disk %s: no backup since checkpoint '%s' is possible", names->disk,
                           names->since);
}

/* Find the bitmap to begin from. Without one the disk is full; -1: this is refused (strict). */
static int find_base(struct session *n, unsigned k, const char *since, bool strict, GError **err)
{
    struct session_record_disk *names = session_record_disk(&n->record, k);
    struct session_disk *d = &n->disks[k];
    g_autofree char *refused = NULL;

    names->since = g_strdup(since);
    if (!since)
        return 0;
    d->base = checkpoint_base(n->all->checkpoints, since, d->disk, &names->reason);
    names->incremental = d->base != NULL;
    if (d->base || !strict)
        return 0;
    refused = refusal(n, k);
    return fail(err, "%s: %s", refused, names->reason);
}

/* The base may become inconsistent before the instant. */
static int stage_map(struct session *n, unsigned k, struct instant *i, bool strict, GError **err)
{
    struct session_disk *d = &n->disks[k];
    g_autofree char *needed = strict && d->base ? refusal(n, k) : NULL;
    const struct freeze_options o = {
        .name = session_record_disk(&n->record, k)->bitmap,
        .source = d->base ? dirty_bitmap_name(d->base) : NULL,
        .view = d->node,
        .needed = needed,
    };

    return instant_freeze(i, d->disk, &o, &d->frozen, err);
}

static int stage_disk(struct session *n, unsigned k, struct instant *i,
                      const struct session_request *r, GError **err)
{
    const struct session_request_disk *rd =
        &g_array_index(r->disks, struct session_request_disk, k);

    if (name_disk(n, k, rd, err) < 0 || reserve(n, k, err) < 0 ||
        find_base(n, k, rd->since ? rd->since : r->since, r->strict, err) < 0 ||
        stage_view(n, k, i, err) < 0)
        return -1;
    return stage_map(n, k, i, r->strict, err);
}

/* ---- checkpoint and record ---- */

static int stage_checkpoint(struct session *n, struct instant *i, const struct session_request *r,
                            GError **err)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    const struct checkpoint_options o = {
        .name = r->checkpoint,
        .disks = disks,
        .granularity = r->granularity,
        .session = n->record.id,
    };

    if (!r->checkpoint)
        return 0;
    for (unsigned k = 0; k < n->record.disks->len; k++)
        g_ptr_array_add(disks, n->disks[k].disk);
    return checkpoint_stage_create(n->all->checkpoints, i, &o, err);
}

static int64_t instant_of(const struct session *n)
{
    struct view_info info;

    view_info(n->disks[0].view, &info);
    return info.instant_usec;
}

/* If the server dies, the session goes on with its views and these. */
static void keep_maps(const struct session *n)
{
    for (unsigned k = 0; k < n->record.disks->len; k++) {
        g_autoptr(GError) error = NULL;

        if (view_keep_frozen(n->disks[k].view, n->disks[k].frozen, &error) < 0)
            log_error("backup session %s: it ends if the server dies: %s", n->record.id,
                      error->message);
    }
}

/* As check_map will have it. */
static void note_maps(const struct session *n, GArray *disks)
{
    for (unsigned k = 0; k < disks->len; k++) {
        struct session_record_disk *names = &g_array_index(disks, struct session_record_disk, k);
        char *why = dirty_bitmap_reason(n->disks[k].frozen);

        if (!why)
            continue;
        names->incremental = false;
        names->reason = why;
    }
}

static void free_notes(const struct session *n, GArray *disks)
{
    for (unsigned k = 0; k < disks->len; k++) {
        char *why = g_array_index(disks, struct session_record_disk, k).reason;

        if (why != session_record_disk(&n->record, k)->reason)
            g_free(why);
    }
    g_array_unref(disks);
}

/* After the flip, on a thread of the instant. The control thread leaves the session alone until it
 * has begun. */
static char *text_of_beginning(void *opaque)
{
    const struct session *n = opaque;
    struct session_record record = n->record;
    char *text;

    keep_maps(n);
    record.time_usec = instant_of(n);
    record.disks = g_array_copy(n->record.disks);
    g_array_set_clear_func(record.disks, NULL); /* it borrows */
    note_maps(n, record.disks);
    text = session_record_text(&record);
    free_notes(n, record.disks);
    return text;
}

/* The record must have room for what its end adds. */
static int check_length(const struct session *n, GError **err)
{
    g_autofree char *text = session_record_text(&n->record);
    size_t length = strlen(text);

    return length <= STATE_MAX_RECORD - RECORD_SPARE
               ? 0
               : fail(err,
                      "Backup session '%s' cannot be kept: its record has %zu bytes, and at most "
                      "%u are kept",
                      n->record.id, length, STATE_MAX_RECORD - RECORD_SPARE);
}

static int stage_record(struct session *n, struct instant *i, GError **err)
{
    const struct state_record record = {
        .kind = SESSION_KIND, .name = n->record.id, .text = text_of_beginning, .opaque = n};
    struct disk *stored;

    if (check_length(n, err) < 0)
        return -1;
    stored = session_stored_disk(n);
    return stored ? instant_record(i, stored, &record, err) : 0;
}

/* ---- after the instant ---- */

/* The base may have become inconsistent between the last check and the instant, if the session is not
 * strict. Then nobody knows what has changed. */
static void check_map(struct session *n, unsigned k)
{
    struct session_record_disk *names = session_record_disk(&n->record, k);
    char *why = dirty_bitmap_reason(n->disks[k].frozen);

    if (!why)
        return;
    dirty_bitmap_set_all(n->disks[k].frozen);
    names->incremental = false;
    names->reason = why;
}

static void open_disk(struct session *n, unsigned k)
{
    const struct session_record_disk *names = session_record_disk(&n->record, k);
    struct session_disk *d = &n->disks[k];

    check_map(n, k);
    view_use_begin(d->view);
    view_claim(d->view, true);
    server_release_node_name(n->all->server, d->node);
    server_export_open(d->export, view_node(d->view), &d->frozen, 1);
    d->reserved = false;
    if (d->base)
        dirty_bitmap_busy_begin(d->base);
    d->dirty_bytes = names->incremental ? session_count_dirty(d->frozen, names->size) : names->size;
}

/* Nobody has listened to its views before now. One may have broken since the flip. */
static void check_views(struct session *n)
{
    for (unsigned k = 0; k < n->record.disks->len; k++) {
        g_autofree char *reason = NULL;
        struct view_info info;

        view_info(n->disks[k].view, &info);
        if (!info.broken)
            continue;
        reason = g_strdup_printf("its view of disk %s is broken: %s",
                                 session_record_disk(&n->record, k)->disk, info.reason);
        session_doom(n, reason);
        return;
    }
}

static void has_begun(void *opaque)
{
    struct session *n = opaque, *earlier;

    while ((earlier = sessions_lookup(n->all, n->record.id, true)))
        session_forget(earlier);
    n->begun = true;
    n->record.time_usec = instant_of(n);
    for (unsigned k = 0; k < n->record.disks->len; k++)
        open_disk(n, k);
    session_lease_begin(n);
    check_views(n);
    session_pursue_doom(n);
}

static void has_not_begun(void *opaque)
{
    session_forget(opaque);
}

static struct session *begin(struct sessions *all, const struct session_request *r)
{
    struct session *n = session_new(all, r->id, r->disks->len);

    n->record.since = g_strdup(r->since);
    n->record.checkpoint = g_strdup(r->checkpoint);
    n->record.discard = r->discard;
    n->record.alone = r->alone;
    n->record.lease = r->lease < 0 ? (int64_t)all->options.lease : r->lease;
    n->record.scratch_limit = r->scratch_limit;
    n->quota = session_quota_new(all, r->scratch_limit);
    return n;
}

int session_stage_begin(struct sessions *all, struct instant *i, const struct session_request *r,
                        struct session **session, GError **err)
{
    struct session *n;

    if (check_id(all, r->id, err) < 0)
        return -1;
    n = begin(all, r);
    instant_on_abort(i, has_not_begun, n);
    for (unsigned k = 0; k < r->disks->len; k++)
        if (stage_disk(n, k, i, r, err) < 0)
            return -1;
    if (stage_checkpoint(n, i, r, err) < 0 || session_stage_quiesce(n, i, r->strict, err) < 0 ||
        stage_record(n, i, err) < 0)
        return -1;
    instant_on_commit(i, has_begun, n); /* when its checkpoint is there */
    *session = n;
    return 0;
}
