/* SPDX-License-Identifier: BSD-3-Clause */
/* Entries of L1 and L2 tables, bit by bit. Source: QEMU's docs/interop/qcow2.rst. Pure. */
#ifndef COMMON_QCOW2_Q2_ENTRY_H
#define COMMON_QCOW2_Q2_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#define Q2_ENTRY_OFFSET     UINT64_C(0x00fffffffffffe00)
#define Q2_ENTRY_COPIED     (UINT64_C(1) << 63) /* its host cluster's count is 1 */
#define Q2_ENTRY_COMPRESSED (UINT64_C(1) << 62)
#define Q2_ENTRY_ZERO       UINT64_C(1) /* version 3, no extended L2 */

enum q2_kind {
    Q2_UNALLOCATED, /* the backing file's, or zeroes where there is none */
    Q2_ZERO,        /* reads as zeroes */
    Q2_DATA,        /* at host, uncompressed */
    Q2_COMPRESSED,  /* at host (any byte), in at most `length` bytes */
    Q2_INVALID,     /* breaks a rule: not to be read */
};

/* What the header says of how entries are read. */
struct q2_geometry {
    unsigned cluster_bits; /* 9..21 */
    bool zero_flag;        /* version 3: there are entries that read as zeroes */
    bool extended;         /* entries of two words: 32 subclusters a cluster */
    bool data_file;        /* clusters lie in another file: offset 0 is a place there */
};

/* Bytes of an entry of an L2 table. */
static inline unsigned q2_entry_size(const struct q2_geometry *g)
{
    return g->extended ? 16 : 8;
}

/* Bits of the number of an entry in its L2 table. */
static inline unsigned q2_table_bits(const struct q2_geometry *g)
{
    return g->cluster_bits - (g->extended ? 4 : 3);
}

/* Bits of the range of the disk that has one kind at least: a cluster, or a subcluster. */
static inline unsigned q2_unit_bits(const struct q2_geometry *g)
{
    return g->cluster_bits - (g->extended ? 5 : 0);
}

/* Bytes of the disk that one L2 table maps: at most 2^39. */
static inline uint64_t q2_table_span(const struct q2_geometry *g)
{
    return UINT64_C(1) << (g->cluster_bits + q2_table_bits(g));
}

/* What an entry says. */
struct q2_entry {
    enum q2_kind kind;
    uint64_t host;   /* of the cluster (extended: also where the subcluster is none of DATA, if the
                        cluster has a place); 0 where there is none */
    uint32_t length; /* Q2_COMPRESSED: bytes that hold it, at most */
};

/* The same for the host cluster that an entry of an L1 table names: Q2_DATA, Q2_UNALLOCATED or
 * Q2_INVALID. */
struct q2_entry q2_entry_l1(const struct q2_geometry *g, uint64_t word);

/* An entry of an L2 table. `bitmap` is its second word, of extended ones; `subcluster` is 0..31, or
 * 0. Bits that mean nothing are not looked at, as in QEMU; q2_entry_reserved tells of them. */
struct q2_entry q2_entry_l2(const struct q2_geometry *g, uint64_t word, uint64_t bitmap,
                            unsigned subcluster);

/* Whether all subclusters of an entry are of one kind. */
bool q2_entry_uniform(const struct q2_geometry *g, uint64_t word, uint64_t bitmap);

/* Whether bits are set that have to be clear in an entry of an L2 table. */
bool q2_entry_reserved(const struct q2_geometry *g, uint64_t word, uint64_t bitmap);

/* Bits of a compressed entry: this many for the offset, from 0; above them, to 61, the count of
 * further sectors. */
static inline unsigned q2_compressed_offset_bits(unsigned cluster_bits)
{
    return 62 - (cluster_bits - 8);
}

#endif
