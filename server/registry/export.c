/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry's exports. Life of an export: it may be *reserved* first, which takes its id and name.
 * The registry holds one reference as long as it is reserved or listed; each client that has found it holds another. It occupies its node and bitmaps until it
 * is *gone*: it cannot be found any more and its last client has detached. Then the control thread
 * releases the node and the bitmaps and emits BLOCK_EXPORT_DELETED. The memory goes with the last
 * reference. export-removal.c takes exports away.
 */
#include "server/registry/export.h"
#include "common/util/error.h"
#include "common/util/names.h"
#include "server/registry/departure.h"
#include "server/registry/event.h"
#include "server/registry/export-private.h"

#include <string.h>

static bool is_served(const struct export *e, enum export_scope scope)
{
    return !e->going && !e->reserved &&
           (scope == EXPORTS_ADDED ? e->info.id != NULL : !e->info.shadowed);
}

static bool has_name(const struct export *e, const char *name)
{
    return strcmp(e->info.name, name) == 0 || (e->default_too && !name[0]);
}

static struct export *find_locked(struct server *s, enum export_scope scope, const char *name)
{
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (is_served(e, scope) && has_name(e, name))
            return e;
    }
    return NULL;
}

/* Is there an added export of that name, or will there be one? */
static bool is_added_locked(struct server *s, const char *name)
{
    for (unsigned i = 0; i < s->exports->len; i++) {
        const struct export *e = s->exports->pdata[i];

        if (!e->going && e->info.id && has_name(e, name))
            return true;
    }
    return false;
}

/* Is there a disk's own export of that name? */
static bool is_own_locked(struct server *s, const char *name)
{
    const struct export *e = find_locked(s, EXPORTS_LIVE, name);

    return e && !e->info.id;
}

struct export *export_find_id_locked(struct server *s, const char *id)
{
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (e->info.id && strcmp(e->info.id, id) == 0)
            return e;
    }
    return NULL;
}

static int check_id_free(struct server *s, const char *id, GError **err)
{
    bool taken;

    pthread_mutex_lock(&s->lock);
    taken = export_find_id_locked(s, id) != NULL;
    pthread_mutex_unlock(&s->lock);
    return taken ? fail(err, "Block export id '%s' is already in use", id) : 0;
}

int server_export_check_id(struct server *s, const char *id, GError **err)
{
    if (!name_is_well_formed(id))
        return fail(err, "Invalid block export id");
    return check_id_free(s, id, err);
}

int server_export_check_name(struct server *s, const char *name, const char *description,
                             bool alone, GError **err)
{
    bool taken;

    if (strlen(name) > MAX_NBD_STRING)
        return fail(err, "export name '%s' too long", name);
    if (description && strlen(description) > MAX_NBD_STRING)
        return fail(err, "description '%s' too long", description);
    pthread_mutex_lock(&s->lock);
    taken = is_added_locked(s, name) || (alone && is_own_locked(s, name));
    pthread_mutex_unlock(&s->lock);
    return taken ? fail(err, "NBD server already has export named '%s'", name) : 0;
}

int export_check_bitmap(struct dirty_bitmap *db, GError **err)
{
    g_autofree char *reason = dirty_bitmap_reason(db);

    if (!reason)
        return 0;
    return fail(err, "Bitmap '%s' is inconsistent and cannot be used: %s", dirty_bitmap_name(db),
                reason);
}

static int check_bitmaps(const struct export_options *o, GError **err)
{
    for (unsigned i = 0; i < o->n_bitmaps; i++) {
        struct dirty_bitmap_info info;

        dirty_bitmap_flags(o->bitmaps[i], &info);
        if (info.busy)
            return fail(err,
                        "Bitmap '%s' is currently in use by another operation and cannot be used",
                        dirty_bitmap_name(o->bitmaps[i]));
        if (export_check_bitmap(o->bitmaps[i], err) < 0)
            return -1;
    }
    return 0;
}

static void occupy(struct export *e)
{
    struct view *v = node_to_view(e->info.node);

    if (v)
        view_use_begin(v);
    for (unsigned i = 0; i < e->n_bitmaps; i++)
        dirty_bitmap_busy_begin(e->bitmaps[i]);
}

/* Nobody finds it yet, but its id and name are taken. */
static struct export *export_new(struct server *s, const struct export_options *o)
{
    struct export *e = g_new0(struct export, 1);

