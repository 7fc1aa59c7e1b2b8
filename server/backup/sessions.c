/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/sessions.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/session-private.h"
#include "server/state/store.h"

#include <string.h>

/* ---- what becomes of views and exports ---- */

static void view_broke(struct sessions *all, const char *view, const char *disk, const char *why)
{
    for (guint i = 0; i < all->list->len; i++) {
        struct session *n = all->list->pdata[i];
        bool lives = n->begun && n->disks && !session_has_ended(n);

        for (unsigned k = 0; lives && k < n->record.disks->len; k++)
            if (strcmp(n->disks[k].node, view) == 0) {
                g_autofree char *reason =
                    g_strdup_printf("its view of disk %s is broken: %s", disk, why);

                session_doom(n, reason);
                return;
            }
    }
}

static void export_ended(struct sessions *all)
{
    for (guint i = 0; i < all->list->len; i++)
        session_export_ended(all->list->pdata[i]);
}

static void on_event(void *opaque, const struct server_event *event)
{
    if (event->kind == EVENT_VIEW_BROKEN)
        view_broke(opaque, event->name, event->disk, event->reason);
    else if (event->kind == EVENT_BLOCK_EXPORT_DELETED)
        export_ended(opaque);
}

/* ---- their life ---- */

struct sessions *sessions_new(struct server *s, struct checkpoints *c,
                              const struct session_options *o)
{
    struct sessions *all = g_new0(struct sessions, 1);

    all->server = s;
    all->checkpoints = c;
    all->options = *o;
    all->list = g_ptr_array_new();
    all->quiescing = g_ptr_array_new();
    server_add_event_sink(s, on_event, all);
    return all;
}

void sessions_stop(struct sessions *all)
{
    all->stopped = true;
    sessions_cut_hooks(all);
}

/* An instant that hangs may still use its session. Then this session and all that it knows stay. */
bool sessions_free(struct sessions *all)
{
    bool left = all->quiescing->len > 0;

    server_remove_event_sink(all->server, on_event, all);
    while (all->list->len > 0) {
        struct session *n = all->list->pdata[all->list->len - 1];

        left |= n->references > 1 || !(n->begun || session_has_ended(n));
        g_ptr_array_set_size(all->list, (int)all->list->len - 1);
        if (!left)
            session_unref(n);
    }
    if (left)
        return false;
    g_ptr_array_unref(all->list);
    g_ptr_array_unref(all->quiescing);
    g_free(all);
    return true;
}

/* ---- the start ---- */

static int stage_text(struct instant *i, struct disk *d, const char *id,
                      char *(*text)(void *opaque), void *opaque, GError **err)
{
    const struct state_record record = {
        .kind = SESSION_KIND, .name = id, .text = text, .opaque = opaque};

    return instant_record(i, d, &record, err);
}

static char *text_of(void *opaque)
{
    return session_record_text(&((struct session *)opaque)->record);
}

/* Why it was aborted may be what a record of another server had no room for. The start does not fail for
 * that. */
static int stage_session(struct session *n, struct instant *i, struct disk *d, GError **err)
{
    g_autofree char *text = text_of(n);
    bool fits = strlen(text) <= STATE_MAX_RECORD;

    if (!fits)
        log_error("backup session %s: its record is too long and is removed", n->record.id);
    return stage_text(i, d, n->record.id, fits ? text_of : NULL, n, err);
}

/* Take one. False: its record is to be removed. */
static bool take(struct sessions *all, const struct store_record *found)
{
    g_autoptr(GError) why = NULL;
    struct session_record record;
    struct session *n;

    if (session_record_parse(&record, found->name, found->text, &why) < 0) {
        log_error("backup session %s: its record cannot be used and is removed: %s", found->name,
                  why->message);
        return false;
    }
    n = session_new(all, found->name, 0);
    session_record_clear(&n->record);
    n->record = record;
    return true;
}

static gint compare_times(gconstpointer a, gconstpointer b)
{
    int64_t first = (*(struct session *const *)a)->record.time_usec;
    int64_t second = (*(struct session *const *)b)->record.time_usec;

    return first < second ? -1 : first > second;
}

/* The oldest that have ended, where they are too many. Their names are added to `unused`. */
static void drop_oldest(struct sessions *all, GPtrArray *unused)
{
    g_autoptr(GPtrArray) old = sessions_of_old(all, SESSIONS_MOST_ENDED);

    for (guint k = 0; k < old->len; k++) {
        struct session *n = old->pdata[k];

        g_ptr_array_add(unused, g_strdup(n->record.id));
        session_forget(n);
    }
}

/* In order of their beginnings: the state folder has an id that was used again where it was first. Names
 * of records that are to be removed: GPtrArray of strings. */
static GPtrArray *take_all(struct sessions *all, const GArray *records)
{
    GPtrArray *unused = g_ptr_array_new_with_free_func(g_free);

    for (unsigned k = 0; k < records->len; k++) {
        const struct store_record *found = &g_array_index(records, struct store_record, k);

        if (!take(all, found))
            g_ptr_array_add(unused, g_strdup(found->name));
    }
    g_ptr_array_sort(all->list, compare_times);
    drop_oldest(all, unused);
    for (unsigned k = 0; k < all->list->len; k++)
        session_take_up(all->list->pdata[k]);
    return unused;
}

