/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry's disks and names of nodes, which change on the control thread alone. `lock` is for
 * what other threads touch: the list of exports, their clients and their state (export.c), and the
 * queue of events (event.c).
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "common/util/names.h"
#include "server/registry/commit.h"
#include "server/registry/departure.h"
#include "server/registry/disk-store.h"
#include "server/registry/registry-private.h"
#include "server/registry/registry.h"
#include "server/registry/turn.h"

#include <string.h>

/* A change waits so long for earlier ones of its disks, milliseconds: for several that wait for
 * writes as long as they may (DRAIN_USEC), one after the other. */
#define TURN_MS 30000
/* Node names in QEMU have at most 31 bytes; a name with a date in it needs more. */
#define MAX_NODE_NAME 255

static void scratch_low(void *opaque, uint64_t used, uint64_t limit)
{
    const struct server_event event = {.kind = EVENT_SCRATCH_LOW, .used = used, .limit = limit};

    server_emit(opaque, &event);
}

static const char *default_scratch_dir(void)
{
    const char *dir = g_getenv("TMPDIR");

    return dir && dir[0] ? dir : "/var/tmp";
}

struct server *server_new(const struct server_options *options)
{
    struct server *s = g_new0(struct server, 1);

    s->options = *options;
    s->options.scratch_dir =
        g_strdup(options->scratch_dir ? options->scratch_dir : default_scratch_dir());
    s->scratch = scratch_pool_new(s->options.scratch_dir, options->scratch_limit, scratch_low, s);
    s->store = disk_store_new(options->store);
    s->disks = g_ptr_array_new();
    s->reserved = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    s->turn_ms = TURN_MS;
    s->gone_ms = EXPORT_GONE_MS;
    server_events_init(s);
    s->exports = g_ptr_array_new();
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static bool end_disk(struct server *s, struct disk *d)
{
    return disk_store_settle(s->store, d) && server_end_disk(s, d);
}

bool server_free(struct server *s)
{
    bool ended = true;

    /* Events and exports on their way out are idle callbacks: let them come first. */
    while (g_main_context_iteration(NULL, FALSE))
        ;
    if (server_has_turns(s)) /* a thread works at a change, and does not end */
        return false;
    server_free_exports(s);
    for (unsigned i = s->disks->len; i-- > 0;)
        ended = end_disk(s, s->disks->pdata[i]) && ended;
    if (!ended) /* a thread is left, which uses a disk and what is the disk's */
        return false;
    g_ptr_array_unref(s->disks);
    disk_store_free(s->store);
    scratch_pool_free(s->scratch);
    g_hash_table_unref(s->reserved);
    server_events_clear(s);
    pthread_mutex_destroy(&s->lock);
    g_free((char *)s->options.scratch_dir);
    g_free(s);
    return true;
}

GPtrArray *server_take_disks(struct server *s)
{
    GPtrArray *disks = g_ptr_array_new(), *all;

    while (g_main_context_iteration(NULL, FALSE)) /* as in server_free */
        ;
    all = s->disks;
    s->disks = g_ptr_array_new();
    for (unsigned i = 0; i < all->len; i++) {
        struct disk *d = all->pdata[i];

        bool changes = disk_has_turn(s, d);

        if (changes)
            log_error("disk %s: a change of it has not ended: it waits for the last", disk_name(d));
        g_ptr_array_add(changes ? s->disks : disks, d);
    }
    g_ptr_array_unref(all);
    return disks;
}

bool server_settle_disk(struct server *s, struct disk *d)
{
    if (!server_free_exports_of(s, d)) {
        log_error("disk %s: a client still uses it: it is not closed", disk_name(d));
        return false;
    }
    return disk_store_settle(s->store, d);
}

bool server_end_disk(struct server *s, struct disk *d)
{
    disk_store_detach(s->store, d);
    return disk_free(d);
}

const struct server_options *server_options(const struct server *s)
{
    return &s->options;
}

struct scratch_pool *server_scratch_pool(struct server *s)
{
    return s->scratch;
}

static void view_broken(void *opaque, const char *view, const char *disk, const char *reason)
{
    const struct server_event event = {
        .kind = EVENT_VIEW_BROKEN, .name = view, .disk = disk, .reason = reason};

    log_error("view %s of disk %s is broken: %s", view, disk, reason);
    server_emit(opaque, &event);
}

static void bitmap_inconsistent(void *opaque, const char *disk, const char *bitmap,
                                const char *reason)
{
    const struct server_event event = {
        .kind = EVENT_BITMAP_INCONSISTENT, .disk = disk, .name = bitmap, .reason = reason};

    log_error("bitmap %s of disk %s is inconsistent: %s", bitmap, disk, reason);
    server_emit(opaque, &event);
}

/* Give a disk its live export, and what the store has of it. */
static int set_up_disk(struct server *s, struct disk *d, GError **err)
{
    struct export_options o = {.name = disk_name(d), .node = disk_node(d), .live = true};

    o.writable = !disk_readonly(d);
    if (disk_store_attach(s->store, d, err) < 0)
        return -1;
    return server_export_add(s, &o, err);
}

/* A view that an earlier server has left may have the name: it goes before clients are let in. */
struct disk *server_add_disk(struct server *s, const char *name, struct backend *backend,
                             GError **err)
{
    const struct disk_events events = {
        .view_broken = view_broken, .bitmap_inconsistent = bitmap_inconsistent, .opaque = s};
    const struct disk_config config = {
        .name = name,
        .backend = backend,
        .readonly = s->options.readonly,
        .scratch = s->scratch,
        .events = &events,
    };
    struct disk *d;

    if (name[0] == '\0' || strlen(name) > MAX_NBD_STRING || server_find_disk(s, name)) {
        backend->ops->free(backend);
        fail(err,
             server_find_disk(s, name) ? "disk %s: there is one of that name already"
                                       : "disk '%s': not a name for a disk",
             name);
        return NULL;
    }
    d = disk_new(&config, err);
    if (!d)
        return NULL;
    g_ptr_array_add(s->disks, d);
    if (set_up_disk(s, d, err) < 0) {
        g_ptr_array_remove(s->disks, d);
        end_disk(s, d);
        return NULL;
    }
    return d;
}

int server_start_store(struct server *s, GError **err)
{
    return disk_store_start(s->store, err);
}

const char *server_disk_recovery(const struct server *s, const struct disk *d)
{
    return disk_store_recovery(s->store, d);
}

GPtrArray *server_disks(struct server *s)
{
    return g_ptr_array_copy(s->disks, NULL, NULL);
}

GPtrArray *server_views(struct server *s)
{
    GPtrArray *all = g_ptr_array_new();

    for (unsigned i = 0; i < s->disks->len; i++)
        g_ptr_array_extend_and_steal(all, disk_views(s->disks->pdata[i]));
    return all;
}

struct disk *server_find_disk(struct server *s, const char *name)
{
    for (unsigned i = 0; i < s->disks->len; i++)
        if (strcmp(disk_name(s->disks->pdata[i]), name) == 0)
            return s->disks->pdata[i];
    return NULL;
}

struct node *server_find_node(struct server *s, const char *name)
{
    g_autoptr(GPtrArray) views = server_views(s);
    struct disk *d = server_find_disk(s, name);

