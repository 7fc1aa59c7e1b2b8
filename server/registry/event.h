/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Events: what has happened in the server and somebody outside may want to know. Emitted from any
 * thread, told on the control thread.
 */
#ifndef REGISTRY_EVENT_H
#define REGISTRY_EVENT_H

#include <stdint.h>

struct server;

enum server_event_kind {
    EVENT_VIEW_BROKEN,          /* name, disk, reason */
    EVENT_BITMAP_INCONSISTENT,  /* disk, name (of the bitmap), reason */
    EVENT_SCRATCH_LOW,          /* used, limit */
    EVENT_BLOCK_EXPORT_DELETED, /* id */
    EVENT_CHECKPOINT_DELETED,   /* name, reason */
    EVENT_BACKUP_ENDED,         /* id, result ("commit" or "abort"), reason (may be NULL) */
    EVENT_SHUTDOWN,             /* reason */
};

/* Each kind sets the fields that its line names; the others are NULL or 0. */
struct server_event {
    enum server_event_kind kind;
    const char *name, *disk, *id, *result, *reason;
    uint64_t used, limit; /* bytes */
    int64_t time_usec;    /* wall clock when it happened, microseconds since 1970 */
};

/* Say that something has happened; the time is set here. `event` and its strings stay the caller's.
 * Any thread, also with locks held: it does not wait and calls nobody back. */
void server_emit(struct server *s, const struct server_event *event);

/* Sinks are called on the control thread, in order of addition, for each event in the order in
 * which they were emitted; the event is borrowed. Control thread. */
typedef void (*server_event_sink)(void *opaque, const struct server_event *event);
void server_add_event_sink(struct server *s, server_event_sink sink, void *opaque);
void server_remove_event_sink(struct server *s, server_event_sink sink, void *opaque);

#endif
