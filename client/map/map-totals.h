/* SPDX-License-Identifier: BSD-3-Clause */
/* The table of totals below a map. Pure. */
#ifndef CLIENT_MAP_MAP_TOTALS_H
#define CLIENT_MAP_MAP_TOTALS_H

#include "client/map/map.h"

/* One line of the table. */
struct map_total {
    char *word, *bytes, *percent, *extents;
    enum map_role role;
    uint64_t n_bytes;
};

/* All lines, those of what is set first, and last one for the whole disk: a GArray of struct
 * map_total, which frees their strings. The caller unrefs it. */
GArray *map_totals(const map *m);

#endif
