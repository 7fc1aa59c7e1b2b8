/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map of a disk: extents of one NBD meta context, added up into states and into the cells of a
 * picture. Pure: it is fed with extents; memory does not grow with their number. map-text.h and
 * map-html.h print it.
 */
#ifndef CLIENT_MAP_MAP_H
#define CLIENT_MAP_MAP_H

#include "client/map/map-context.h"

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes and extents with the same flags. */
struct map_state {
    uint32_t flags;
    uint64_t bytes, extents;
};

/* How many states are told apart, the first ones; all others are added up as `others`. */
#define MAP_STATES 8

/* A cell stands for `span` bytes of the disk, the last one for the rest. Bytes by role: */
struct map_cell {
    uint64_t bytes[MAP_ROLES];
};

typedef struct map {
    char *title, *context;
    enum map_kind kind;
    uint64_t size; /* bytes */

    struct map_state states[MAP_STATES], others;
    unsigned n_states;
    uint64_t extents;

    unsigned columns, rows;
    uint64_t span;
    size_t n_cells; /* may end inside the last row */
    struct map_cell *cells;
} map;

/* A map that is at most max_columns x max_rows cells large. max_columns: 16 or more. The strings
 * are copied; `title` names the disk to people. */
map *map_new(const char *title, const char *context, uint64_t size, unsigned max_columns,
             unsigned max_rows);
void map_free(map *m);

/* Add an extent, which lies inside the size. Neighbours with equal flags count as two. */
void map_add(map *m, uint64_t offset, uint64_t length, uint32_t flags);

/* Bytes that a cell stands for. */
uint64_t map_cell_size(const map *m, size_t cell);

/* How much of a cell is MAP_SET. Only a cell of which nothing is set is EMPTY (or ZEROES), so that
 * one dirty sector is seen on the largest disk; only a cell that is wholly set is FULL. */
enum map_level { MAP_EMPTY, MAP_ZEROES, MAP_LOW, MAP_MIDDLE, MAP_HIGH, MAP_FULL, MAP_LEVELS };
enum map_level map_level(const map *m, size_t cell);
bool map_has_level(const map *m, enum map_level level); /* is any cell of this level? */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(map, map_free)

#endif
