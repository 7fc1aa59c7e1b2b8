/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The input of the transmission phase: the connection's receive buffer, and how it is waited for.
 * Private to transmission.c; the connection's thread.
 */
#ifndef NBD_RECEIVING_H
#define NBD_RECEIVING_H

#include "server/nbd/connection.h"

#include <time.h>

/* Seconds without traffic after which buffers and workers are given up. */
#define IDLE_SECONDS 1u

enum step {
    STEP_NEXT, /* go on */
    STEP_END,  /* in order: let everything finish */
    STEP_CUT,  /* at once */
};

/* Bytes that are in the buffer and not yet dealt with. */
static inline size_t received(const struct connection *c)
{
    return c->in.end - c->in.begin;
}

static inline size_t header_size(const struct connection *c)
{
    return request_header_size(&c->negotiated.rules);
}

/* CLOCK_MONOTONIC. */
static inline uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Receive until `need` bytes are there from in.begin on, or at least something more. */
enum step receive_more(struct connection *c, size_t need);

/* Wait for input, and receive at most `length` bytes of it to `to`, which need not be the buffer.
 * > 0; 0 at the end; -EAGAIN: nothing came for IDLE_SECONDS; another negative errno. */
ssize_t receive_some(struct connection *c, void *to, size_t length);

#endif
