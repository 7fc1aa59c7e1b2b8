/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the state folder keeps of a checkpoint, as JSON text. Pure: no I/O. Any thread.
 *
 *   {"time-usec": INTEGER, "disks": [NAME, ...], "description": TEXT, "session": ID,
 *    "deleted": BOOLEAN}
 *
 * The last three may be missing. Other members are ignored: a later version may write some.
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
};

/* An empty one, but for its name. */
struct checkpoint_record *checkpoint_record_new(const char *name);
void checkpoint_record_free(struct checkpoint_record *r);

/* The text of one as it is, or as it will be when it is no longer pending; g_free(). */
char *checkpoint_record_text(const struct checkpoint_record *r);
char *checkpoint_record_text_kept(const struct checkpoint_record *r);
/* Nothing is taken on trust. NULL and *err. */
struct checkpoint_record *checkpoint_record_parse(const char *name, const char *text, GError **err);

#endif
