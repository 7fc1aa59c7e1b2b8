/* SPDX-License-Identifier: BSD-3-Clause */
/* What the flags of an NBD meta context mean, and the words for them. Pure. */
#ifndef CLIENT_MAP_MAP_CONTEXT_H
#define CLIENT_MAP_MAP_CONTEXT_H

#include <stdint.h>

enum map_kind {
    MAP_ALLOCATION, /* base:allocation */
    MAP_DIRTY,      /* qemu:dirty-bitmap:NAME */
    MAP_DEPTH,      /* qemu:allocation-depth */
    MAP_CHANGED,    /* MAP_CONTEXT_CHANGED */
    MAP_OTHER,      /* not known: flags other than 0 are shown as set */
};

/* What has changed between two instants: no context of NBD's, whose names have a colon. Flag 1: it
 * has. */
#define MAP_CONTEXT_CHANGED "changed"

/* How bytes are drawn. */
enum map_role {
    MAP_SET,   /* data, or dirty: what the picture is about */
    MAP_ZERO,  /* takes space but reads as zeroes */
    MAP_CLEAR, /* a hole, or clean */
    MAP_ROLES
};

/* The kind of the context of this name. */
enum map_kind map_kind(const char *context);
enum map_role map_role(enum map_kind kind, uint32_t flags);

/* The word of a program for these flags: "dirty", "hole,zero"; NULL where there is none. */
const char *map_word(enum map_kind kind, uint32_t flags);
/* The words of a person for them: "hole", "zeroes", "flags 0x5". The caller g_frees it. */
char *map_state_text(enum map_kind kind, uint32_t flags);
/* The word of the legend: what MAP_SET, MAP_ZERO or MAP_CLEAR is in this kind of context. */
const char *map_legend(enum map_kind kind, enum map_role role);

#endif
