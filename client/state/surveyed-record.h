/* SPDX-License-Identifier: BSD-3-Clause */
/* What a record of a state folder says of a checkpoint or a backup session. A server writes its text
 * (server/backup/checkpoint-record.h, session-record.h); nothing in it is taken on trust. */
#ifndef CLIENT_STATE_SURVEYED_RECORD_H
#define CLIENT_STATE_SURVEYED_RECORD_H

#include "common/json/limits.h"
#include "common/state/catalogue.h"

#include <stdbool.h>

struct surveyed_record {
    char *kind; /* "checkpoint", "session"; perhaps others, of a later version */
    char *name; /* of the checkpoint; or the session's id */
    /* "unreadable"; a checkpoint's: "kept", "pending" (its session has not ended), "deleted"; a
     * session's: "active", "committed", "aborted". Static. */
    const char *state;
    int64_t time_usec; /* of the instant; microseconds since 1970; 0: not known */
    char *reason;      /* a session's: why it was aborted; NULL: not known */
    GPtrArray *disks;  /* their names, owned */
};

/* Of a record's text: a server keeps to them. */
extern const struct json_limits surveyed_record_limits;

struct surveyed_record *surveyed_record_new(const struct catalogue_record *row);
void surveyed_record_free(struct surveyed_record *r);

#endif
