/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Instants are committed here, without stopping the control thread: guests' writes under way are
 * waited for by events, with a deadline. Control thread.
 */
#ifndef REGISTRY_COMMIT_H
#define REGISTRY_COMMIT_H

#include "server/disk/instant.h"

struct server;

/* Commit `i`, which has its actions, and end it. The caller has a turn on its disks (turn.h).
 * `done` is called once on the control thread, perhaps before this returns. `error` is NULL: all
 * has taken effect; else nothing has, and it says why. It is borrowed. */
void server_commit(struct server *s, struct instant *i,
                   void (*done)(void *opaque, const GError *error), void *opaque);

/* The server ends: commits that wait fail. `done` of each is called, now or as soon as no thread
 * works for it any more, from the main loop. */
void server_cancel_commits(struct server *s);

#endif
