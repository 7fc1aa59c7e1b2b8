/* SPDX-License-Identifier: BSD-3-Clause */
/* The server, for the files of the registry. A field belongs to the file named beside it. */
#ifndef REGISTRY_REGISTRY_PRIVATE_H
#define REGISTRY_REGISTRY_PRIVATE_H

#include "server/registry/registry.h"

#include <pthread.h>

/* NBD proto.md: strings are at most 4096 bytes. */
#define MAX_NBD_STRING 4096

struct server {
    struct server_options options;
    struct scratch_pool *scratch;
    struct disk_store *store; /* disk-store.c; NULL: none */
    GPtrArray *disks;         /* registry.c: struct disk, in order of creation */
    GHashTable *reserved;     /* registry.c: names of nodes to be made; a set of owned strings */
    GArray *sinks;            /* event.c: struct sink */
    GQueue commits;           /* commit.c: struct commit that wait */
    GQueue turns;             /* turn.c: struct turn, in the order in which they were asked for */
    guint turn_source;        /* turn.c: lets turns begin; 0: none */
    unsigned turn_ms;         /* turn.c: a turn that has not begun after so long fails */
    unsigned gone_ms;         /* export-removal.c: EXPORT_GONE_MS, or what a test can wait for */
    bool no_turns;            /* turn.c: the server ends */
    void (*quit)(void *opaque);
    void *quit_opaque;

    pthread_mutex_t lock;
    GQueue events;      /* event.c: struct server_event, each with an idle callback to tell it */
    GPtrArray *exports; /* export.c: struct export, references, in order of creation; also those
                           that are going */
    GQueue departures;  /* departure.c: struct departure */
};

/* event.c: no event is on its way at the end. */
void server_events_init(struct server *s);
void server_events_clear(struct server *s);

/* export.c: release all exports; no client is attached, and nobody hears of it. */
void server_free_exports(struct server *s);
/* Release those of a disk and its views, unless a client is attached to one of them: then false. */
bool server_free_exports_of(struct server *s, struct disk *d);

#endif
