/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-slices.h"

#include <errno.h>

int live_slices_init(struct live_layer *l, size_t memory)
{
    return -ENOTSUP;
}
void live_slices_clear(struct live_layer *l)
{
}
bool live_slices_run(struct live_layer *l, uint64_t offset, uint64_t length, struct live_run *run)
{
    return false;
}
int live_slices_run_wait(struct live_layer *l, uint64_t offset, uint64_t length,
                         struct live_run *run)
{
    return -ENOTSUP;
}
int live_slices_change(struct live_layer *l, uint64_t cluster, unsigned n,
                       const struct live_entry *entries, bool flagged)
{
    return -ENOTSUP;
}
unsigned live_slices_room(const struct live_layer *l, uint64_t cluster)
{
    return 1;
}
int live_slices_take(struct live_layer *l, bool flagged,
                     int (*take)(void *opaque, const struct live_dirty *d), void *opaque)
{
    return -ENOTSUP;
}
bool live_slices_dirty(const struct live_layer *l)
{
    return false;
}
bool live_slices_flagged(const struct live_layer *l)
{
    return false;
}
