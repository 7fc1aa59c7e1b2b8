/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An NBD server over the fake registry, with clients on socket pairs.
 */
#ifndef TESTS_RIGS_NBD_RIG_H
#define TESTS_RIGS_NBD_RIG_H

#include "server/nbd/connection.h"
#include "server/nbd/nbd-server.h"
#include "tests/rigs/fake-registry.h"
#include "tests/rigs/nbd-client.h"

struct rig {
    struct server *registry;
    struct nbd_server *nbd; /* NULL once rig_end_nbd was called */
    struct export *disk;    /* "disk", 64 MiB, everything allowed */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned gone;        /* connections whose `done` was called */
    bool ended;           /* the server has told its end */
    unsigned descriptors; /* open in this process before the first client */
};

void rig_begin(struct rig *r, const struct nbd_options *options); /* NULL: usual ones */
void rig_end(struct rig *r);
/* End the server alone: cut its clients after `grace_ms`, wait until they have gone, free it. */
void rig_end_nbd(struct rig *r, unsigned grace_ms);

/* A client, not greeted yet. */
struct client rig_connect(struct rig *r);
/* The same, with GO done on "disk". */
struct client rig_go(struct rig *r, bool structured);
/* A client of rig_connect calls this when it has gone. A test may have other ends call it, too, and
 * they are counted together. */
void rig_note_gone(void *rig);
unsigned rig_count_gone(struct rig *r);
/* Wait until so many connections have gone since the beginning. */
void rig_wait_gone(struct rig *r, unsigned n);
/* Wait until so many replies of workers wait to be sent, on all connections. */
void rig_wait_posted(struct rig *r, unsigned n);

/* The server's side of the only client in that phase, or NULL. */
struct connection *rig_connection(struct rig *r, enum phase phase);

unsigned open_descriptors(void);
/* Fill with a pattern that has no short period. */
void fill_bytes(uint8_t *p, size_t length, unsigned seed);

#endif
