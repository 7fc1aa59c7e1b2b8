/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-entry.h"

static bool aligned(const struct q2_geometry *g, uint64_t offset)
{
    return !(offset & ((UINT64_C(1) << g->cluster_bits) - 1));
}

struct q2_entry q2_entry_l1(const struct q2_geometry *g, uint64_t word)
{
    struct q2_entry e = {.kind = Q2_DATA, .host = word & Q2_ENTRY_OFFSET};

    if (!e.host)
        e.kind = Q2_UNALLOCATED;
    else if (!aligned(g, e.host))
        e.kind = Q2_INVALID;
    return e;
}

static struct q2_entry compressed(const struct q2_geometry *g, uint64_t word)
{
    unsigned bits = q2_compressed_offset_bits(g->cluster_bits);
    uint64_t sectors = ((word & (Q2_ENTRY_COMPRESSED - 1)) >> bits) + 1;
    struct q2_entry e = {.kind = Q2_COMPRESSED, .host = word & ((UINT64_C(1) << bits) - 1)};

    /* The first of the sectors is the one that the offset is in. */
    e.length = (uint32_t)(sectors * 512 - e.host % 512);
    if (g->data_file)
        e.kind = Q2_INVALID;
    return e;
}

static enum q2_kind subcluster_kind(uint64_t bitmap, unsigned subcluster, bool has_place)
{
    uint32_t data = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);

    if ((data & zero) || (data && !has_place))
        return Q2_INVALID;
    if (zero >> subcluster & 1)
        return Q2_ZERO;
    return data >> subcluster & 1 ? Q2_DATA : Q2_UNALLOCATED;
}

struct q2_entry q2_entry_l2(const struct q2_geometry *g, uint64_t word, uint64_t bitmap,
                            unsigned subcluster)
{
    struct q2_entry e = {.kind = Q2_DATA, .host = word & Q2_ENTRY_OFFSET};
    bool has_place = e.host || (g->data_file && (word & Q2_ENTRY_COPIED));

    if (word & Q2_ENTRY_COMPRESSED)
        return compressed(g, word);
    if (!aligned(g, e.host))
        e.kind = Q2_INVALID;
    else if (g->extended)
        e.kind = subcluster_kind(bitmap, subcluster, has_place);
    else if (word & Q2_ENTRY_ZERO)
        e.kind = g->zero_flag ? Q2_ZERO : Q2_INVALID;
    else if (!has_place)
        e.kind = Q2_UNALLOCATED;
    return e;
}

bool q2_entry_uniform(const struct q2_geometry *g, uint64_t word, uint64_t bitmap)
{
    return !g->extended || (word & Q2_ENTRY_COMPRESSED) || bitmap == 0 || bitmap == UINT32_MAX ||
           bitmap == (uint64_t)UINT32_MAX << 32;
}

bool q2_entry_reserved(const struct q2_geometry *g, uint64_t word, uint64_t bitmap)
{
    if (word & Q2_ENTRY_COMPRESSED)
        return bitmap || (word & Q2_ENTRY_COPIED);
    word &= ~(Q2_ENTRY_OFFSET | Q2_ENTRY_COPIED);
    if (g->zero_flag && !g->extended)
        word &= ~Q2_ENTRY_ZERO;
    return word;
}
