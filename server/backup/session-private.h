/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of backup sessions share. From the ground up: session-record.c (what the state
 * folder keeps), session.c (the object), session-views.c and session-end.c (how one ends), lease.c,
 * session-renew.c, quiescing.c (the hook of an instant), session-begin.c, session-restore.c, sessions.c
 * (all of them, the start of the server). Control thread, but for what is marked otherwise.
 */
#ifndef BACKUP_SESSION_PRIVATE_H
#define BACKUP_SESSION_PRIVATE_H

#include "server/backup/session-record.h"
#include "server/backup/sessions.h"
#include "server/disk/view-quota.h"

/* So many sessions that have ended are still listed. */
#define SESSIONS_MOST_ENDED 64

struct sessions {
    struct server *server;
    struct checkpoints *checkpoints;
    struct session_options options;
    GPtrArray *list;      /* struct session, references, in order of their beginnings */
    GPtrArray *quiescing; /* struct quiescing (quiescing.c): of instants under way */
    bool stopped;         /* the server ends: no session is ended any more by itself */
};

/* A disk of a session that lives. Its names are in the struct session_record_disk of the same index. */
struct session_disk {
    struct disk *disk;
    char *node;                  /* ID/DISK: the view's name and the export's id */
    bool reserved;               /* that name is, and the export is */
    struct dirty_bitmap *base;   /* a reference; busy while the session lives; NULL: none */
    struct dirty_bitmap *frozen; /* a reference; NULL: the session has ended */
    struct view *view;           /* in use by us; NULL: not there yet, or deleted */
    struct export *export;       /* a reference; NULL likewise */
    uint64_t dirty_bytes;
};

struct session {
    unsigned references;
    struct sessions *all;
    struct session_record record;
    struct session_disk *disks; /* one for each of record.disks; NULL: of an earlier server */
    struct view_quota *quota;
    bool begun;   /* its instant has been */
    bool ending;  /* its end is being decided */
    bool resumed; /* it goes on from an earlier server */
    bool changed; /* at the start: its record is to be written anew */
    bool dropped; /* an end that is being decided removes its record */

    int64_t renewed;   /* g_get_monotonic_time: when the lease began anew */
    guint lease_timer; /* 0: none */
    unsigned renewals; /* that are being recorded: the lease does not end meanwhile */

    char *doom;        /* why it is to be aborted as soon as that can be done; NULL: it is not */
    bool doom_told;    /* that an attempt at that failed has been logged */
    guint retry_timer; /* another attempt at that, or at its views; 0: none */
    guint retries;     /* attempts at that that have failed */

    bool exports_ended; /* its views may be deleted */
    bool deleting;      /* an attempt is under way */
    bool delete_again;  /* another one is to follow */
};

/* ---- session.c ---- */

struct session *session_ref(struct session *n);
void session_unref(struct session *n);
/* A new one of `n_disks` disks, whose names are still to be set; in the list of all. */
struct session *session_new(struct sessions *all, const char *id, unsigned n_disks);
/* Take it off the list. It has neither views nor exports. */
void session_forget(struct session *n);
/* Its end has been decided. */
static inline bool session_has_ended(const struct session *n)
{
    return n->record.state != SESSION_ACTIVE;
}
/* Let go of its disks' parts; their views are in use no longer. It has none then. */
void session_free_disks(struct session *n);
/* The name of its view of a disk, and the id of the export; g_free(). */
char *session_node_name(const struct session *n, const char *disk);
/* Take the name and the id of the export of its disk k, which has its node name. -1 and *err. */
int session_reserve_export(struct session *n, unsigned k, GError **err);
struct view_quota *session_quota_new(struct sessions *all, uint64_t limit);
/* A disk of it by whose store its record is kept; NULL: there is none, and it is not kept. */
struct disk *session_stored_disk(const struct session *n);
/* Bytes of a view of `size` bytes that are dirty. */
uint64_t session_count_dirty(struct dirty_bitmap *db, uint64_t size);
/* It has ended, and nothing is left of it but its record. */
bool session_is_down(const struct session *n);
/* Of those that are down, all but the `keep` that have ended last: borrowed pointers, new array. */
GPtrArray *sessions_of_old(struct sessions *all, unsigned keep);
/* By id, also one that has ended, and, unless `begun`, one that has not begun; NULL. */
struct session *sessions_lookup(struct sessions *all, const char *id, bool begun);

/* ---- session-views.c ---- */

/* To be called once, when it and its exports have ended: delete those of its views that nobody uses any
 * more; the others follow later. `done`: this has been tried. */
void session_delete_views(struct session *n, void (*done)(void *opaque), void *opaque);
/* Some export has ended, and perhaps it was the last that used one of the views. */
void session_export_ended(struct session *n);

/* ---- session-end.c ---- */

/* It has ended: say how. -1. */
int session_fail_ended(const struct session *n, GError **err);
/* Abort it as soon as it has begun and the state folder takes the decision; nobody waits for that. */
void session_doom(struct session *n, const char *reason);
/* It has just begun: it may have been doomed before. */
void session_pursue_doom(struct session *n);

/* ---- lease.c ---- */

void session_lease_begin(struct session *n);
/* Microseconds until the lease ends, if no client comes; -1: a client is there, or it has no lease. */
int64_t session_lease_left(struct session *n);

/* ---- session-restore.c ---- */

/* One of the last server, without disks; it has begun. It goes on, or is aborted. In two steps, the
 * second when the checkpoints are there. */
void session_take_up(struct session *n);
void session_go_on(struct session *n);
/* Delete all views that no session has. */
void sessions_delete_left_views(struct sessions *all);

/* ---- quiescing.c ---- */

/* Guests of this session's disks are to be quiesced around the instant, if there is a hook. What
 * came of it is in the session's record when the instant is done. */
int session_stage_quiesce(struct session *n, struct instant *i, bool strict, GError **err);
/* The server begins to end: no guest is frozen any more. */
void sessions_cut_hooks(struct sessions *all);

#endif
