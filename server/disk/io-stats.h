/* SPDX-License-Identifier: BSD-3-Clause */
/* What is counted of requests. Each connection counts for itself, in memory that no other connection
 * writes; the counts are added up when somebody asks. */
#ifndef DISK_IO_STATS_H
#define DISK_IO_STATS_H

#include <glib.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* The common ones first: see struct gate_slot. */
enum io_kind { IO_READ, IO_WRITE, IO_ZERO, IO_TRIM, IO_FLUSH, IO_KINDS };

/* What one thread of a connection counts or, with `shared`, several threads do. Other threads may
 * read it at any time. Nothing depends on the order in which they see it: all accesses are relaxed.
 */
struct io_counters {
    bool shared;                /* never changes */
    _Atomic uint64_t write_end; /* the offset behind the last byte that was written or zeroed */
    struct {
        _Atomic uint64_t operations, bytes; /* that succeeded */
    } done[IO_KINDS];
    _Atomic uint64_t failed[IO_KINDS];
};

/* Sums of counters, read at one time. */
struct io_stats {
    uint64_t write_end;
    struct {
        uint64_t operations, bytes;
    } done[IO_KINDS];
    uint64_t failed[IO_KINDS];
};

/* Who does I/O on a node. */
struct node_ios {
    pthread_mutex_t lock; /* a leaf; all below */
    GList *list;          /* of struct node_io */
    struct io_stats gone; /* what those have counted that are no longer in the list */
};

#endif
