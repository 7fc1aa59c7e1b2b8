/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Checkpoints: named instants of one or more disks. A checkpoint owns one recording bitmap on each of
 * its disks, which has the checkpoint's name: what has changed since. With a state folder, a checkpoint
 * is a record (checkpoint-record.h) beside its bitmaps.
 *
 * Changes are actions of an instant (server/disk/instant.h): they take effect when it is done, and
 * leave nothing behind when it fails. The caller has a turn on the disks (server/registry/turn.h).
 *
 * A checkpoint that a backup session has begun is pending: its name is taken and its bitmaps record,
 * but it is not listed, and it is no base, before the session is committed.
 *
 * Control thread only.
 */
#ifndef BACKUP_CHECKPOINTS_H
#define BACKUP_CHECKPOINTS_H

#include "server/disk/instant.h"
#include "server/registry/registry.h"

struct checkpoints; /* of a server */

struct checkpoints *checkpoints_new(struct server *s);
/* False: an instant that hangs uses one of them, and they are left. */
bool checkpoints_free(struct checkpoints *c);
/* At the start, when all disks are there and the store is started, before clients are let in: take what
 * the state folder has. `is_session` says whether the session of a pending checkpoint lives on (NULL:
 * none does); else it is removed with its bitmaps. What cannot be used is logged. -1 and *err: the
 * folder failed. */
int checkpoints_restore(struct checkpoints *c, bool (*is_session)(void *opaque, const char *id),
                        void *opaque, GError **err);

struct checkpoint_options {
    const char *name, *description; /* description NULL: none */
    const GPtrArray *disks;         /* struct disk, without duplicates; not empty */
    uint32_t granularity;           /* of its bitmaps, bytes; 0: the default */
    const char *session;            /* pending, until this session is committed; NULL: it is not */
};

/* Each stages its part. -1 and *err. */
int checkpoint_stage_create(struct checkpoints *c, struct instant *i,
                            const struct checkpoint_options *o, GError **err);
/* The session is committed: its checkpoint is one as others from now on. */
int checkpoint_stage_keep(struct checkpoints *c, struct instant *i, const char *name, GError **err);
/* `session`: of a pending one, by its session; NULL: of one that is not pending. One that a session
 * reads from is refused. `reason`: for CHECKPOINT_DELETED; NULL: nobody is told. */
int checkpoint_stage_delete(struct checkpoints *c, struct instant *i, const char *name,
                            const char *session, const char *reason, GError **err);

/* The disks that a change of this checkpoint has to have a turn on: adds to `disks`; nothing, if there
 * is no such checkpoint (pending ones count). */
void checkpoint_disks(struct checkpoints *c, const char *name, GPtrArray *disks);

/* The bitmap of a checkpoint that is not pending, for a base: a reference. NULL and *why (g_free(), for
 * people: "there is no checkpoint 'mon'", "checkpoint 'mon' has no part of disk vdb", "its bitmap is
 * inconsistent: ..."): it is none. */
struct dirty_bitmap *checkpoint_base(struct checkpoints *c, const char *name, struct disk *d,
                                     char **why);

/* Does a checkpoint, also a pending one, have a bitmap of this name on the disk, be it gone or not?
 * Then nobody else can have one. */
bool checkpoint_has_bitmap(struct checkpoints *c, const struct disk *d, const char *name);

struct checkpoint_disk {
    struct disk *disk;  /* NULL: this server does not serve it */
    const char *name;   /* of the disk */
    const char *bitmap; /* its name */
    int64_t id;         /* of the disk that it was made on (disk_store_id); 0: not known */
    bool gone;          /* the bitmap is */
};
/* Its bitmap, a reference, also where it is inconsistent. NULL: it is not there. Where it is no base,
 * *why says so (g_free(), for people), else it is NULL. */
struct dirty_bitmap *checkpoint_bitmap(const struct checkpoint_disk *part, char **why);
struct checkpoint_info {
    const char *name, *description; /* description may be NULL */
    const char *parent;             /* the one before it; NULL: it is the oldest */
    int64_t time_usec;              /* of the instant; wall clock, microseconds since 1970 */
    const GArray *disks;            /* struct checkpoint_disk */
};
/* Those that are not pending, oldest first: GArray of struct checkpoint_info, which borrows from `c`
 * until the next change. */
GArray *checkpoints_list(struct checkpoints *c);

#endif
