/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of checkpoints share. */
#ifndef BACKUP_CHECKPOINTS_PRIVATE_H
#define BACKUP_CHECKPOINTS_PRIVATE_H

#include "server/backup/checkpoint-record.h"
#include "server/backup/checkpoints.h"

enum checkpoint_state {
    CHECKPOINT_BEGINS, /* its instant has not been; its name is taken */
    CHECKPOINT_EXISTS,
    CHECKPOINT_ENDS, /* the instant that deletes it has not been */
};

struct checkpoint {
    struct checkpoints *all;
    struct checkpoint_record *record;
    enum checkpoint_state state;
    GArray *disks; /* struct checkpoint_disk, for each of the record's */
};

struct checkpoints {
    struct server *server;
    GPtrArray *list; /* struct checkpoint, owned; oldest first */
    /* struct checkpoint_record, owned: of those that are deleted but for bitmaps of disks that are not
     * served. Their records, and so their names, are in use. */
    GPtrArray *rests;
};

/* checkpoint-list.c */

/* By name, whatever its state; NULL: there is none. */
struct checkpoint *checkpoint_find(struct checkpoints *c, const char *name);
/* Add one to the list, which is about to begin, with its record, which becomes its own. */
struct checkpoint *checkpoint_add(struct checkpoints *c, struct checkpoint_record *record);
void checkpoint_forget(struct checkpoint *p);
/* A disk by way of which its record can be changed; NULL: there is none. */
struct disk *checkpoint_record_disk(const struct checkpoint *p);

#endif
