/* SPDX-License-Identifier: BSD-3-Clause */
/* The targets that there are. Each maker: NULL and *err; errors name the file or what it is, but no
 * URI. */
#ifndef COMMON_COPY_TARGETS_H
#define COMMON_COPY_TARGETS_H

#include "common/copy/target.h"
#include "common/qcow2/q2-header.h"

/* A raw file or block device, open for writing; `fd` is lent. `clean`: it reads as zeroes now, so
 * zeroes need not be written. It must be of `size` bytes at least (a regular file is made so by the
 * caller). */
struct copy_target *target_raw_new(int fd, const char *name, uint64_t size, bool clean,
                                   GError **err);

/* The raw bytes of a disk, one after the other, into a pipe (or a file that is only appended to);
 * `fd` is lent. It must be told of the whole disk: what is not told is written as zeroes. */
struct copy_target *target_pipe_new(int fd, const char *name, uint64_t size, GError **err);

/* Everything is thrown away. For measurements, and for reading all of a source. */
struct copy_target *target_null_new(uint64_t size);

struct target_nbd_options {
    const char *uri;
    uint64_t size;               /* the export's is at least this */
    bool clean;                  /* as above */
    unsigned connections, retry; /* as in source-nbd.h */
    int interrupt;               /* ends connecting when it is readable; 0: none */
};
/* An NBD export; its errors are of the domain of source-nbd.h. The URI is copied. A server that goes
 * away while it has writes that are not flushed may have lost them, and ends the copy; else it is
 * connected to anew. */
struct copy_target *target_nbd_new(const struct target_nbd_options *o, GError **err);

/* Where the checksums of what is written go: `digest` is SHA-256, 32 bytes, of `length` bytes of the
 * file at `offset`. Calls come from several threads, one at a time, in no order; together they cover
 * the file. */
typedef void (*target_checksum)(void *opaque, uint64_t offset, uint64_t length,
                                const uint8_t *digest);

struct target_qcow2_options {
    uint64_t size;
    const char *backing, *backing_format; /* as written into the header; NULL: none */
    bool compress;
    enum q2_compression compression;
    int level; /* 0: the default */
    bool detect_zeroes;
    unsigned lanes;
    target_checksum checksum; /* NULL: none are made */
    void *opaque;
};
/* A new qcow2 file; `fd` is lent, empty, open for reading and writing. */
struct copy_target *target_qcow2_new(int fd, const char *name, const struct target_qcow2_options *o,
                                     GError **err);
/* Bytes of its file. */
uint64_t target_qcow2_file_size(const struct copy_target *t);

#endif