    atomic_init(&e->references, 1);
    e->server = s;
    e->info = (struct export_info){
        .id = g_strdup(o->id),
        .name = g_strdup(o->name),
        .description = g_strdup(o->description),
        .writable = o->writable,
        .discard = o->discard,
        .live = o->live,
        .tls_required = o->tls_required,
        .tls_authz = (const char *const *)g_strdupv((char **)o->tls_authz),
        .owner = g_strdup(o->owner),
    };
    e->reserved = true;
    pthread_mutex_lock(&s->lock);
    e->default_too = !o->id && s->exports->len == 0;
    e->info.shadowed = o->id && is_own_locked(s, o->name);
    g_ptr_array_add(s->exports, e);
    pthread_mutex_unlock(&s->lock);
    return e;
}

void server_export_open(struct export *e, struct node *node, struct dirty_bitmap *const *bitmaps,
                        unsigned n_bitmaps)
{
    e->info.node = node;
    e->n_bitmaps = n_bitmaps;
    e->bitmaps = g_new(struct dirty_bitmap *, MAX(n_bitmaps, 1));
    for (unsigned i = 0; i < n_bitmaps; i++)
        e->bitmaps[i] = dirty_bitmap_ref(bitmaps[i]);
    occupy(e);
    pthread_mutex_lock(&e->server->lock);
    e->reserved = false;
    e->idle_since = g_get_monotonic_time();
    pthread_mutex_unlock(&e->server->lock);
}

int server_export_add(struct server *s, const struct export_options *o, GError **err)
{
    if (o->id && server_export_check_id(s, o->id, err) < 0)
        return -1;
    if (o->writable && node_is_readonly(o->node))
        return fail(err, "Cannot export read-only node as writable");
    if (server_export_check_name(s, o->name, o->description, !o->id, err) < 0 ||
        check_bitmaps(o, err) < 0)
        return -1;
    server_export_open(export_new(s, o), o->node, o->bitmaps, o->n_bitmaps);
    return 0;
}

struct export *server_export_reserve(struct server *s, const struct export_options *o, bool alone,
                                     GError **err)
{
    if (check_id_free(s, o->id, err) < 0 ||
        server_export_check_name(s, o->name, o->description, alone, err) < 0)
        return NULL;
    return export_ref(export_new(s, o));
}

/* Nobody finds it any more. */
static void take_off(struct export *e)
{
    pthread_mutex_lock(&e->server->lock);
    g_ptr_array_remove(e->server->exports, e);
    pthread_mutex_unlock(&e->server->lock);
}

void server_export_unreserve(struct export *e)
{
    take_off(e);
    export_unref(e);
}

unsigned export_clients(struct export *e, int64_t *idle_since)
{
    unsigned n;

    pthread_mutex_lock(&e->server->lock);
    n = e->clients.length;
    *idle_since = e->idle_since;
    pthread_mutex_unlock(&e->server->lock);
    return n;
}

void export_release(struct export *e, bool tell)
{
    const struct server_event event = {.kind = EVENT_BLOCK_EXPORT_DELETED, .id = e->info.id};
    struct server *s = e->server;
    struct view *v = node_to_view(e->info.node);

    if (e->cut_timer)
        g_source_remove(e->cut_timer);
    e->cut_timer = 0;
    take_off(e);
    if (v)
        view_use_end(v);
    for (unsigned i = 0; i < e->n_bitmaps; i++)
        dirty_bitmap_busy_end(e->bitmaps[i]);
    if (tell && e->info.id)
        server_emit(s, &event);
    export_unref(e);
}

void server_free_exports(struct server *s)
{
    while (s->exports->len > 0)
        export_release(s->exports->pdata[s->exports->len - 1], false);
    g_ptr_array_unref(s->exports);
}

/* Locked. */
static bool is_of_disk(const struct export *e, struct disk *d)
{
    struct view *v = node_to_view(e->info.node);

    return (v ? view_disk(v) : node_to_disk(e->info.node)) == d;
}

bool server_free_exports_of(struct server *s, struct disk *d)
{
    g_autoptr(GPtrArray) all = g_ptr_array_new();
    bool has_clients = false;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (e->reserved || !is_of_disk(e, d))
            continue;
        g_ptr_array_add(all, e);
        has_clients |= e->clients.length > 0;
    }
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; !has_clients && i < all->len; i++)
        export_release(all->pdata[i], false);
    return !has_clients;
}

