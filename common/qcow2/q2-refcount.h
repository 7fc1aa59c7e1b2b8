/* SPDX-License-Identifier: BSD-3-Clause */
/* Counts of clusters in a block of them: 2^order bits each, order 0..6; those of less than a byte
 * begin at its lowest bit. Pure. */
#ifndef COMMON_QCOW2_Q2_REFCOUNT_H
#define COMMON_QCOW2_Q2_REFCOUNT_H

#include "common/base/cursor.h"

#include <stdint.h>

/* The largest count. */
static inline uint64_t q2_refcount_max(unsigned order)
{
    return order == 6 ? UINT64_MAX : (UINT64_C(1) << (1U << order)) - 1;
}

/* Clusters whose counts are in one block. */
static inline uint64_t q2_refcount_block_counts(unsigned cluster_bits, unsigned order)
{
    return UINT64_C(1) << (cluster_bits + 3 - order);
}

/* The count number `index` from `block` on. */
static inline uint64_t q2_refcount_get(const uint8_t *block, unsigned order, uint64_t index)
{
    const uint8_t *at = block + ((index << order) >> 3);

    switch (order) {
    case 6:
        return load_be64(at);
    case 5:
        return load_be32(at);
    case 4:
        return load_be16(at);
    default:
        return *at >> ((index << order) & 7) & q2_refcount_max(order);
    }
}

/* Set it; `count` is at most q2_refcount_max(). */
static inline void q2_refcount_put(uint8_t *block, unsigned order, uint64_t index, uint64_t count)
{
    uint8_t *at = block + ((index << order) >> 3);
    unsigned shift = (index << order) & 7;

    switch (order) {
    case 6:
        store_be64(at, count);
        break;
    case 5:
        store_be32(at, (uint32_t)count);
        break;
    case 4:
        store_be16(at, (uint16_t)count);
        break;
    default:
        *at = (uint8_t)((*at & ~(q2_refcount_max(order) << shift)) | count << shift);
    }
}

#endif
