/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map of a disk: extents of one NBD meta context, added up into totals and into the cells of a
 * picture. Pure: it is fed with extents and printed as text or as a page; memory does not grow with
 * the number of extents.
 */
#ifndef CLIENT_MAP_MAP_H
#define CLIENT_MAP_MAP_H

#include "client/base/terminal.h"

#include <glib.h>
#include <stdint.h>

/* ---- what the flags of a context mean ---- */

enum map_kind {
    MAP_ALLOCATION, /* base:allocation */
    MAP_DIRTY,      /* qemu:dirty-bitmap:NAME */
    MAP_DEPTH,      /* qemu:allocation-depth */
    MAP_OTHER,      /* not known: flags other than 0 are shown as set */
};

/* How bytes are drawn. */
enum map_role {
    MAP_SET,   /* data, or dirty: what the picture is about */
    MAP_ZERO,  /* takes space but reads as zeroes */
    MAP_CLEAR, /* a hole, or clean */
    MAP_ROLES
};

enum map_kind map_kind(const char *context);
enum map_role map_role(enum map_kind kind, uint32_t flags);
/* What such bytes are to a program: "dirty", "hole,zero"; NULL where there is no word for them. */
const char *map_word(enum map_kind kind, uint32_t flags);

/* ---- the map ---- */

/* Bytes and extents with the same flags. */
struct map_state {
    uint32_t flags;
    uint64_t bytes, extents;
};

/* Most states that are told apart; what comes after them is added up as `others`. */
#define MAP_STATES 8

/* A cell stands for `span` bytes of the disk (the last one for the rest). */
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

/* How full of MAP_SET a cell is. Only a cell that is wholly clear is EMPTY, so that one dirty
 * sector is seen on the largest disk, and only one that is wholly set is FULL. */
enum map_level { MAP_EMPTY, MAP_ZEROES, MAP_LOW, MAP_MIDDLE, MAP_HIGH, MAP_FULL, MAP_LEVELS };
enum map_level map_level(const map *m, size_t cell);
bool map_has_level(const map *m, enum map_level level); /* is any cell of this level? */

/* ---- printing ---- */

/* Offsets as exactly as people need them: "2.25 GiB" where that is exact, else a smaller unit. */
char *map_offset_text(uint64_t offset);
/* "12.5 %"; what is not 0 or 100 is never shown so. */
char *map_percent_text(uint64_t part, uint64_t whole);

/* The words for the legend: what MAP_SET, MAP_ZERO and MAP_CLEAR are in this kind of context. */
const char *map_legend(enum map_kind kind, enum map_role role);

/* A line of the table of totals; its strings are freed by map_total_clear(). */
struct map_total {
    char *word, *bytes, *percent, *extents;
    enum map_role role;
    uint64_t n_bytes;
};
/* Totals, what is set first, then a line for all: GArray of struct map_total, cleared with
 * it. */
GArray *map_totals(const map *m);

/* Columns of cells that fit into a terminal of this width. */
unsigned map_columns_for(unsigned width);

void map_print_title(const map *m, const struct terminal *terminal, GString *out);
void map_print_picture(const map *m, const struct terminal *terminal, bool ascii, GString *out);
void map_print_totals(const map *m, GString *out);
/* A page for browsers, complete in itself. */
void map_print_html(const map *m, GString *out);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(map, map_free)

#endif
