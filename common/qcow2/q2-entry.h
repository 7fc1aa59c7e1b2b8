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

/* Bits of a compressed entry: this many for the offset, from 0; above them, to 61, the count of
 * further sectors. */
static inline unsigned q2_compressed_offset_bits(unsigned cluster_bits)
{
    return 62 - (cluster_bits - 8);
}

#endif
