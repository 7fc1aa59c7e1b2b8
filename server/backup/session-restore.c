/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Sessions of the last server at the start of this one. Where the views of a session and its frozen maps
 * are all there (server/disk/view-resume.h), it goes on as if nothing had been, but that its clients have
 * to connect again and that its lease begins anew. Else it is aborted, with the reason.
 *
 * The last server may have wanted to abort it (its lease had ended, its listener was stopped) and have died
 * before the state folder took that. Then it goes on all the same: nobody was told that it has ended, its views
 * are whole, and if nobody comes its lease ends again. A view that has broken is another matter: that is
 * known from the view, and the session is aborted.
 *
 * It is taken up in two steps, since checkpoints that are pending live on with their sessions, and a
 * session needs the bitmaps of its bases, which are checkpoints': first what it reads from, then, when the
 * checkpoints are there, the rest.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/disk/view-frozen.h"
#include "server/disk/view-resume.h"
#include "server/state/store.h"

/* ---- what it reads from ---- */

/* Why the view is not there. */
static int fail_view(struct session *n, const struct session_disk *d, GError **err)
{
    struct store *store = server_options(n->all->server)->store;
    const char *why = disk_lost_views(d->disk);

    if (!why)
        why = store_last_end(store);
    return fail(err, "its view of disk %s is gone: %s", disk_name(d->disk),
                why ? why : "what it had in /dev/shm is gone");
}

static int find_view(struct session *n, struct session_disk *d, GError **err)
{
    struct node *node = server_find_node(n->all->server, d->node);
    struct view *v = node ? node_to_view(node) : NULL;
    struct view_info info;

    if (!v || view_disk(v) != d->disk)
        return fail_view(n, d, err);
    view_info(v, &info);
    /* Not that of an earlier or a later session of this id. */
    if (info.instant_usec != n->record.time_usec)
        return fail(err, "its view of disk %s is of another instant", disk_name(d->disk));
    if (info.broken)
        return fail(err, "its view of disk %s is broken: %s", disk_name(d->disk), info.reason);
    d->frozen = view_frozen(v, err);
    if (!d->frozen)
        return -1;
    d->view = v;
    view_use_begin(v);
    view_set_quota(v, n->quota);
    return 0;
}

/* A disk that was not there may have the export's name now. If the session's clients came by the listeners
 * that serve the disks, they would find this one in its place: the session is aborted. If they came by a
 * listener that serves only added exports, they find the session's there as soon as it is started again. */
static int reserve_export(struct session *n, unsigned k, GError **err)
{
    struct session_disk *d = &n->disks[k];

    d->reserved = session_reserve_export(n, k, err) == 0;
    if (d->reserved)
        return 0;
    g_prefix_error(err, "its export of disk %s: ", disk_name(d->disk));
    return -1;
}

static int take_up_disk(struct session *n, unsigned k, GError **err)
{
    const struct session_record_disk *names = session_record_disk(&n->record, k);
    struct session_disk *d = &n->disks[k];

    d->node = session_node_name(n, names->disk);
    d->disk = server_find_disk(n->all->server, names->disk);
    if (!d->disk)
        return fail(err, "its disk %s is not served", names->disk);
    return find_view(n, d, err) < 0 ? -1 : reserve_export(n, k, err);
}

static void let_go(struct session *n)
{
    for (unsigned k = 0; k < n->record.disks->len; k++)
        if (n->disks[k].view)
            view_use_end(n->disks[k].view);
    session_free_disks(n);
}

static int take_up(struct session *n, GError **err)
{
    n->quota = session_quota_new(n->all, n->record.scratch_limit);
    n->disks = g_new0(struct session_disk, n->record.disks->len);
    for (unsigned k = 0; k < n->record.disks->len; k++)
        if (take_up_disk(n, k, err) < 0) {
            let_go(n);
            return -1;
        }
    return 0;
}

static void abort_now(struct session *n, const char *reason)
{
    n->record.state = SESSION_ABORTED;
    n->record.reason = g_strdup(reason);
    n->record.ended_usec = g_get_real_time();
    n->changed = true;
    log_info("backup session %s: aborted: %s", n->record.id, reason);
}

void session_take_up(struct session *n)
{
    g_autoptr(GError) why = NULL;

    n->begun = true;
    if (!session_has_ended(n) && take_up(n, &why) < 0)
        abort_now(n, why->message);
}

/* ---- the rest ---- */

/* The frozen map was made from it. So the session does not need it any more, but nobody may change it
 * meanwhile. */
static void find_base(struct session *n, unsigned k)
{
    struct session_record_disk *names = session_record_disk(&n->record, k);
    struct session_disk *d = &n->disks[k];
    g_autofree char *why = NULL;

    if (!names->incremental)
        return;
    d->base = checkpoint_base(n->all->checkpoints, names->since, d->disk, &why);
    if (!d->base)
        log_info("backup session %s: disk %s: it goes on, although its base does not: %s",
                 n->record.id, names->disk, why);
}

static int check_checkpoint(struct session *n, GError **err)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    if (!n->record.checkpoint)
        return 0;
    checkpoint_disks(n->all->checkpoints, n->record.checkpoint, disks);
    return disks->len > 0 ? 0 : fail(err, "its checkpoint '%s' is gone", n->record.checkpoint);
}

static void open_disk(struct session *n, unsigned k)
{
    struct session_record_disk *names = session_record_disk(&n->record, k);
    struct session_disk *d = &n->disks[k];

    server_export_open(d->export, view_node(d->view), &d->frozen, 1);
    d->reserved = false;
    if (d->base)
        dirty_bitmap_busy_begin(d->base);
    d->dirty_bytes = names->incremental ? session_count_dirty(d->frozen, names->size) : names->size;
}

static int go_on(struct session *n, GError **err)
{
    if (check_checkpoint(n, err) < 0)
        return -1;
    for (unsigned k = 0; k < n->record.disks->len; k++) {
        find_base(n, k);
        open_disk(n, k);
    }
    n->resumed = true;
    session_lease_begin(n);
    log_info("backup session %s: goes on", n->record.id);
    return 0;
}

void session_go_on(struct session *n)
{
    g_autoptr(GError) why = NULL;

    if (session_has_ended(n) || go_on(n, &why) == 0)
        return;
    let_go(n);
    abort_now(n, why->message);
}

/* ---- views that are nobody's ---- */

void sessions_delete_left_views(struct sessions *all)
{
    g_autoptr(GPtrArray) views = server_views(all->server);

    for (unsigned k = 0; k < views->len; k++) {
        struct view *v = views->pdata[k];
        g_autofree char *name = g_strdup(view_name(v));
        g_autoptr(GError) error = NULL;
        struct view_info info;

        view_info(v, &info);
        if (info.in_use)
            continue;
        view_claim(v, false);
        if (view_delete(v, &error) < 0)
            log_error("view %s: it is no session's, and cannot be deleted: %s", name,
                      error->message);
    }
}