GArray *server_exports(struct server *s)
{
    GArray *all = g_array_new(FALSE, FALSE, sizeof(struct export_status));

    pthread_mutex_lock(&s->lock);
    for (unsigned i = s->exports->len; i-- > 0;) {
        struct export *e = s->exports->pdata[i];
        struct export_status status = {
            .info = &e->info, .shutting_down = e->going, .clients = e->clients.length};

        if (e->info.id && !e->reserved)
            g_array_append_val(all, status);
    }
    pthread_mutex_unlock(&s->lock);
    return all;
}

struct export *server_find_export(struct server *s, enum export_scope scope, const char *name)
{
    struct export *e;

    pthread_mutex_lock(&s->lock);
    e = find_locked(s, scope, name);
    if (e)
        export_ref(e);
    pthread_mutex_unlock(&s->lock);
    return e;
}

static void unref(gpointer e)
{
    export_unref(e);
}

GPtrArray *server_list_exports(struct server *s, enum export_scope scope)
{
    GPtrArray *all = g_ptr_array_new_with_free_func(unref);

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (is_served(e, scope))
            g_ptr_array_add(all, export_ref(e));
    }
    pthread_mutex_unlock(&s->lock);
    return all;
}

struct export *export_ref(struct export *e)
{
    atomic_fetch_add_explicit(&e->references, 1, memory_order_relaxed);
    return e;
}

void export_unref(struct export *e)
{
    if (atomic_fetch_sub_explicit(&e->references, 1, memory_order_acq_rel) != 1)
        return;
    for (unsigned i = 0; i < e->n_bitmaps; i++)
        dirty_bitmap_unref(e->bitmaps[i]);
    g_free(e->bitmaps);
    g_free((char *)e->info.id);
    g_free((char *)e->info.name);
    g_free((char *)e->info.description);
    g_free((char *)e->info.owner);
    g_strfreev((char **)e->info.tls_authz);
    g_free(e);
}

const struct export_info *export_info(const struct export *e)
{
    return &e->info;
}

/* Those of a disk that can be read, without those of checkpoints. */
static GPtrArray *good_bitmaps(struct disk *d)
{
    GPtrArray *all = disk_bitmaps(d);

    for (unsigned i = all->len; i-- > 0;) {
        struct dirty_bitmap_info info;

        dirty_bitmap_flags(all->pdata[i], &info);
        if (info.inconsistent || info.readonly)
            g_ptr_array_remove_index(all, i);
    }
    return all;
}

GPtrArray *export_bitmaps(struct export *e)
{
    GPtrArray *all;

    if (e->info.live)
        return good_bitmaps(node_to_disk(e->info.node));
    all = dirty_bitmap_array_new();
    for (unsigned i = 0; i < e->n_bitmaps; i++)
        g_ptr_array_add(all, dirty_bitmap_ref(e->bitmaps[i]));
    return all;
}

static struct export *find_gone(struct server *s)
{
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = s->exports->pdata[i];

        if (e->going && e->clients.length == 0)
            return e;
    }
    return NULL;
}

void server_release_gone(struct server *s)
{
    for (;;) {
        struct export *e;

        pthread_mutex_lock(&s->lock);
        e = find_gone(s);
        pthread_mutex_unlock(&s->lock);
        if (!e)
            return;
        export_release(e, true);
    }
}

static gboolean client_left(gpointer server)
{
    server_release_gone(server);
    departures_check(server);
    return G_SOURCE_REMOVE;
}

bool export_attach(struct export *e, struct export_client *c)
{
    bool attached;

    c->export = e;
    c->link = (GList){.data = c};
    pthread_mutex_lock(&e->server->lock);
    attached = !e->going;
    if (attached)
        g_queue_push_tail_link(&e->clients, &c->link);
    pthread_mutex_unlock(&e->server->lock);
    return attached;
}

void export_detach(struct export_client *c)
{
    struct export *e = c->export;
    struct server *s = e->server;
    bool last, awaited;

    pthread_mutex_lock(&s->lock);
    g_queue_unlink(&e->clients, &c->link);
    last = e->going && e->clients.length == 0;
    if (e->clients.length == 0)
        e->idle_since = g_get_monotonic_time();
    awaited = s->departures.length > 0;
    pthread_mutex_unlock(&s->lock);
    if (last || awaited)
        g_idle_add_full(G_PRIORITY_DEFAULT, client_left, s, NULL);
}
