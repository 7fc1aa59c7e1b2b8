/* SPDX-License-Identifier: BSD-3-Clause */
/* What several commands take: nodes and disks by their names, granularities; with QEMU's texts where
 * they are wrong. */
#ifndef CONTROL_LOOKUP_H
#define CONTROL_LOOKUP_H

#include "server/control/args.h"
#include "server/registry/registry.h"

/* QEMU looks nodes up in two ways, with two texts. By `device` or `node_name` (either may be NULL):
 * `Cannot find device='%s' nor node-name='%s'`. */
struct node *control_lookup_device(struct server *s, const char *device, const char *node_name,
                                   GError **err);
/* For what concerns the bitmap `bitmap` of a node: `Node '%s' not found`. Views have no bitmaps:
 * `Dirty bitmap '%s' not found`. */
struct disk *control_lookup_bitmap_disk(struct server *s, const char *node, const char *bitmap,
                                        GError **err);

/* The optional argument `granularity` of a new bitmap. To disk/ 0 means the default; a client does not
 * get it by this: `Granularity must be power of 2 and at least 512`. */
int control_check_granularity(JsonObject *data, GError **err);

/* QEMU's BlockDirtyBitmapOrStr: a bitmap by its name alone, or as {"node": NODE, "name": NAME}. */
extern const struct arg control_bitmap_args[];
extern const struct arg control_bitmap_or_string;

#endif
