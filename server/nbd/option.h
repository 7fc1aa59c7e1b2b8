/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of the handshake, parsed. Pure functions: bytes in, struct out, no I/O, no allocation;
 * what they return points into the bytes. A fuzzer may call them with anything.
 *
 * Each returns 0, or the NBD_REP_ERR_* to answer with and in *why a sentence for the client.
 */
#ifndef NBD_OPTION_H
#define NBD_OPTION_H

#include "common/base/cursor.h"
#include "common/util/text.h"
#include "common/base/nbd-protocol.h"

/* Most bytes of option data that we look at: what it takes to select META_CONTEXTS_MAX (meta.h)
 * dirty bitmaps whose names are as long as QEMU allows, 1023 bytes, each behind its length and
 * "qemu:dirty-bitmap:". */
#define OPTION_DATA_MAX (4u + NBD_STRING_MAX + 4u + 1024u * (4u + 18u + 1023u))
/* A longer option, up to this many bytes, is passed over and answered with an error. A client that
 * announces more is taken for an attacker. */
#define OPTION_LENGTH_MAX (32u << 20)

struct option_header {
    uint32_t option, length;
};

/* NBD_OPT_INFO, NBD_OPT_GO */
struct option_go {
    struct text name;
    bool want_name, want_description, want_block_size;
};

/* NBD_OPT_LIST_META_CONTEXT, NBD_OPT_SET_META_CONTEXT */
struct option_meta {
    struct text name;
    uint32_t n_queries;
    struct cursor queries; /* checked: option_meta_next gives n_queries of them */
};

/* NBD_OPTION_HEADER_SIZE bytes. False: wrong magic. */
bool option_parse_header(const uint8_t *bytes, struct option_header *h);

/* In all of these `length` is the option's length. Where that is more than OPTION_DATA_MAX nothing
 * is read from `data`. */

/* An export's name that is the whole data (NBD_OPT_EXPORT_NAME). */
uint32_t option_parse_name(const uint8_t *data, size_t length, struct text *name, const char **why);
uint32_t option_parse_go(const uint8_t *data, size_t length, struct option_go *go,
                         const char **why);
uint32_t option_parse_meta(const uint8_t *data, size_t length, struct option_meta *meta,
                           const char **why);
/* Options that carry nothing. */
uint32_t option_parse_empty(size_t length, const char **why);

/* The next query; false: there is none. */
bool option_meta_next(struct option_meta *meta, struct text *query);

/* For messages: "NBD_OPT_GO", or "option 99" in `buf`. */
const char *option_name(uint32_t option, char buf[24]);

#endif
