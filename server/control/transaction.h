/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Transactions: several actions that take effect at one instant, or not at all. A command that is
 * one action by itself is a transaction of one.
 *
 * A transaction first waits for its turn on all disks that its actions name
 * (server/registry/turn.h). Then its actions are prepared in order, and each sees what those before
 * it have prepared. If one fails, those before it are aborted. Otherwise the instant is committed
 * (server/registry/commit.h), and then all actions are committed, or, if there was no instant,
 * aborted. At the end all that were prepared are cleaned.
 */
#ifndef CONTROL_TRANSACTION_H
#define CONTROL_TRANSACTION_H

#include "server/control/qmp.h"
#include "server/disk/instant.h"
#include "server/registry/registry.h"

struct backup;
struct control;
struct transaction;

/* What an action of some type does. `state` is what its prepare has left there for the others;
 * NULL at first. All but prepare may be NULL. Control thread. */
struct action {
    /* Add to `disks` those that the action changes or reads bits of, as far as they exist. */
    void (*disks)(struct server *s, JsonObject *data, GPtrArray *disks);
    /* Do all that can fail. -1 and *err: nothing is left of it, and nothing else is called. */
    int (*prepare)(struct transaction *t, JsonObject *data, void **state, GError **err);
    /* The instant has been. Cannot fail. */
    void (*commit)(struct transaction *t, void *state);
    /* For the command that is this action alone, after commit: *value, the value of its `return`
     * (left NULL: {}); or -1 and *err: what has been done is not what was asked for. */
    int (*result)(struct transaction *t, void *state, JsonNode **value, GError **err);
    /* There will be no instant: undo prepare. Called in reverse order. */
    void (*abort)(struct transaction *t, void *state);
    /* After commit or abort: free what prepare has made. */
    void (*clean)(struct transaction *t, void *state);
};

/* Carry out `n` actions, of which `types[i]` has the arguments `data[i]`, and answer `call`. The
 * arrays are copied; the arguments live as long as the call. */
void transaction_run(struct qmp_call *call, const struct action *const *types,
                     JsonObject *const *data, unsigned n);
/* The same for a command that is one action: the `start` of its row. */
void transaction_of_one(struct qmp_call *call, JsonObject *args);

/* For the actions: where they add what the instant is to do. */
struct control *transaction_control(struct transaction *t);
struct server *transaction_server(struct transaction *t);
struct backup *transaction_backup(struct transaction *t); /* NULL in tests that have none */
struct instant *transaction_instant(struct transaction *t);
/* A bitmap that the transaction removes stays where it is until all of it is done: later actions of
 * the same transaction cannot use it, nor its name. */
void transaction_removes_bitmap(struct transaction *t, struct disk *d, const char *name);
bool transaction_has_removed_bitmap(struct transaction *t, struct disk *d, const char *name);

#endif
