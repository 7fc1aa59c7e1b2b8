/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server's side of a backup: its session, on a QMP connection that is watched meanwhile, and the
 * lease that is renewed. One thread.
 *
 * Errors are CLIENT_ERROR: UNREACHABLE where the server has gone away.
 */
#ifndef CLIENT_REPO_BACKUP_SESSION_H
#define CLIENT_REPO_BACKUP_SESSION_H

#include "client/qmp/backups.h"
#include "client/repo/backup-plan.h"

struct backup_session {
    struct qmp *qmp; /* lent */
    char *id;
    int64_t time;              /* of its instant, microseconds since 1970 */
    GArray *disks;             /* struct session_disk, each with URI, context and mode */
    const char *quiesce_error; /* why guests were not quiesced; NULL: they were, or need not be */
    /* ... what is private */
    JsonNode *reply;  /* what the above borrows from */
    unsigned lease;   /* seconds; 0: it has none */
    gint64 renew_at;  /* g_get_monotonic_time(); 0: now */
    unsigned awaited; /* replies to renewals that have not come yet */
};

/*
 * Begin a session of the chosen disks, with a checkpoint of the same name. `lease`: seconds; 0: none.
 * NULL and *err: where *begun is true then, the session may have begun all the same.
 */
struct backup_session *backup_session_begin(struct qmp *q, const char *id, const GPtrArray *choices,
                                            unsigned lease, bool *begun, GError **err);
/* The same, without a checkpoint. */
struct backup_session *backup_session_begin_plain(struct qmp *q, const char *id,
                                                  const GPtrArray *choices, unsigned lease,
                                                  bool *begun, GError **err);
/* Go on with a session that lives. NULL and *err. */
struct backup_session *backup_session_continue(struct qmp *q, const char *id, GError **err);
void backup_session_free(struct backup_session *s); /* NULL is fine; the session goes on */

/* Lent; NULL where the session does not have the disk. */
const struct session_disk *backup_session_disk(const struct backup_session *s, const char *disk);

/* Readable where backup_session_tick has something to do. */
int backup_session_fd(const struct backup_session *s);
/* Renew the lease if that is due, and look at what the server has said. It does not wait. -1 and *err:
 * the session has ended, and why, or the server has gone. */
int backup_session_tick(struct backup_session *s, GError **err);

/* What became of a session. */
enum session_fate {
    SESSION_UNKNOWN, /* the server does not know it, or no longer */
    SESSION_ACTIVE,
    SESSION_COMMITTED,
    SESSION_ABORTED,
};
/* 0, or -1 and *err. */
int session_fate(struct qmp *q, const char *id, enum session_fate *fate, GError **err);
/* Commit it. 0, or -1 and *err. */
int session_commit(struct qmp *q, const char *id, GError **err);
/* Abort it; one that the server is ending already is waited for. 0: it is there no more; *why may
 * say why the server had ended it. -1 and *why: it is still there, or the server has gone. */
int session_abort(struct qmp *q, const char *id, GError **why);

/* The same of the session that is watched: what is under way on the connection is waited for first. */
int backup_session_commit(struct backup_session *s, GError **err);
int backup_session_abort(struct backup_session *s, GError **why);

#endif
