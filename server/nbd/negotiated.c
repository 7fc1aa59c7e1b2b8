/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/nbd/negotiated.h"

uint16_t negotiated_flags(const struct node_info *info, struct agreement agreed, bool contexts,
                          bool multi_conn)
{
    uint16_t flags = NBD_FLAG_HAS_FLAGS;

    /* Clients do not trim an export that is read-only. So a view that allows TRIM does not say that
     * it allows no other change. */
    if (info->readonly && !info->can_trim)
        flags |= NBD_FLAG_READ_ONLY;
    if (info->can_flush)
        flags |= NBD_FLAG_SEND_FLUSH;
    if (info->can_fua)
        flags |= NBD_FLAG_SEND_FUA;
    if (info->rotational)
        flags |= NBD_FLAG_ROTATIONAL;
    if (info->can_trim)
        flags |= NBD_FLAG_SEND_TRIM;
    if (!info->readonly) {
        flags |= NBD_FLAG_SEND_WRITE_ZEROES;
        if (info->can_fast_zero)
            flags |= NBD_FLAG_SEND_FAST_ZERO;
    }
    if (agreed.structured)
        flags |= NBD_FLAG_SEND_DF;
    if (info->can_multi_conn && multi_conn)
        flags |= NBD_FLAG_CAN_MULTI_CONN;
    if (info->can_cache)
        flags |= NBD_FLAG_SEND_CACHE;
    if (agreed.extended && contexts)
        flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
    return flags;
}

/* The largest power of 2 that is not above `n`; n > 0. */
static uint32_t power_of_2(uint32_t n)
{
    return 1u << (31 - __builtin_clz(n));
}

struct block_sizes negotiated_block_sizes(const struct node_info *info)
{
    struct block_sizes b;

    b.min = power_of_2(CLAMP(info->min_block, 1, 65536));
    b.pref = power_of_2(CLAMP(info->pref_block, MAX(b.min, 512), NBD_MAX_PAYLOAD));
    b.max = CLAMP(info->max_block, b.pref, NBD_MAX_PAYLOAD);
    b.max -= b.max % b.min;
    return b;
}

bool block_sizes_are_default(struct block_sizes b)
{
    return b.min == 1 && b.pref == 4096 && b.max >= NBD_DEFAULT_MAX_PAYLOAD;
}
