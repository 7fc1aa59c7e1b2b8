/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A server over memory that has checkpoints and backup sessions, and is started and stopped in one
 * process, for tests that do without QMP. The test is the main thread.
 */
#ifndef TESTS_RIGS_BACKUP_RIG_H
#define TESTS_RIGS_BACKUP_RIG_H

#include "server/backup/sessions.h"
#include "tests/rigs/main-loop.h"

#define MIB (UINT64_C(1) << 20)

struct house {
    char *root; /* the folder of all */
    char *folder, *shm,
        *scratch; /* of the state (NULL: there is no store), of memory, of scratch */
    struct store *store;
    struct server *server;
    struct checkpoints *checkpoints;
    struct sessions *sessions; /* NULL: there are none */
    struct disk *vda, *vdb;    /* 1 MiB each; NULL: not served */
    GString *events; /* since the start: NAME:REASON; for each checkpoint that was deleted,
                        ID:RESULT:REASON; for each session that has ended */
};

/* Make its folders, without a server. */
void house_build(struct house *h, bool with_store);
/* It has stopped: remove them. */
void house_clear(struct house *h);
/* Start a server with these disks ("vda vdb"), whose bytes are lost with it, but the store does not know;
 * without sessions, and before checkpoints are restored. */
void house_start(struct house *h, const char *disks);
/* Add the sessions, and restore what the state folder has. */
void house_start_sessions(struct house *h);
/* In order. */
void house_stop(struct house *h);

/* The main loop runs until no change of a disk is under way any more. */
void house_settle(struct house *h);
void remove_all(const char *path);

/* Assert what a call returns and free it: NULL, or why it failed. */
#define expect(call, text)                                                                         \
    do {                                                                                           \
        g_autofree char *got = (call);                                                             \
        g_assert_cmpstr(got, ==, text);                                                            \
    } while (0)
/* A disk's bitmaps, in brackets those that are a checkpoint's, with ! those that are busy: "(a) (b)! c". */
void expect_bitmaps(struct disk *d, const char *expected);

/* Commit an instant of which the caller has staged all, or end one whose staging failed with `error`, which
 * is taken over. NULL, or why it has failed. */
char *finish(struct instant *i, int staged, GError *error);
/* For an instant that is to fail: late in its preparation, or when the store commits it, after its
 * flip. The first one also for instant_quiesce(). */
int refuse(void *opaque, GError **err);
void spoil_prepare(struct house *h, struct instant *i);
void spoil_commit(struct house *h, struct instant *i);
/* Do something when the store commits, after the flip, on a thread of the instant: `text` is called
 * with `opaque` for the text of a record. */
void at_commit(struct house *h, struct instant *i, char *(*text)(void *opaque), void *opaque);
/* Write a record into the state folder. */
void put_record(struct house *h, const char *kind, const char *name, const char *text);

#endif
