/* SPDX-License-Identifier: BSD-3-Clause */
/* A file of the simulated storage without its names: sim-storage.h says what its contents are. */
#ifndef TESTS_RIGS_SIM_INODE_H
#define TESTS_RIGS_SIM_INODE_H

#include "tests/rigs/sim-content.h"

struct sim_inode {
    unsigned refs;
    struct sim_content seen;     /* by programs; stale where it is mapped: sim_inode_look */
    struct sim_content believed; /* by the kernel, to be on the medium */
    struct sim_content medium;
    GArray *history; /* of struct sim_was: what sectors were between, since the last sync */
    int fd;          /* of the memory that is mapped; -1: it never was */
    uint8_t *memory;
    size_t mapped; /* bytes of `memory` */
};

struct sim_inode *sim_inode_new(void);
struct sim_inode *sim_inode_ref(struct sim_inode *i);
void sim_inode_unref(struct sim_inode *i);
/* A copy, which nobody has mapped. */
struct sim_inode *sim_inode_copy(struct sim_inode *i);
/* Both are copies of one inode, and nothing was done to it between. */
bool sim_inode_same(const struct sim_inode *a, const struct sim_inode *b);
/* The same, and programs see no difference. */
bool sim_inode_looks_same(const struct sim_inode *a, const struct sim_inode *b);
/* A copy with what power loss leaves. */
struct sim_inode *sim_inode_lose_power(struct sim_inode *i, GRand *rand);

/* Take what was changed by mappings into `seen`. */
void sim_inode_look(struct sim_inode *i);
void sim_inode_read(struct sim_inode *i, void *bytes, uint64_t length, uint64_t offset);
void sim_inode_write(struct sim_inode *i, const void *bytes, uint64_t length, uint64_t offset);
void sim_inode_resize(struct sim_inode *i, uint64_t size);
void sim_inode_sync(struct sim_inode *i);
void sim_inode_sync_badly(struct sim_inode *i, GRand *rand);
/* 0 or a negative errno. */
int sim_inode_map(struct sim_inode *i, uint64_t offset, size_t length, void *at, void **mapped);
/* Sectors that power loss would leave to chance. */
unsigned sim_inode_unsure(struct sim_inode *i);

#endif
