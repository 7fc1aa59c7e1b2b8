/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image and the chain of its backing files as a disk that is served: read and written by any
 * number of threads at once. (common/qcow2 has the format, and readers of one thread each.)
 *
 * How it is put together, and why a crash at any moment leaves an image that `qemu-img check` calls
 * clean or leaking, never corrupt: live-private.h.
 *
 * All functions return 0 or a negative errno, unless they have a struct q2_error, and may be called
 * by any thread at any time, but for opening, starting and closing. Ranges lie inside of the disk,
 * and begin and end at any byte.
 */
#ifndef COMMON_LIVE_LIVE_H
#define COMMON_LIVE_LIVE_H

#include "common/qcow2/q2-image.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_image;
struct live_file_ops;

struct live_options {
    struct q2_open_options open;     /* which files may be opened, and what stands in for names */
    bool writable;                   /* the image itself; its backing files never are */
    bool locking;                    /* QEMU's locks on every file of the chain */
    size_t table_memory;             /* bytes of L2 tables that are kept in memory; 0: 64 MiB */
    const struct live_file_ops *ops; /* tests: how files are read and written; NULL: as usual */
    /* Called with a sentence about what is wrong with the image or its file: any thread. NULL: nobody
     * is told. */
    void (*tell)(void *opaque, const char *sentence);
    void *opaque;
};

#define LIVE_OPTIONS_INIT                                                                          \
    {                                                                                              \
        .locking = true                                                                            \
    }

/* Open. No thread is started. NULL and *err. */
struct live_image *live_open(const char *path, const struct live_options *options,
                             struct q2_error *err);
/* Start the thread that writes tables back and prepares space: to be called once, in the process
 * that serves (a fork would lose it). Without it all works, more slowly. */
int live_start(struct live_image *image, struct q2_error *err);
/* Make everything durable, give back what was reserved, close. The image is closed in any case: -1
 * and *err where something could not be made durable. NULL is fine. */
int live_close(struct live_image *image, struct q2_error *err);

uint64_t live_size(const struct live_image *image); /* bytes */
bool live_writable(const struct live_image *image);
/* The chain as it was opened: for names and headers. Its sizes do not follow a resize. */
const struct q2_image *live_chain(const struct live_image *image);
/* The descriptor of the image's file, for identity and the like. It stays the image's. */
int live_fd(const struct live_image *image);
int live_data_fd(const struct live_image *image); /* of its data file; -1: it has none */
/*
 * Make everything durable, and give back what was reserved. Unless the image is changed after this, nothing
 * is written to its files any more, also not by live_close: they stay as fstat(2) finds them now.
 * (If it is changed, all works as it does without live_start.) No other call on the image is under way.
 */
int live_settle(struct live_image *image);
/* The length of a write that needs nothing but itself: a cluster or a subcluster where there is
 * data below, else a page. Bytes. */
uint32_t live_preferred(const struct live_image *image);

/* ---- without waiting ---- */

enum live_place {
    LIVE_SLOW, /* not known without waiting, or not readable where it lies: live_pread, live_pwrite */
    LIVE_DATA, /* in a file */
    LIVE_ZERO, /* reads as zeroes; never for writing */
};

struct live_segment {
    enum live_place place;
    int fd;          /* LIVE_DATA */
    uint64_t host;   /* LIVE_DATA: of the first byte, in that file */
    uint64_t length; /* bytes, at least 1; LIVE_SLOW: as many as were asked for */
};

/*
 * Where the bytes from `offset` on are; never blocks. What it says stays true until the image is
 * closed, with one exception: LIVE_ZERO, and data of a backing file, are what the disk read as at
 * this moment. `writing`: LIVE_DATA only where the bytes may be written at that place, and nothing
 * else need be done. (It can be said for ever because a host cluster that a guest cluster has been
 * given is its own until the image is closed: live-private.h.)
 */
struct live_segment live_map(struct live_image *image, uint64_t offset, uint64_t length,
                             bool writing);

/* ---- data ---- */

enum {
    LIVE_FUA = 1,      /* durable before it returns */
    LIVE_MAY_TRIM = 2, /* zero: need not stay allocated */
    LIVE_FAST = 4, /* zero: -ENOTSUP, with nothing changed, where zeroes would have to be written */
};

int live_pread(struct live_image *image, void *buffer, size_t length, uint64_t offset);
int live_pwrite(struct live_image *image, const void *buffer, size_t length, uint64_t offset,
                unsigned flags);
int live_zero(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags);
/* Advice: what cannot be given back stays as it is. Nothing that was written comes to light: not the
 * backing file either. */
int live_trim(struct live_image *image, uint64_t length, uint64_t offset, unsigned flags);
int live_flush(struct live_image *image);
/* Have it read into memory soon. */
int live_cache(struct live_image *image, uint64_t length, uint64_t offset);

/* The extent at `offset`, at most `length` bytes: *hole: takes no room in any file of the chain (or
 * may be taken for that); *zero: reads as zeroes. *run: its length, at least 1. */
int live_extent(struct live_image *image, uint64_t length, uint64_t offset, uint64_t *run,
                bool *hole, bool *zero);

/* Grow the disk. Nothing that changes the image is under way; it may be read and flushed. -ENOTSUP: it is to
 * become smaller. -EEXIST: its raw data file is longer than the disk, and has something there that growing would
 * wipe out; nothing has changed. */
int live_resize(struct live_image *image, uint64_t size);
/* What a negative errno of live_resize means, to follow a colon. */
const char *live_resize_why(int error);

#endif
