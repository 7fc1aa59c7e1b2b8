/* SPDX-License-Identifier: BSD-3-Clause */
/* What the tests of server/disk/ share: a disk on a fake backend, and parking threads at points. */
#ifndef TESTS_RIGS_DISK_HARNESS_H
#define TESTS_RIGS_DISK_HARNESS_H

#include "server/disk/disk-private.h"
#include "server/disk/instant.h"
#include "server/disk/resize.h"
#include "tests/rigs/fake-backend.h"

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

/* A thread that comes to `point` (at `offset`, or anywhere) stays there until it is let go: one
 * thread, once for each park_arm. */
struct park {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool armed, reached, released;
    enum disk_point point;
    uint64_t offset;
};

struct rig {
    struct scratch_pool *pool;
    struct backend *backend;
    struct disk *disk;
    struct node_io *io;
    struct disk_hooks hooks;
    struct park park;
    /* Called at each point, before a thread is parked; NULL: nothing. */
    void (*visit)(struct rig *r, enum disk_point point);
    void *visitor;
    /* The next so many writes to scratch fail. */
    _Atomic int failing_scratch_writes;
    atomic_uint broken_events;
    char broken_view[64];
    atomic_uint inconsistent_events;
    char inconsistent[128]; /* the last: DISK/BITMAP: REASON */
};

/* A disk of `size` bytes. Its views keep at most scratch_limit bytes together; 0: no limit. */
struct rig *rig_new(uint64_t size, uint64_t scratch_limit);
/* The same, of an image that takes whole blocks only. */
struct rig *rig_new_blocks(uint64_t size, uint64_t scratch_limit, uint32_t min_block);
/* The same over a fake backend that the test has made. */
struct rig *rig_new_over(struct backend *backend, uint64_t scratch_limit);
/* Deletes all views first; checks that scratch is empty then. */
void rig_free(struct rig *r);

struct view *rig_view(struct rig *r, const char *name, enum cbw_error on_error, uint64_t limit);
void rig_delete(struct rig *r, struct view *v);
/* Bytes of scratch that a view has. */
uint64_t rig_kept(struct view *v);
bool view_is_broken(struct view *v);
void rig_bitmap(struct rig *r, const char *name, uint32_t granularity);
uint64_t rig_count(struct rig *r, const char *bitmap);

/* Fill with a byte through the gate; checks the result. */
void rig_fill(struct rig *r, uint64_t offset, uint64_t length, char byte);
int rig_try_fill(struct rig *r, uint64_t offset, uint64_t length, char byte);
/* Is [offset, offset + length) of the node all `byte`? Fails the test where it cannot be read. */
bool node_is(struct node *n, uint64_t offset, uint64_t length, char byte);

/* Read a view, and forget what it says; returns what node_read does. */
int rig_try_read(struct view *v, uint64_t offset, uint32_t length);
/* The view has these bytes. */
void assert_view_bytes(struct view *v, uint64_t offset, uint64_t length, const char *bytes);

#define assert_view(v, offset, length, byte)                                                       \
    g_assert_true(node_is(view_node(v), offset, length, byte))

/* Let a thread fill the range; it checks the result. */
GThread *rig_fill_thread(struct rig *r, uint64_t offset, uint64_t length, char byte);
/* Let a thread check that a view's range is `byte`. */
GThread *rig_check_thread(struct view *v, uint64_t offset, uint64_t length, char byte);

#define ANYWHERE UINT64_MAX
void park_arm(struct rig *r, enum disk_point point, uint64_t offset);
void park_wait(struct rig *r); /* until a thread stands there */
void park_release(struct rig *r);

#endif
