/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first cluster of a qcow2 file: the header, its extensions, the name of the backing file.
 * Source: QEMU's docs/interop/qcow2.rst. Pure: bytes in, values out, and back. Any thread.
 */
#ifndef COMMON_QCOW2_Q2_HEADER_H
#define COMMON_QCOW2_Q2_HEADER_H

#include "common/qcow2/q2-error.h"

#include <stddef.h>
#include <stdint.h>

/* Feature bits. */
enum {
    Q2_INCOMPATIBLE_DIRTY = 1 << 0,
    Q2_INCOMPATIBLE_CORRUPT = 1 << 1,
    Q2_INCOMPATIBLE_DATA_FILE = 1 << 2,
    Q2_INCOMPATIBLE_COMPRESSION = 1 << 3, /* the field compression counts */
    Q2_INCOMPATIBLE_EXTENDED_L2 = 1 << 4,
    Q2_COMPATIBLE_LAZY_REFCOUNTS = 1 << 0,
    Q2_AUTOCLEAR_BITMAPS = 1 << 0,
    Q2_AUTOCLEAR_RAW_DATA_FILE = 1 << 1,
};

enum q2_compression { Q2_ZLIB = 0, Q2_ZSTD = 1 };

/* Bytes of the longest backing name, with its NUL. */
#define Q2_NAME_MAX 1024

struct q2_header {
    uint32_t version;      /* 2 or 3 */
    uint32_t cluster_bits; /* 9..21 */
    uint64_t size;         /* of the disk, bytes */
    uint32_t crypt_method;
    uint32_t l1_size; /* entries */
    uint64_t l1_offset;
    uint64_t refcount_table_offset;
    uint32_t refcount_table_clusters;
    uint32_t nb_snapshots;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear; /* version 2: 0 */
    uint32_t refcount_order;                      /* version 2: 4 */
    uint32_t header_length;
    enum q2_compression compression;
    char backing[Q2_NAME_MAX];   /* "": none */
    char backing_format[32];     /* "": not stated */
    char data_file[Q2_NAME_MAX]; /* "": none */
    uint32_t nb_bitmaps;         /* the bitmaps extension; 0: there is none */
    uint64_t bitmap_directory_size, bitmap_directory_offset;
};

/*
 * Read the header out of the file's first bytes: `length` of them, at most a cluster is looked at
 * (2 MiB are always enough; fewer are an error only where the header says that it needs them).
 * `file_size` is that of the file, against which offsets are checked. Every rule that a reader can
 * check here is; a file that breaks one is refused with a sentence. 0, or -1 and *err.
 */
int q2_header_parse(const void *bytes, size_t length, uint64_t file_size, struct q2_header *h,
                    struct q2_error *err);

/* Write the header's cluster: version 3, with the names of features (where there is room for them),
 * the backing file's name and format, the data file's name. `bytes` has room for a cluster, and is
 * filled with zeroes behind it. header_length is ignored. 0, or -1 and *err. */
int q2_header_build(const struct q2_header *h, void *bytes, size_t cluster_size,
                    struct q2_error *err);

#endif
