/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Meta contexts: what a client may ask BLOCK_STATUS about.
 *
 * An export offers base:allocation, with id 0, and qemu:dirty-bitmap:NAME for the i-th of its
 * bitmaps, with id 2 + i, as QEMU numbers them. A selection holds references: a bitmap that is
 * removed later answers with an error, never with "clean".
 */
#ifndef NBD_META_H
#define NBD_META_H

#include "server/nbd/option.h"
#include "server/registry/registry.h"

/* Most contexts that one client may select: bounds the memory of a status reply. QEMU's clients may
 * have base:allocation and 1,000 bitmaps. option.h makes room for as many names. */
#define META_CONTEXTS_MAX 1024u

struct meta_context {
    uint32_t id;
    struct dirty_bitmap *bitmap; /* a reference; NULL: base:allocation */
};

/* A client's selection. All zero: none. */
struct meta_contexts {
    struct export *export;     /* a reference: whose contexts they are */
    struct meta_context *list; /* their ids ascend */
    unsigned n;
};

void meta_contexts_clear(struct meta_contexts *m);

/* Answer NBD_OPT_LIST_META_CONTEXT: append one reply for each context of `e` that matches. */
void meta_list(struct export *e, struct option_meta *queries, GByteArray *out);

/* Answer NBD_OPT_SET_META_CONTEXT: put what matches into `m`, which is empty, and append the
 * replies. 0, or NBD_REP_ERR_TOO_BIG with `m` still empty. */
uint32_t meta_set(struct export *e, struct option_meta *queries, struct meta_contexts *m,
                  GByteArray *out, const char **why);

#endif
