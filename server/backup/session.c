/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backup/session-private.h"

#include <string.h>

struct session *session_ref(struct session *n)
{
    n->references++;
    return n;
}

static void free_disk(struct session *n, struct session_disk *d)
{
    if (d->reserved)
        server_release_node_name(n->all->server, d->node);
    if (d->reserved && d->export)
        server_export_unreserve(d->export);
    if (d->export)
        export_unref(d->export);
    dirty_bitmap_unref(d->base);
    dirty_bitmap_unref(d->frozen);
    g_free(d->node);
}

void session_free_disks(struct session *n)
{
    for (unsigned i = 0; n->disks && i < n->record.disks->len; i++)
        free_disk(n, &n->disks[i]);
    g_clear_pointer(&n->disks, g_free);
}

void session_unref(struct session *n)
{
    if (--n->references > 0)
        return;
    g_clear_handle_id(&n->lease_timer, g_source_remove);
    g_clear_handle_id(&n->retry_timer, g_source_remove);
    session_free_disks(n);
    view_quota_unref(n->quota);
    g_free(n->doom);
    session_record_clear(&n->record);
    g_free(n);
}

struct session *session_new(struct sessions *all, const char *id, unsigned n_disks)
{
    struct session *n = g_new0(struct session, 1);

    n->references = 1;
    n->all = all;
    session_record_init(&n->record, id);
    g_array_set_size(n->record.disks, n_disks);
    if (n_disks > 0)
        n->disks = g_new0(struct session_disk, n_disks);
    g_ptr_array_add(all->list, n);
    return n;
}

/* ---- its parts ---- */

char *session_node_name(const struct session *n, const char *disk)
{
    return g_strdup_printf("%s/%s", n->record.id, disk);
}

int session_reserve_export(struct session *n, unsigned k, GError **err)
{
    g_autofree char *owner = g_strdup_printf("backup session '%s'", n->record.id);
    struct session_disk *d = &n->disks[k];
    const struct export_options o = {
        .id = d->node,
        .name = session_record_disk(&n->record, k)->export,
        .discard = n->record.discard,
        .owner = owner,
    };

    d->export = server_export_reserve(n->all->server, &o, n->record.alone, err);
    return d->export ? 0 : -1;
}

static void scratch_low(void *opaque, uint64_t used, uint64_t limit)
{
    const struct server_event event = {.kind = EVENT_SCRATCH_LOW, .used = used, .limit = limit};

    server_emit(opaque, &event);
}

struct view_quota *session_quota_new(struct sessions *all, uint64_t limit)
{
    return view_quota_new(limit, scratch_low, all->server);
}

/* The last granule may reach past the end of the view. */
uint64_t session_count_dirty(struct dirty_bitmap *db, uint64_t size)
{
    struct bitmap *bits = dirty_bitmap_bits(db);
    struct dirty_bitmap_info info;

    dirty_bitmap_info(db, &info);
    if (bits && size > 0 && bitmap_test(bits, size - 1))
        info.count -= -size & (info.granularity - 1);
    bitmap_unref(bits);
    return info.count;
}

struct disk *session_stored_disk(const struct session *n)
{
    for (unsigned i = 0; i < n->record.disks->len; i++)
        if (disk_has_store(n->disks[i].disk))
            return n->disks[i].disk;
    return NULL;
}

/* ---- finding it ---- */

void session_forget(struct session *n)
{
    if (g_ptr_array_remove(n->all->list, n))
        session_unref(n);
}

bool session_is_down(const struct session *n)
{
    for (unsigned i = 0; n->disks && i < n->record.disks->len; i++)
        if (n->disks[i].view)
            return false;
    return session_has_ended(n) && !n->deleting;
}

static int by_end(gconstpointer a, gconstpointer b)
{
    int64_t first = (*(struct session *const *)a)->record.ended_usec;
    int64_t second = (*(struct session *const *)b)->record.ended_usec;

    return first > second ? -1 : first < second;
}

GPtrArray *sessions_of_old(struct sessions *all, unsigned keep)
{
    GPtrArray *down = g_ptr_array_new();

    for (guint k = 0; k < all->list->len; k++)
        if (session_is_down(all->list->pdata[k]))
            g_ptr_array_add(down, all->list->pdata[k]);
    g_ptr_array_sort(down, by_end);
    g_ptr_array_remove_range(down, 0, MIN(keep, down->len));
    return down;
}

struct session *sessions_lookup(struct sessions *all, const char *id, bool begun)
{
    for (guint i = all->list->len; i-- > 0;) {
        struct session *n = all->list->pdata[i];

        if ((n->begun || !begun) && strcmp(n->record.id, id) == 0)
            return n;
    }
    return NULL;
}
