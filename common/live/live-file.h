/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file of a live image, and all that is ever done to it. Tests put operations of their own in
 * between, to record or to fail.
 */
#ifndef COMMON_LIVE_LIVE_FILE_H
#define COMMON_LIVE_LIVE_FILE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct live_file;

/* All return 0 or a negative errno. Any thread. */
struct live_file_ops {
    /* What lies behind the end reads as zeroes. */
    int (*pread)(struct live_file *f, void *buffer, size_t length, uint64_t offset);
    /* Longer than the file is fine: it grows. `durable`: these bytes (and the size, where it grew) are
     * on the medium when it returns; other writes need not be. */
    int (*pwrite)(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                  bool durable);
    /* Make all that was written before durable. */
    int (*sync)(struct live_file *f);
    /* Make the file `size` bytes long, which is longer: durable when it returns, and all zeroes (a
     * hole, if may be) behind the old end. */
    int (*extend)(struct live_file *f, uint64_t size);
    /* Make the file shorter. Not durable. */
    int (*shorten)(struct live_file *f, uint64_t size);
    /* Make a range inside of the file read as zeroes; a hole where `hole` (and the file system has them), else
     * it stays or becomes allocated. -ENOTSUP, with nothing changed: it would have to be written.
     * Not durable. */
    int (*zero)(struct live_file *f, uint64_t length, uint64_t offset, bool hole);
};

struct live_file {
    const struct live_file_ops *ops;
    const char *path; /* as it is shown; not this structure's */
    int fd;           /* -1: there is no such file */
    bool writable;
    bool device;           /* a block device */
    _Atomic uint64_t size; /* bytes; the operations keep it */
    /* errno of the sync (or durable write) that failed; 0: none did. The first one is final: what the kernel
     * dropped then is not written by the next sync that succeeds. */
    atomic_int sync_error;
    /* What the file system has turned out not to have. */
    atomic_bool no_dsync, no_punch, no_zero_range, no_allocate;
};

/* The usual operations, by the descriptor. */
extern const struct live_file_ops live_file_usual;

/* For operations: a sync, or the sync of a durable write, has failed with the negative errno `r`, which it
 * returns. A write that fails before its sync loses nothing that was written before, and is not noted. */
int live_file_sync_failed(struct live_file *f, int r);

/* Through the operations, with what all callers need: a sync that failed once fails for ever, and so do
 * durable writes and extending. */
int live_file_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset);
int live_file_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset);
int live_file_pwrite_durable(struct live_file *f, const void *buffer, size_t length,
                             uint64_t offset);
int live_file_sync(struct live_file *f);
int live_file_extend(struct live_file *f, uint64_t size);
int live_file_shorten(struct live_file *f, uint64_t size);
int live_file_zero(struct live_file *f, uint64_t length, uint64_t offset, bool hole);

#endif
