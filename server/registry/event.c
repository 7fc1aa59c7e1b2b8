/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/event.h"
#include "server/registry/registry-private.h"

struct sink {
    server_event_sink function;
    void *opaque;
};

void server_events_init(struct server *s)
{
    s->sinks = g_array_new(FALSE, FALSE, sizeof(struct sink));
}

void server_events_clear(struct server *s)
{
    g_array_unref(s->sinks);
}

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
    g_free((char *)event->name);
    g_free((char *)event->disk);
    g_free((char *)event->id);
    g_free((char *)event->result);
    g_free((char *)event->reason);
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

void server_emit(struct server *s, const struct server_event *event)
{
    struct server_event *copy = g_new(struct server_event, 1);

    *copy = *event;
    copy->name = g_strdup(event->name);
    copy->disk = g_strdup(event->disk);
    copy->id = g_strdup(event->id);
    copy->result = g_strdup(event->result);
    copy->reason = g_strdup(event->reason);
    copy->time_usec = g_get_real_time();
    pthread_mutex_lock(&s->lock);
    g_queue_push_tail(&s->events, copy);
    pthread_mutex_unlock(&s->lock);
    g_idle_add_full(G_PRIORITY_DEFAULT, tell, s, NULL);
}
