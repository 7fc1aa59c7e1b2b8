/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Requests of the transmission phase: parsing and judging them. Pure functions, no I/O.
 */
#ifndef SERVER_NBD_REQUEST_H
#define SERVER_NBD_REQUEST_H

#include "common/nbd-protocol.h"

#include <stdbool.h>
#include <stdint.h>

struct request {
    uint64_t cookie;
    uint64_t offset;
    uint64_t length; /* 64 bits wide already for extended headers */
    uint16_t flags;
    uint16_t type;
};

/* What was agreed with the client; requests are judged by it. */
struct request_rules {
    uint64_t size;      /* of the export, bytes */
    uint32_t min_block; /* a power of 2 */
    uint16_t eflags;    /* the transmission flags that it was told */
    bool readonly;      /* WRITE and WRITE_ZEROES are refused; TRIM too unless SEND_TRIM was told */
    bool structured;    /* structured replies */
    bool status_contexts; /* at least one meta context is selected */
};

/* Take apart a compact request header of NBD_REQUEST_SIZE bytes. False: the magic is wrong, and so
 * where the next request begins is unknown. */
bool request_parse(const uint8_t *header, struct request *r);

/* Bytes that follow the header. */
uint64_t request_payload(const struct request *r);

/* May this request be carried out? 0, or the NBD_E* to answer with and in *why a sentence for the
 * client. Not for NBD_CMD_DISC. What is allowed lies inside the export, so that offset + length
 * does not overflow. */
uint32_t request_check(const struct request *r, const struct request_rules *rules,
                       const char **why);

/* The NBD_E* for `error` (an errno value, either sign, not 0) of a request's execution. */
uint32_t request_error(const struct request *r, int error);

/* A sentence for the client about an NBD_E*. */
const char *request_error_text(uint32_t nbd_error);

/* "READ" and so on, for messages. */
const char *request_name(const struct request *r);

#endif
