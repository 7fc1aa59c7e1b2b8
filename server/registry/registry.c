/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The registry. `lock` guards the list of exports, their clients and their state, and the queue of
 * events, which other threads touch; disks and views change on the control thread alone.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/registry/registry-private.h"

#include <string.h>

struct sink {
    server_event_sink function;
    void *opaque;
};

/* ---- the server ---- */

static void scratch_low(void *opaque, uint64_t used, uint64_t limit)
{
    server_emit(opaque, EVENT_SCRATCH_LOW, NULL, NULL, NULL, used, limit);
}

static const char *default_scratch_dir(void)
{
    const char *dir = g_getenv("TMPDIR");

    return dir && dir[0] ? dir : "/var/tmp";
}

struct server *server_new(const struct server_options *options)
{
    struct server *s = g_new0(struct server, 1);
    pthread_condattr_t attr;

    s->options = *options;
    s->options.scratch_dir =
        g_strdup(options->scratch_dir ? options->scratch_dir : default_scratch_dir());
    s->scratch = scratch_pool_new(s->options.scratch_dir, options->scratch_limit, scratch_low, s);
    s->disks = g_ptr_array_new();
    s->sinks = g_array_new(FALSE, FALSE, sizeof(struct sink));
    s->exports = g_ptr_array_new();
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->detached, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

bool server_free(struct server *s)
{
    bool ended = true;

    /* Events and exports on their way out are idle callbacks: let them come first. */
    while (g_main_context_iteration(NULL, FALSE))
        ;
    server_free_exports(s);
    for (unsigned i = s->disks->len; i-- > 0;)
        ended = disk_free(s->disks->pdata[i]) && ended;
    g_ptr_array_unref(s->disks);
    scratch_pool_free(s->scratch);
    g_array_unref(s->sinks);
    pthread_cond_destroy(&s->detached);
    pthread_mutex_destroy(&s->lock);
    g_free((char *)s->options.scratch_dir);
    g_free(s);
    return ended;
}

GPtrArray *server_take_disks(struct server *s)
{
    GPtrArray *disks = s->disks;

    while (g_main_context_iteration(NULL, FALSE)) /* as in server_free */
        ;
    s->disks = g_ptr_array_new();
    return disks;
}

bool server_end_disk(struct server *s, struct disk *d)
{
    if (server_free_exports_of(s, d))
        return disk_free(d);
    log_error("disk %s: a client still uses it: it is not closed", disk_name(d));
    return false;
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
    log_error("view %s of disk %s is broken: %s", view, disk, reason);
    server_emit(opaque, EVENT_VIEW_BROKEN, view, disk, reason, 0, 0);
}

struct disk *server_add_disk(struct server *s, const char *name, struct backend *backend,
                             GError **err)
{
    const struct disk_events events = {.view_broken = view_broken, .opaque = s};
    const struct disk_config config = {
        .name = name,
        .backend = backend,
        .readonly = s->options.readonly,
        .scratch = s->scratch,
        .events = &events,
    };
    struct disk *d;
    struct export_options o = {.name = name, .writable = true, .live = true};

    if (name[0] == '\0' || strlen(name) > MAX_NBD_STRING || server_find_node(s, name)) {
        backend->ops->free(backend);
        fail(err,
             server_find_node(s, name) ? "disk %s: there is one of that name already"
                                       : "disk '%s': not a name for a disk",
             name);
        return NULL;
    }
    d = disk_new(&config, err);
    if (!d)
        return NULL;
    g_ptr_array_add(s->disks, d);
    o.node = disk_node(d);
    o.writable = !disk_readonly(d);
    if (server_export_add(s, &o, err) < 0) {
        g_ptr_array_remove(s->disks, d);
        disk_free(d);
        return NULL;
    }
    return d;
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

/* ---- events ---- */

void server_add_event_sink(struct server *s, server_event_sink sink, void *opaque)
{
    struct sink entry = {.function = sink, .opaque = opaque};

    g_array_append_val(s->sinks, entry);
}

void server_remove_event_sink(struct server *s, server_event_sink sink, void *opaque)
{
    for (unsigned i = 0; i < s->sinks->len; i++) {
        struct sink *entry = &g_array_index(s->sinks, struct sink, i);

        if (entry->function == sink && entry->opaque == opaque) {
            g_array_remove_index(s->sinks, i);
            return;
        }
    }
}

static void event_free(struct server_event *event)
{
    g_free(event->name);
    g_free(event->disk);
    g_free(event->reason);
    g_free(event);
}

static gboolean tell(gpointer server)
{
    struct server *s = server;
    struct server_event *event;

    pthread_mutex_lock(&s->lock);
    event = g_queue_pop_head(&s->events);
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->sinks->len; i++) {
        struct sink *entry = &g_array_index(s->sinks, struct sink, i);

        entry->function(entry->opaque, event);
    }
    event_free(event);
    return G_SOURCE_REMOVE;
}

void server_emit(struct server *s, enum server_event_kind kind, const char *name, const char *disk,
                 const char *reason, uint64_t used, uint64_t limit)
{
    struct server_event *event = g_new0(struct server_event, 1);

    *event = (struct server_event){
        .kind = kind,
        .name = g_strdup(name),
        .disk = g_strdup(disk),
        .reason = g_strdup(reason),
        .used = used,
        .limit = limit,
        .time_usec = g_get_real_time(),
    };
    pthread_mutex_lock(&s->lock);
    g_queue_push_tail(&s->events, event);
    pthread_mutex_unlock(&s->lock);
    g_idle_add_full(G_PRIORITY_DEFAULT, tell, s, NULL);
}
