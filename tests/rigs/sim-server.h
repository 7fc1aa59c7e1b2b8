/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A simulated host with two disks and a state folder, and a server on it: the store and server/disk/
 * as they are, over sim-storage.h and sim-image.h.
 *
 * What a server does is told to a model (sim-model.h) in the very moments in which it takes effect.
 * While a command is under way that has been flipped and not answered, there are two: with it and
 * without it. A crash may leave either of them, for both disks alike.
 */
#ifndef TESTS_RIGS_SIM_SERVER_H
#define TESTS_RIGS_SIM_SERVER_H

#include "server/disk/disk-private.h"
#include "server/state/store.h"
#include "tests/rigs/sim-image.h"
#include "tests/rigs/sim-machine.h"
#include "tests/rigs/sim-model.h"
#include "tests/rigs/sim-storage.h"

/* All that outlives a server, and what is known about it. */
struct sim_host {
    struct storage *storage; /* NULL: a server has taken it over */
    struct sim_machine machine;
    struct sim_image images[SIM_DISKS];
    struct sim_model model;
    struct sim_model after; /* where `either`: the other one that may have come true */
    bool either;
};

void sim_host_clear(struct sim_host *h);

struct sim_server;

/* Somebody looks at what would be left if the server died here. */
typedef void (*sim_crash_point)(void *opaque, struct sim_server *s, const char *where);

struct sim_options {
    bool power; /* --durability power */
    bool break_guest_write;
    bool failing; /* the storage may fail: a command that has failed may be found done later */
    sim_crash_point at; /* NULL: nobody looks */
    sim_hook hook;      /* before each operation of the storage, before `at`; NULL: none */
    void *opaque;
};

/* Open the host's folder, attach its disks, and begin to serve. Takes the storage over, in any case.
 * The host stays the caller's and must live as long. NULL and *err. */
struct sim_server *sim_server_start(struct sim_host *h, const struct sim_options *o, GError **err);
/* The same, in two steps. Between them nobody serves, and sim_server_found tells what was found. */
struct sim_server *sim_server_open(struct sim_host *h, const struct sim_options *o, GError **err);
int sim_server_serve(struct sim_server *s, GError **err);
/* The bitmaps of a disk that were found: of struct store_bitmap. */
const GArray *sim_server_found(struct sim_server *s, unsigned disk);
const char *sim_server_recovered(struct sim_server *s, unsigned disk);
/* End in order; the storage is freed, or given back where `storage` is not NULL. */
void sim_server_stop(struct sim_server *s, struct storage **storage);

struct sim_host *sim_server_host(struct sim_server *s);
struct storage *sim_server_storage(struct sim_server *s);
struct disk *sim_server_disk(struct sim_server *s, unsigned disk);
/* What would be left if the process died now; the model knows nothing of bitmaps in memory any more. */
void sim_server_copy(struct sim_server *s, struct sim_host *copy);
/* The server is going to work on a command, or has ended one: nobody looks in between. */
void sim_server_watch(struct sim_server *s, bool on);

/* ---- what clients do ---- */

int sim_write(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length);
int sim_zero(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length);
int sim_trim(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length);
int sim_flush(struct sim_server *s, unsigned disk);
/* Let a thread write; it stays so long between entering the gate and marking bits. Returns at once;
 * the thread is the caller's, to be joined. */
GThread *sim_slow_write(struct sim_server *s, unsigned disk, uint64_t offset, uint64_t length,
                        int64_t nanoseconds);
/* The next time that this is done to the folder or a file of bits, a client writes just before. Length
 * 0: no more. */
void sim_write_at(struct sim_server *s, enum sim_op op, unsigned disk, uint64_t offset,
                  uint64_t length);

enum sim_action_kind {
    SIM_ADD,
    SIM_REMOVE,
    SIM_CLEAR,
    SIM_ENABLE,
    SIM_DISABLE,
    SIM_MERGE,
    SIM_PERSIST,
    SIM_FORGET,
    SIM_VIEW,
    SIM_RESIZE,
};

struct sim_action {
    enum sim_action_kind kind;
    unsigned disk;
    const char *bitmap;
    const char *source;   /* SIM_MERGE, of the same disk */
    uint32_t granularity; /* SIM_ADD */
    bool transient;       /* SIM_ADD */
    uint64_t size;        /* SIM_RESIZE */
};

/* Take all of them at one instant. False: they were refused, or the instant has failed; *err (may be
 * NULL) says why. Fails the test where the model says otherwise and nothing of the storage failed.
 * At the flip, `between` (may be NULL) is called, with open gates. */
bool sim_transaction(struct sim_server *s, const struct sim_action *actions, unsigned n,
                     void (*between)(struct sim_server *s, void *opaque), void *opaque,
                     GError **err);
/* Delete all views. */
void sim_drop_views(struct sim_server *s);

#endif
