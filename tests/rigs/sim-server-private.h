/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of sim-server.h share. */
#ifndef TESTS_RIGS_SIM_SERVER_PRIVATE_H
#define TESTS_RIGS_SIM_SERVER_PRIVATE_H

#include "tests/rigs/sim-server.h"

struct sim_command;

struct attached {
    struct sim_server *server;
    unsigned number;
    struct disk_state state;
    GArray *found;
    char *recovered;
    struct disk *disk;
    struct node_io *io;
    struct disk_hooks hooks;
};

/* A write that a client will make. */
struct to_write {
    struct sim_server *server;
    unsigned disk;
    uint64_t offset, length;
    int64_t stays; /* inside the gate, ns */
    enum sim_op at;
};

struct sim_server {
    struct sim_host *host;
    struct storage *storage; /* the store's */
    struct sim_options options;
    struct store *store;
    struct scratch_pool *pool;
    struct attached disks[SIM_DISKS];
    bool watched;
    struct to_write to_write;    /* length 0: none */
    struct sim_command *command; /* under way; NULL: none */
    unsigned views;              /* made so far */
};

/* Gates are open again after the flip of s->command; nothing of it is durable yet. */
void sim_command_flipped(struct sim_server *s);

#endif