static bool lives(void *opaque, const char *id)
{
    const struct session *n = sessions_lookup(opaque, id, true);

    return n && !session_has_ended(n);
}

static void go_on_all(struct sessions *all)
{
    for (guint k = 0; k < all->list->len; k++)
        session_go_on(all->list->pdata[k]);
}

static int stage_records(struct sessions *all, const GPtrArray *unused, struct instant *i,
                         struct disk *d, GError **err)
{
    for (guint k = 0; k < all->list->len; k++) {
        struct session *n = all->list->pdata[k];

        if (n->changed && stage_session(n, i, d, err) < 0)
            return -1;
        n->changed = false;
    }
    for (guint k = 0; k < unused->len; k++)
        if (stage_text(i, d, unused->pdata[k], NULL, NULL, err) < 0)
            return -1;
    return 0;
}

static int write_records(struct sessions *all, const GPtrArray *unused, GError **err)
{
    g_autoptr(GPtrArray) disks = server_disks(all->server);
    struct instant *i = instant_new();

    if (disks->len == 0 || stage_records(all, unused, i, disks->pdata[0], err) == 0)
        return instant_commit(i, err);
    instant_abort(i);
    return -1;
}

int sessions_restore(struct sessions *all, GError **err)
{
    struct store *store = server_options(all->server)->store;
    g_autoptr(GArray) records = store ? store_records(store, SESSION_KIND) : NULL;
    g_autoptr(GPtrArray) unused = records ? take_all(all, records) : NULL;

    if (checkpoints_restore(all->checkpoints, lives, all, err) < 0)
        return -1;
    go_on_all(all);
    sessions_delete_left_views(all);
    return unused && records->len > 0 ? write_records(all, unused, err) : 0;
}

/* ---- asking ---- */

struct session *session_find(struct sessions *all, const char *id, GError **err)
{
    struct session *n = sessions_lookup(all, id, true);

    if (!n)
        fail(err, "Backup session '%s' not found", id);
    else if (session_has_ended(n))
        session_fail_ended(n, err);
    else
        return n;
    return NULL;
}

static void unref(gpointer session)
{
    session_unref(session);
}

/* An abort may be done at once, and drop older sessions from the list. */
void sessions_abort_all(struct sessions *all, const char *reason)
{
    g_autoptr(GPtrArray) list = g_ptr_array_new_with_free_func(unref);

    for (guint i = 0; i < all->list->len; i++)
        g_ptr_array_add(list, session_ref(all->list->pdata[i]));
    for (guint i = 0; i < list->len; i++)
        session_doom(list->pdata[i], reason);
}

static void disk_info(struct session *n, unsigned k, struct session_disk_info *info)
{
    const struct session_record_disk *names = session_record_disk(&n->record, k);
    const struct session_disk *d = &n->disks[k];
    struct view_info view;
    int64_t idle;

    view_info(d->view, &view);
    *info = (struct session_disk_info){
        .disk = d->disk,
        .export = names->export,
        .shadowed = export_info(d->export)->shadowed,
        .bitmap = names->bitmap,
        .incremental = names->incremental,
        .since = names->since,
        .reason = names->reason,
        .size = names->size,
        .dirty_bytes = d->dirty_bytes,
        .scratch_bytes = view.scratch_bytes,
        .clients = export_clients(d->export, &idle),
    };
}

void session_info(struct session *n, struct session_info *info)
{
    const struct session_record *r = &n->record;
    bool ended = session_has_ended(n);

    *info = (struct session_info){
        .id = r->id,
        .since = r->since,
        .checkpoint = r->checkpoint,
        .state = r->state,
        .reason = r->reason,
        .time_usec = r->time_usec,
        .lease = r->lease,
        .lease_left = ended ? -1 : session_lease_left(n),
        .discard = r->discard,
        .resumed = n->resumed,
        .hooked = r->hooked,
        .quiesced = r->quiesced,
        .quiesce_error = r->quiesce_error,
        .scratch_limit = r->scratch_limit,
        .scratch_used = n->quota ? view_quota_used(n->quota) : 0,
    };
    if (info->lease_left > 0)
        info->lease_left = (info->lease_left + G_USEC_PER_SEC - 1) / G_USEC_PER_SEC;
    info->disks = g_array_new(FALSE, TRUE, sizeof(struct session_disk_info));
    if (ended)
        return;
    g_array_set_size(info->disks, r->disks->len);
    for (unsigned k = 0; k < r->disks->len; k++)
        disk_info(n, k, &g_array_index(info->disks, struct session_disk_info, k));
}

void session_info_clear(struct session_info *info)
{
    g_clear_pointer(&info->disks, g_array_unref);
}

static void clear_info(gpointer info)
{
    session_info_clear(info);
}

GArray *sessions_list(struct sessions *all)
{
    GArray *list = g_array_new(FALSE, TRUE, sizeof(struct session_info));

    g_array_set_clear_func(list, clear_info);
    for (guint i = 0; i < all->list->len; i++) {
        struct session *n = all->list->pdata[i];
        struct session_info info;

        if (!n->begun)
            continue;
        session_info(n, &info);
        g_array_append_val(list, info);
    }
    return list;
}
