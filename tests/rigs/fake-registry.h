/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A registry and nodes for the NBD server's unit tests: disks in memory, whose operations are
 * counted, and block or fail when the test says so. It takes the place of
 * server/registry/registry.c and server/disk/ in the link.
 */
#ifndef TESTS_RIGS_FAKE_REGISTRY_H
#define TESTS_RIGS_FAKE_REGISTRY_H

#include "server/registry/registry.h"

struct fake_counts {
    unsigned tried;     /* calls of node_read_now */
    unsigned refused;   /* of these, answered with -EAGAIN */
    unsigned blocking;  /* of all others */
    unsigned most_held; /* operations held at one time */
    unsigned writes;    /* calls of node_write that did something */
    unsigned cached;    /* ranges said to be in the page cache, of fake_file's file */
    unsigned opens, closes;
    uint64_t counted, counted_shared; /* requests in counters of clients that have gone */
};

struct server *fake_new(void);
void fake_free(struct server *s);

/* An export of a disk of its own; *info is copied, with 0 in a field standing for a usual value.
 * Owned by the registry. */
struct export *fake_add(struct server *s, const char *name, const struct node_info *info);
/* Remove it as block-export-del in mode hard does: it is not found any more, and its clients are to
 * end. `cut`: their time is over. */
void fake_remove(struct server *s, struct export *e, bool cut);
/* Have all of its clients hung up? */
bool fake_hung_up(struct server *s, struct export *e);
uint8_t *fake_bytes(struct export *e);

/* A dirty bitmap that says: `run` bytes clean, `run` bytes dirty, and so on. 0: all clean. */
struct dirty_bitmap *fake_add_bitmap(struct export *e, const char *name, uint64_t run);
void fake_break_bitmap(struct dirty_bitmap *db); /* -EIO from now on */
/* base:allocation: `run` bytes of data, `run` bytes of hole; `per_call` extents a call, 0: as many
 * as fit. */
void fake_allocation(struct export *e, uint64_t run, unsigned per_call);

/* Operations at `offset` are held (node_read_now: -EAGAIN) until released. A flush has offset 0. */
void fake_hold(struct server *s, uint64_t offset);
void fake_release(struct server *s, uint64_t offset);
/* Hold the closing of clients' handles. */
void fake_hold_close(struct server *s, bool hold);
/* Wait until `n` operations are held at this moment. */
void fake_wait_held(struct server *s, unsigned n);
/* Wait until `n` threads that have called any but node_read_now have ended. */
void fake_wait_threads_ended(struct server *s, unsigned n);
/* Let operations that begin at `offset` fail; 0: no more. */
void fake_fail(struct server *s, uint64_t offset, int error);
/* The node never promises not to block: -EAGAIN to every node_read_now. */
void fake_never_promise(struct server *s, bool never);
/* Changes would have to wait for a journal (node_change_waits). */
void fake_changes_wait(struct server *s, bool wait);

/* From now on all ranges are in the page cache, for which clients get this file. What it holds is
 * not compared with fake_bytes. The descriptor stays the caller's. */
void fake_file(struct export *e, int fd);

struct fake_counts fake_counts(struct server *s);

#endif
