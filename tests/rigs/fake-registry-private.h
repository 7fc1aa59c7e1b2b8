/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the fake registry share. */
#ifndef TESTS_RIGS_FAKE_REGISTRY_PRIVATE_H
#define TESTS_RIGS_FAKE_REGISTRY_PRIVATE_H

#include "tests/rigs/fake-registry.h"

#include <pthread.h>

struct server {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    GPtrArray *exports; /* all ever made; one reference each */
    GHashTable *traps;  /* offset -> struct trap */
    unsigned n_held;
    bool never_promise;
    bool changes_wait;
    bool hold_close;
    struct fake_counts counts;
    pthread_key_t thread_end; /* set in threads that came to block; its destructor counts them */
    unsigned threads_ended;
};

struct export
{
    gint refs;
    struct server *server;
    struct export_info info;
    struct node node;
    struct node_info node_info;
    uint8_t *bytes;
    int file; /* fake_file's, if node_info.has_file */
    GPtrArray *bitmaps;
    uint64_t allocation_run;
    unsigned extents_per_call;
    bool gone;
    GQueue clients;
};

/* An operation of a node begins at `offset`: hold it, or let it fail, if the test has said so. 0: go
 * on. now: it is node_read_now. */
int fake_pass(struct server *s, uint64_t offset, bool now);

/* Extents of the range, of which every other `run` bytes carry `flags`: `most` at the most, 0: as
 * many as fit. */
int fake_add_runs(struct extents *out, uint64_t run, uint64_t length, uint64_t offset,
                  uint32_t flags, unsigned most);

#endif
