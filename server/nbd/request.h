/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the transmission phase: parsing and judging them. Pure functions, no I/O.
 */
#ifndef NBD_REQUEST_H
#define NBD_REQUEST_H

#include "common/base/nbd-protocol.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct request {
    uint64_t cookie;
    uint64_t start;   /* the offset as it was sent; extended replies repeat it */
    uint64_t offset;  /* what is still to be done begins here, */
    uint64_t length;  /* and has this many bytes of the export */
    uint64_t payload; /* bytes that follow the header */
    uint16_t flags;
    uint16_t type;
};

/* The payload of a BLOCK_STATUS: a 64-bit length, then 32-bit ids of contexts. */
#define STATUS_FILTER_HEAD 8u
#define STATUS_FILTER_ID   4u

/* What was agreed with the client, and what requests are judged by. */
struct request_rules {
    uint64_t size;      /* of the export, bytes */
    uint32_t min_block; /* a power of 2; 1 for a client that has not asked for block sizes */
    uint16_t eflags;    /* the transmission flags that it was told */
    bool readonly;      /* WRITE and WRITE_ZEROES are refused; TRIM too unless SEND_TRIM was told */
    bool structured;    /* replies are chunks; always so with: */
    bool extended;      /* extended headers, both ways */
    unsigned status_contexts; /* how many meta contexts are selected */
};

/* Bytes of a request's header. */
static inline size_t request_header_size(const struct request_rules *rules)
{
    return rules->extended ? NBD_EXTENDED_REQUEST_SIZE : NBD_REQUEST_SIZE;
}

/* Take apart a header of request_header_size bytes. False: the magic is wrong, so nobody knows
 * where the next request begins. */
bool request_parse(const uint8_t *header, const struct request_rules *rules, struct request *r);

/* May this request be carried out? 0, or the NBD_E* to answer with and in *why a sentence for the
 * client. Not for NBD_CMD_DISC. What is allowed lies inside the export, so that offset + length
 * does not overflow. Of a BLOCK_STATUS with a payload only the header has been judged: its length
 * is in the payload, and status_filter does the rest. */
uint32_t request_check(const struct request *r, const struct request_rules *rules,
                       const char **why);

/* The part of it that is about offset and length. */
uint32_t request_check_range(const struct request *r, const struct request_rules *rules,
                             const char **why);

/* The NBD_E* for `error` (an errno value, either sign, not 0) of a request's execution. */
uint32_t request_error(const struct request *r, int error);

/* A sentence for the client about an NBD_E*. */
const char *request_error_text(uint32_t nbd_error);

/* "READ" and so on, for messages. */
const char *request_name(const struct request *r);

#endif
