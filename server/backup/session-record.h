/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the state folder keeps of a backup session, as JSON text. Pure: no I/O. Any thread.
 *
 *   {"state": "active"|"committed"|"aborted", "time-usec": INTEGER, "disks": [DISK, ...],
 *    "since": TEXT, "checkpoint": TEXT, "reason": TEXT, "ended-usec": INTEGER, "lease": INTEGER,
 *    "scratch-limit": INTEGER, "discard": BOOLEAN, "alone": BOOLEAN, "quiesced": BOOLEAN,
 *    "quiesce-error": TEXT}
 *   DISK: {"disk": TEXT, "export": TEXT, "bitmap": TEXT, "size": INTEGER, "incremental": BOOLEAN,
 *          "since": TEXT, "reason": TEXT}
 *
 * Texts may be missing, except state, disk, export and bitmap. "quiesced" is missing where there was
 * no hook. Other members are ignored: a later version may write some.
 */
#ifndef BACKUP_SESSION_RECORD_H
#define BACKUP_SESSION_RECORD_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define SESSION_KIND   "session" /* of the record; its name is the session's id */
#define SESSION_MAX_ID 255       /* bytes */

enum session_state { SESSION_ACTIVE, SESSION_COMMITTED, SESSION_ABORTED };

/* Strings are owned, and NULL where there is none. */
struct session_record_disk {
    char *disk;
    char *export, *bitmap; /* NBD names: the export; the context is qemu:dirty-bitmap:BITMAP */
    bool incremental;
    char *since;   /* the checkpoint that was asked for */
    char *reason;  /* why it is full although a base was asked for */
    uint64_t size; /* bytes, of the view */
};

struct session_record {
    char *id, *since, *checkpoint;
    enum session_state state;
    char *reason;                   /* why it was aborted */
    int64_t time_usec;              /* of the instant; wall clock, microseconds since 1970 */
    int64_t ended_usec;             /* likewise; 0: it has not ended */
    int64_t lease;                  /* seconds; 0: none */
    uint64_t scratch_limit;         /* bytes; 0: none */
    bool alone;                     /* it began where no listener served only added exports */
    bool discard, hooked, quiesced; /* `quiesced` counts where there was a hook */
    char *quiesce_error;
    GArray *disks; /* struct session_record_disk */
};

/* An active one without disks, or one that session_record_clear has emptied. */
void session_record_init(struct session_record *r, const char *id);
void session_record_clear(struct session_record *r);

/* The text of one; g_free(). */
char *session_record_text(const struct session_record *r);
/* Nothing is taken on trust. `r` is not initialized, and is not on failure: -1 and *err. */
int session_record_parse(struct session_record *r, const char *id, const char *text, GError **err);

static inline struct session_record_disk *session_record_disk(const struct session_record *r,
                                                              unsigned i)
{
    return &g_array_index(r->disks, struct session_record_disk, i);
}

#endif
