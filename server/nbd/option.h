/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Options of the handshake, parsed. Pure functions: bytes in, struct out, no I/O, no allocation;
 * what they return points into the bytes. A fuzzer may call them with anything.
 *
 * Each returns 0, or the NBD_REP_ERR_* to answer with and in *why a sentence for the client.
 */
#ifndef SERVER_NBD_OPTION_H
#define SERVER_NBD_OPTION_H

#include "common/cursor.h"
#include "common/nbd-protocol.h"

/* Most bytes of option data that we read; a client with more is taken for an attack. */
#define OPTION_DATA_MAX 65536u

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
