/* SPDX-License-Identifier: BSD-3-Clause */
/* A limit of scratch that several views share, of several disks. Any thread. */
#ifndef DISK_VIEW_QUOTA_H
#define DISK_VIEW_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

struct view_quota;

/* At most `limit` bytes (0: no limit; it counts all the same). `low` (may be NULL) is called once when
 * 90 % are used, and again only after use has fallen below 80 %: from any thread, perhaps with a disk's
 * locks held; it must not block or call back. It is not called after the last reference has gone. */
struct view_quota *view_quota_new(uint64_t limit,
                                  void (*low)(void *opaque, uint64_t used, uint64_t limit),
                                  void *opaque);
struct view_quota *view_quota_ref(struct view_quota *q);
void view_quota_unref(struct view_quota *q);    /* NULL is allowed */
uint64_t view_quota_used(struct view_quota *q); /* bytes */
uint64_t view_quota_limit(const struct view_quota *q);

/* ---- for views: what they keep ---- */

/* Count so many bytes more. False: that would be above the limit, and they do not count. */
bool view_quota_take(struct view_quota *q, uint64_t bytes);
/* The same for bytes that are kept already and must not be lost: they count also above the limit. */
void view_quota_inherit(struct view_quota *q, uint64_t bytes);
/* Count so many bytes less. */
void view_quota_give(struct view_quota *q, uint64_t bytes);

#endif
