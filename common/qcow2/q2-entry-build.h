/* SPDX-License-Identifier: BSD-3-Clause */
/* Making the entries of L1 and L2 tables that q2-entry.h describes. Pure. */
#ifndef COMMON_QCOW2_Q2_ENTRY_BUILD_H
#define COMMON_QCOW2_Q2_ENTRY_BUILD_H

#include "common/qcow2/q2-entry.h"

/* Of a table, or of an uncompressed cluster, at `host`, whose count is 1. */
static inline uint64_t q2_entry_counted_once(uint64_t host)
{
    return host | Q2_ENTRY_COPIED;
}

/* Of `length` compressed bytes at `host`. The count of sectors is of those behind the first one
 * that the bytes touch. Never COPIED, whatever the count. */
static inline uint64_t q2_entry_compressed(uint64_t host, uint32_t length, unsigned cluster_bits)
{
    uint64_t further = (host + length - 1) / 512 - host / 512;

    return Q2_ENTRY_COMPRESSED | further << q2_compressed_offset_bits(cluster_bits) | host;
}

#endif
