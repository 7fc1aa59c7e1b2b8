/* SPDX-License-Identifier: BSD-3-Clause */
/* What nodes, disks and views are made of, as far as the outside may know it: types alone. */
#ifndef DISK_TYPES_H
#define DISK_TYPES_H

#include "common/util/log-limit.h"
#include "server/disk/io-stats.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>

struct bitmap;
struct disk;
struct node_io;
struct view;

/* What can be exported (node.h). A disk and a view each begin with it. */
enum node_kind { NODE_DISK, NODE_VIEW };

struct node {
    enum node_kind kind;
    char *name;                   /* QMP's node-name */
    struct log_limit open_errors; /* for who opens it: why that failed */
    struct node_ios ios;
};

/* NULL if it is a view. */
static inline struct disk *node_to_disk(struct node *n)
{
    return n->kind == NODE_DISK ? (struct disk *)n : NULL;
}

/* NULL if it is a disk. */
static inline struct view *node_to_view(struct node *n)
{
    return n->kind == NODE_VIEW ? (struct view *)n : NULL;
}

/* What a client may be told; fixed when the node_io is opened. */
struct node_info {
    uint64_t size;
    bool readonly; /* WRITE and WRITE_ZEROES get EPERM (a view always) */
    bool can_trim; /* also a view opened with discard */
    bool can_flush, can_fua, can_fast_zero, can_cache, can_multi_conn, rotational;
    bool has_file;                             /* node_cached_fd may find something */
    uint32_t min_block, pref_block, max_block; /* bytes */
};

/* What node_read_now says where it is known that a read would block. */
#define NODE_WOULD_BLOCK (-EBUSY)

/* Something happened on an I/O thread that control should tell. The callback may be called from any
 * thread, with the disk's locks held: it copies what it needs, must not block or call back. */
struct disk_events {
    void (*view_broken)(void *opaque, const char *view, const char *disk, const char *reason);
    void (*scratch_low)(void *opaque, uint64_t used, uint64_t limit);
    void (*bitmap_inconsistent)(void *opaque, const char *disk, const char *bitmap,
                                const char *reason);
    void *opaque;
};

/* For disk_restore: a bitmap that the store has found; all of it is the caller's. */
struct disk_restored {
    const char *name;
    struct bitmap *bits; /* NULL: only where it is inconsistent */
    uint32_t granularity;
    bool recording;           /* if it is inconsistent: once it has been cleared */
    const char *inconsistent; /* why; NULL: it is good */
};

/* Who loses when a block's old data cannot be kept (QEMU's on-cbw-error). */
enum cbw_error { CBW_BREAK_SNAPSHOT, CBW_BREAK_GUEST_WRITE };

struct view_quota;

struct view_options {
    enum cbw_error on_error;
    uint64_t scratch_limit;   /* most bytes kept for this view; 0: no limit of its own */
    struct view_quota *quota; /* that it shares with other views; the view gets a reference. NULL */
};

#endif
