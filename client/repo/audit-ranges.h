/* SPDX-License-Identifier: BSD-3-Clause */
/* Sets of bytes of a disk, as ranges. Pure. */
#ifndef CLIENT_REPO_AUDIT_RANGES_H
#define CLIENT_REPO_AUDIT_RANGES_H

#include <glib.h>
#include <stdint.h>

struct audit_range {
    uint64_t offset, length; /* bytes; length is not 0 */
};

/* Arrays of struct audit_range. Those that are `ordered` ascend and do not touch. */
GArray *audit_ranges_new(void);

/* Add one; behind the last one, it is joined to it where they touch. */
void audit_ranges_add(GArray *ranges, uint64_t offset, uint64_t length);
/* Order them. */
void audit_ranges_order(GArray *ranges);
uint64_t audit_ranges_bytes(const GArray *ranges);
/* Add to `to` what of a range is not in `ordered`. */
void audit_ranges_add_without(GArray *to, uint64_t offset, uint64_t length, const GArray *ordered);

#endif
