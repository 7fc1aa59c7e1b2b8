/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the state folder keeps of a checkpoint, as JSON text. Pure: no I/O. Any thread.
 *
 *   {"time-usec": INTEGER, "disks": [NAME, ...], "disk-ids": [INTEGER, ...], "description": TEXT,
 *    "session": ID, "deleted": BOOLEAN}
 *
 * The last four may be missing. A bitmap belongs to the checkpoint by its name and its disk. Disks may
 * exchange their names, and one may get the name of a disk that is gone: so `disk-ids` has, in the order
 * of `disks`, the numbers that the state folder gives them; 0: not known. Without it names alone
 * count. Other members are ignored: a later version may write some.
 */
#ifndef BACKUP_CHECKPOINT_RECORD_H
#define BACKUP_CHECKPOINT_RECORD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define CHECKPOINT_KIND            "checkpoint" /* of the record */
#define CHECKPOINT_MAX_NAME        255          /* bytes */
#define CHECKPOINT_MAX_DESCRIPTION 4096

/* Strings are owned. */
struct checkpoint_record {
    char *name;
    char *description; /* NULL: none */
    char *session;     /* it is pending until this session is committed; NULL: it is not */
    bool deleted;      /* it is gone but for bitmaps of these disks, which nobody served then */
    int64_t time_usec; /* of the instant; wall clock, microseconds since 1970 */
    GPtrArray *disks;  /* their names, char *; not empty, no duplicates */
    GArray *disk_ids;  /* int64_t, of the first of `disks`: disk_store_id; 0, or none: not known */
};

/* An empty one, but for its name. */
struct checkpoint_record *checkpoint_record_new(const char *name);
void checkpoint_record_free(struct checkpoint_record *r);

/* `name` is copied; `id` is the store's of the disk, 0: not known. */
void checkpoint_record_add_disk(struct checkpoint_record *r, const char *name, int64_t id);
/* 0: not known. */
int64_t checkpoint_record_disk_id(const struct checkpoint_record *r, unsigned disk);

/* The text of one as it is, or as it will be when it is no longer pending; g_free(). */
char *checkpoint_record_text(const struct checkpoint_record *r);
char *checkpoint_record_text_kept(const struct checkpoint_record *r);
/* Nothing is taken on trust. NULL and *err. */
struct checkpoint_record *checkpoint_record_parse(const char *name, const char *text, GError **err);

#endif
