/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's checkpoints and backup sessions, read from its answers and checked.
 *
 * Strings are borrowed from the answer. A string that the server left out is NULL, a number 0; names
 * are never NULL.
 */
#ifndef CLIENT_QMP_BACKUPS_H
#define CLIENT_QMP_BACKUPS_H

#include "client/qmp/qmp.h"

#include <stdbool.h>
#include <stdint.h>

/* A checkpoint's part on one disk. */
struct checkpoint_part {
    const char *disk, *bitmap, *reason; /* reason: why it is not valid */
    uint64_t granularity, dirty;        /* bytes */
    bool valid;                         /* it can be a base */
};

struct checkpoint_entry {
    const char *name, *description, *parent;
    int64_t time;   /* of its instant, microseconds since 1970; 0: not told */
    GArray *parts;  /* struct checkpoint_part */
    JsonNode *node; /* all that the server says of it; borrowed */
};

/* A disk of a session. */
struct session_disk {
    const char *disk, *export, *uri, *mode, *reason; /* reason: why it is full */
    const char *context;                             /* by which clients find its map */
    uint64_t dirty, size, scratch, clients;
    const char *quiesce_error; /* why its guest was not quiesced; only backup-begin tells it here */
};

struct session_entry {
    const char *id, *state, *reason, *since, *checkpoint, *quiesce_error;
    int64_t time;               /* as above */
    bool active;                /* it has not ended */
    bool resumed;               /* it goes on from an earlier server */
    uint64_t lease, lease_left; /* seconds */
    bool has_lease_left;        /* false: its lease does not run */
    uint64_t scratch;           /* bytes kept for its views */
    GArray *disks;              /* struct session_disk */
};

/* What the server answers to query-checkpoints: an array of struct checkpoint_entry, oldest first.
 * *reply is what the strings are borrowed from. The caller frees both. NULL and *err; *reply may be
 * set. */
GArray *checkpoints_get(struct qmp *q, JsonNode **reply, GError **err);
/* The same of query-backups: struct session_entry. */
GArray *sessions_get(struct qmp *q, JsonNode **reply, GError **err);

/* What backup-begin has answered: an array of struct session_disk. NULL and *err. */
GArray *session_disks_read(JsonNode *reply, GError **err);

/* The checkpoint of this name; NULL and *err. */
const struct checkpoint_entry *checkpoints_find(const GArray *checkpoints, const char *name,
                                                GError **err);

#endif
