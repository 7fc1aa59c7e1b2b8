/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Backup sessions: views of some disks at one instant, each exported with the frozen map of what has
 * changed since a checkpoint.
 *
 * A session is begun as an action of an instant (server/disk/instant.h). It is ended in two parts: the
 * decision, which is durable (its checkpoint is kept, or is removed with its bitmaps), and then the
 * taking down (its exports end, with their clients; its views are deleted). So a decision that the
 * state folder does not take leaves the session as it was, and one that it has taken holds whatever
 * becomes of a client that hangs.
 *
 * Control thread only.
 */
#ifndef BACKUP_SESSIONS_H
#define BACKUP_SESSIONS_H

#include "server/backup/checkpoints.h"
#include "server/backup/session-record.h"

struct sessions; /* of a server */

struct session_options {
    unsigned lease;          /* seconds; the default of sessions; 0: they have none */
    const char *freeze_hook; /* quiesce.h; NULL: none */
    unsigned freeze_timeout; /* seconds */
};

struct sessions *sessions_new(struct server *s, struct checkpoints *c,
                              const struct session_options *o);
/* At the start, after checkpoints_restore's conditions: what the state folder has. */
int sessions_restore(struct sessions *all, GError **err);
/* The server begins to end: leases end no session any more, and no guest is frozen any more. An instant
 * whose guests are being frozen fails soon. */
void sessions_stop(struct sessions *all);
/* After sessions_stop: iterate the main context until guests that stand still have been thawed, or cannot
 * be, or the time that their hooks have is over. */
void sessions_wait_for_hooks(struct sessions *all);
/* False: an instant that hangs uses some of them. Then all that it may need is left, which needs the
 * checkpoints, too. */
bool sessions_free(struct sessions *all);

struct session_request_disk {
    struct disk *disk;
    const char *since;           /* NULL: the session's */
    const char *export, *bitmap; /* NULL: ID/DISK, backup-DISK */
};
struct session_request {
    const char *id, *since, *checkpoint; /* the last two may be NULL */
    const GArray *disks;                 /* struct session_request_disk; not empty */
    bool strict, discard;
    bool alone;             /* of listeners; see server_export_check_name */
    int64_t lease;          /* seconds; < 0: the server's default; 0: none */
    uint64_t scratch_limit; /* of all its views together, bytes; 0: none */
    uint32_t granularity;   /* of its checkpoint's bitmaps; 0: the default */
};

struct session;

/* Stage the beginning. The session is there when the instant is done; nothing is, when it fails.
 * *session is valid then. -1 and *err. */
int session_stage_begin(struct sessions *all, struct instant *i, const struct session_request *r,
                        struct session **session, GError **err);

/* By id; NULL and *err: there is none; one that has ended says how and why:
 * `Backup session 'ID' was aborted: its lease of 60 s has ended`. */
struct session *session_find(struct sessions *all, const char *id, GError **err);

/* One that has begun is still there, and nothing is about to end it. -1 and *err: how it ends or has
 * ended. */
int session_check(const struct session *n, GError **err);

/* The lease begins anew, of `lease` seconds (< 0: as it was; 0: none). `done` is called once, perhaps
 * before this returns: `error` NULL: it has begun, and is durable, so that it is the same after a restart;
 * else it is as it was. Borrowed. */
void session_renew(struct session *n, int64_t lease,
                   void (*done)(void *opaque, const GError *error), void *opaque);

/* `done` is called once, perhaps before this returns: `error` NULL: the decision is durable, and what
 * could be taken down is; else nothing has changed. Borrowed. */
void session_end(struct session *n, bool commit, const char *reason,
                 void (*done)(void *opaque, const GError *error), void *opaque);

/* All sessions lose their exports, which the caller takes away: they are aborted, with this reason, as
 * soon as that can be done. */
void sessions_abort_all(struct sessions *all, const char *reason);

struct session_disk_info {
    struct disk *disk;
    const char *export,
        *bitmap;   /* NBD names: the export; the context is qemu:dirty-bitmap:BITMAP */
    bool shadowed; /* a disk has the export's name: struct export_info */
    bool incremental;
    const char *since;  /* NULL: in full, as asked for */
    const char *reason; /* why it is full although a base was asked for; or NULL */
    uint64_t size;      /* bytes, of the view */
    uint64_t dirty_bytes;
    uint64_t scratch_bytes; /* kept for its view now */
    unsigned clients;
};
struct session_info {
    const char *id, *since, *checkpoint; /* the last two may be NULL */
    enum session_state state;
    const char *reason; /* why it was aborted; or NULL */
    int64_t time_usec;  /* of the instant; wall clock, microseconds since 1970 */
    int64_t lease;      /* seconds; 0: none */
    int64_t lease_left; /* seconds until it ends, if nothing happens; -1: a client holds it, or it
                               has none */
    bool discard, resumed;
    bool hooked; /* there was a hook; then: */
    bool quiesced;
    const char *quiesce_error; /* or NULL */
    uint64_t scratch_limit, scratch_used;
    GArray *disks; /* struct session_disk_info; empty where it has ended */
};
/* Of one; the strings are borrowed until the session changes. session_info_clear frees the array. */
void session_info(struct session *n, struct session_info *info);
void session_info_clear(struct session_info *info);
/* All, in order of their beginnings, also the last 64 that have ended: GArray of struct session_info,
 * which clears its elements. */
GArray *sessions_list(struct sessions *all);

#endif
