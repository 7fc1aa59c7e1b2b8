/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backend in memory for tests of server/disk/, with a hook in front of each call. It copies
 * sector by sector, each under a lock. So calls that overlap may tear between sectors, as a real
 * disk's do, but race on no byte. It remembers which sectors were written; the others are holes.
 */
#ifndef TESTS_RIGS_FAKE_BACKEND_H
#define TESTS_RIGS_FAKE_BACKEND_H

#include "server/backend/backend.h"

#define FAKE_SECTOR 512u

enum fake_call {
    FAKE_READ,
    FAKE_WRITE,
    FAKE_ZERO,
    FAKE_TRIM,
    FAKE_FLUSH,
    FAKE_EXTENTS,
    FAKE_RESIZE
};

struct fake_backend;

/* Called before each call, from its thread, with no lock held. It may block. Where it returns a
 * negative errno, the call fails and has done nothing. */
typedef int (*fake_hook)(void *opaque, enum fake_call call, uint64_t offset, uint64_t length);

/* Freed by its disk (ops->free). */
struct backend *fake_backend_new(uint64_t size);
/* The same over memory of the test's, which several processes may share: `size` bytes, and whether each
 * of its sectors was written. It cannot be resized. */
struct backend *fake_backend_new_over(uint64_t size, char *data, bool *written);
/* Set it before threads start. */
void fake_backend_set_hook(struct backend *b, fake_hook hook, void *opaque);
/* Calls that fail: those of one kind, at `offset` and behind it. */
struct fake_failure {
    enum fake_call call;
    int error; /* a negative errno; 0: they do not fail */
    uint64_t offset;
};
/* Set a hook that does this. *f stays the test's, and may change. */
void fake_backend_fail(struct backend *b, struct fake_failure *f);
void fake_backend_set_min_block(struct backend *b, uint32_t min_block);
void fake_backend_set_multi_conn(struct backend *b, bool can);
/* Handles that are opened from now on have this descriptor, the test's. What goes by way of it is not
 * in the backend's memory: set_no_extents as well. */
void fake_backend_set_fd(struct backend *b, int fd);
/* Handles that are opened from now on have this map (backend.h); the same goes for what it leads to. */
typedef void (*fake_map)(struct backend_handle *h, uint64_t offset, uint64_t length, bool writing,
                         struct backend_segment *segment);
void fake_backend_set_map(struct backend *b, fake_map map);
/* What sectors that were never written are (EXTENT_*; at first HOLE and ZERO), and what they read
 * as: there are disks whose holes do not read as zeroes. */
void fake_backend_set_holes(struct backend *b, uint32_t flags, char byte);
/* Handles that are opened from now on cannot tell of extents. */
void fake_backend_set_no_extents(struct backend *b);
/* The most bytes that one answer about extents tells of. */
void fake_backend_set_most_extents(struct backend *b, uint64_t length);
/* Look at the bytes without a call. */
void fake_backend_peek(struct backend *b, void *buf, uint64_t length, uint64_t offset);
uint64_t fake_backend_size(struct backend *b);
/* How often a call was made; bytes that were read. */
unsigned fake_backend_calls(struct backend *b, enum fake_call call);
unsigned fake_backend_fua_calls(struct backend *b); /* writes and zeroes with BACKEND_FUA */
uint64_t fake_backend_bytes_read(struct backend *b);
/* The flags of the last write, zero or trim. */
uint32_t fake_backend_last_flags(struct backend *b);

#endif
