/* SPDX-License-Identifier: BSD-3-Clause */
/* What the registry's two files share: server.c (disks, events) and exports.c. */
#ifndef REGISTRY_REGISTRY_PRIVATE_H
#define REGISTRY_REGISTRY_PRIVATE_H

#include "server/registry/registry.h"

#include <pthread.h>

/* NBD proto.md: strings are at most 4096 bytes. */
#define MAX_NBD_STRING 4096

struct server {
    struct server_options options;
    struct scratch_pool *scratch;
    GPtrArray *disks; /* struct disk, in order of creation */
    GArray *sinks;    /* struct sink */
    void (*quit)(void *opaque);
    void *quit_opaque;

    pthread_mutex_t lock;
    pthread_cond_t detached; /* an export has lost a client */
    GQueue events;           /* struct server_event, each with an idle callback that will tell it */
    GPtrArray *exports;      /* struct export, references, in order of creation; also those going */
};

/* Release all exports; no client is attached, and nobody hears of it. */
void server_free_exports(struct server *s);
/* Release those of a disk and its views, unless a client is attached to one of them: then false. */
bool server_free_exports_of(struct server *s, struct disk *d);

#endif
