/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the server looks after, read from its query- commands and checked: disks, bitmaps, views.
 *
 * Strings are borrowed from the inventory. A string that the server left out is NULL, a number 0;
 * names are never NULL.
 */
#ifndef CLIENT_QMP_INVENTORY_H
#define CLIENT_QMP_INVENTORY_H

#include "client/qmp/qmp.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_entry {
    const char *name, *driver, *file;
    uint64_t size; /* bytes */
    bool readonly;
    GArray *bitmaps; /* of struct bitmap_entry */
};

struct bitmap_entry {
    const char *name, *inconsistent_reason, *checkpoint; /* the last: which owns it */
    uint64_t count, granularity;                         /* bytes that are dirty; bytes of a bit */
    bool recording, busy, persistent, inconsistent;
};

struct view_entry {
    const char *name, *disk, *on_cbw_error, *reason;
    uint64_t size, scratch, scratch_limit; /* bytes; limit 0: none of its own */
    int64_t instant;                       /* microseconds since 1970; 0: not told */
    bool broken, exported;
};

typedef struct inventory {
    GArray *disks; /* of struct disk_entry, as the server lists them */
    GArray *views; /* of struct view_entry */
    JsonNode *nodes_reply, *views_reply;
} inventory;

/* Ask the server. NULL and *err. */
inventory *inventory_get(struct qmp *q, GError **err);
void inventory_free(inventory *i);

/* The disk of this name; NULL and *err, which names the disks that there are. */
const struct disk_entry *inventory_find_disk(const inventory *i, const char *name, GError **err);

/* One NBD socket at which the server listens. */
struct nbd_socket {
    const char *uri; /* without an export's name */
    bool live;       /* the disks are served there; else only exports that were added */
};

/* All sockets: an array of struct nbd_socket, whose strings are borrowed from *reply. Those with the
 * same URI (of one listener, for IPv4 and IPv6) are there once. The caller frees both. NULL and *err;
 * *reply may be set. */
GArray *inventory_nbd_sockets(struct qmp *q, JsonNode **reply, GError **err);

/* What a disk's clients have done since the server started. */
struct disk_io {
    const char *name;
    uint64_t read, written, errors; /* bytes; requests that failed */
};

/* An array of struct disk_io, as inventory_nbd_sockets. */
GArray *inventory_disk_io(struct qmp *q, JsonNode **reply, GError **err);

/* The array of objects that `command` replied with. NULL and *err if it is anything else. */
JsonArray *inventory_list(JsonNode *reply, const char *command, GError **err);

/* A string member that must be in the answer to `command`; borrowed. NULL and *err. */
const char *inventory_required(JsonObject *object, const char *member, const char *command,
                               GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(inventory, inventory_free)

#endif