    if (d)
        return disk_node(d);
    for (unsigned i = 0; i < views->len; i++)
        if (strcmp(view_name(views->pdata[i]), name) == 0)
            return view_node(views->pdata[i]);
    return NULL;
}

static gboolean wake_up(gpointer unused)
{
    return G_SOURCE_CONTINUE;
}

static bool is_taken(struct server *s, const char *name)
{
    return server_find_node(s, name) || g_hash_table_contains(s->reserved, name);
}

int server_reserve_node_name(struct server *s, const char *name, GError **err)
{
    if (!name_is_well_formed(name))
        return fail(err, "Invalid node-name: '%s'", name);
    if (is_taken(s, name))
        return fail(err, "Duplicate nodes with node-name='%s'", name);
    if (strlen(name) > MAX_NODE_NAME)
        return fail(err, "Node name too long");
    g_hash_table_add(s->reserved, g_strdup(name));
    return 0;
}

int server_reserve_own_node_name(struct server *s, const char *name, GError **err)
{
    if (is_taken(s, name))
        return fail(err, "Duplicate nodes with node-name='%s'", name);
    g_hash_table_add(s->reserved, g_strdup(name));
    return 0;
}

void server_release_node_name(struct server *s, const char *name)
{
    g_hash_table_remove(s->reserved, name);
}

bool server_end_changes(struct server *s, unsigned ms)
{
    gint64 deadline = g_get_monotonic_time() + (gint64)ms * 1000;

    server_refuse_turns(s);
    departures_cancel(s);
    server_cancel_commits(s);
    gint64 left;

    while (server_has_turns(s) && (left = deadline - g_get_monotonic_time()) > 0) {
        guint timer = g_timeout_add((guint)(left / 1000 + 1), wake_up, NULL);

        g_main_context_iteration(NULL, TRUE);
        g_source_remove(timer);
    }
    return !server_has_turns(s);
}

void server_set_quit(struct server *s, void (*quit)(void *opaque), void *opaque)
{
    s->quit = quit;
    s->quit_opaque = opaque;
}

void server_quit(struct server *s)
{
    if (s->quit)
        s->quit(s->quit_opaque);
}
