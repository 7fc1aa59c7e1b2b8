/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/audit-ranges.h"

static struct audit_range *at(const GArray *ranges, guint i)
{
    return &g_array_index(ranges, struct audit_range, i);
}

GArray *audit_ranges_new(void)
{
    return g_array_new(FALSE, FALSE, sizeof(struct audit_range));
}

void audit_ranges_add(GArray *ranges, uint64_t offset, uint64_t length)
{
    struct audit_range r = {offset, length};

    if (ranges->len > 0) {
        struct audit_range *last = at(ranges, ranges->len - 1);

        if (last->offset + last->length == offset) {
            last->length += length;
            return;
        }
    }
    g_array_append_val(ranges, r);
}

static gint by_offset(gconstpointer a, gconstpointer b)
{
    const struct audit_range *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

void audit_ranges_order(GArray *ranges)
{
    guint kept = 0;

    g_array_sort(ranges, by_offset);
    for (guint i = 0; i < ranges->len; i++) {
        struct audit_range *last = kept > 0 ? at(ranges, kept - 1) : NULL;

        if (last && last->offset + last->length == at(ranges, i)->offset)
            last->length += at(ranges, i)->length;
        else
            *at(ranges, kept++) = *at(ranges, i);
    }
    g_array_set_size(ranges, kept);
}

uint64_t audit_ranges_bytes(const GArray *ranges)
{
    uint64_t bytes = 0;

    for (guint i = 0; i < ranges->len; i++)
        bytes += at(ranges, i)->length;
    return bytes;
}

/* The first range that ends behind `offset`. */
static guint first_behind(const GArray *ordered, uint64_t offset)
{
    guint low = 0, high = ordered->len;

    while (low < high) {
        guint middle = low + (high - low) / 2;
        const struct audit_range *r = at(ordered, middle);

        if (r->offset + r->length > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void audit_ranges_add_without(GArray *to, uint64_t offset, uint64_t length, const GArray *ordered)
{
    uint64_t end = offset + length;

    for (guint i = first_behind(ordered, offset); i < ordered->len && offset < end; i++) {
        const struct audit_range *r = at(ordered, i);

        if (r->offset >= end)
            break;
        if (r->offset > offset)
            audit_ranges_add(to, offset, r->offset - offset);
        offset = r->offset + r->length;
    }
    if (offset < end)
        audit_ranges_add(to, offset, end - offset);
}
