/* SPDX-License-Identifier: BSD-3-Clause */
/* The output of commands that show a map: a picture, a page, totals, or JSON. */
#ifndef CLIENT_CLI_MAP_OUTPUT_H
#define CLIENT_CLI_MAP_OUTPUT_H

#include "client/cli/client.h"

#include <stdint.h>

struct map_output {
    const char *title;   /* names the disk to people */
    const char *context; /* as in client/map/map-context.h */
    uint64_t size;       /* of the disk, bytes */
    const char *html;    /* write a page into this file ("-": standard output); NULL: none */
    bool summary;        /* only the totals */
    bool ascii;          /* draw with ASCII characters alone */
};

/* Takes an extent; -1 and *err: nothing more is to come. */
typedef int (*map_output_sink)(void *opaque, uint64_t offset, uint64_t length, uint32_t flags,
                               GError **err);
/* Tells all extents of a disk, in order, to `sink` with `opaque`; `source` is its own. 0, or -1 and
 * *err. */
typedef int (*map_output_source)(void *source, map_output_sink sink, void *opaque, GError **err);

/* Print the map that `tell` tells, as JSON where the client is asked for it. 0, or -1 and *err. */
int map_output(struct client *c, const struct map_output *o, map_output_source tell, void *source,
               GError **err);

#endif
