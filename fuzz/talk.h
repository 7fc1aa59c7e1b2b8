/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client of the target `connection`: what it has sent, and what the server may answer to it.
 * Every reply is checked against the protocol and against what was asked; a server that neither
 * answers nor ends fails the check too.
 */
#ifndef FUZZ_TALK_H
#define FUZZ_TALK_H

#include "fuzz/fuzz.h"

#include "server/nbd/request.h"
#include "tests/rigs/nbd-rig.h"

#define REQUESTS_MAX 48u
#define CONTEXTS_MAX 16u
#define PATTERN      256u /* what a write writes is cookie, cookie + 1, ... as bytes */
#define COOKIE       0x5eed000000000000ull

/* A request on its way. */
struct asked {
    struct request r;           /* as the server will have it */
    uint32_t ids[CONTEXTS_MAX]; /* of a BLOCK_STATUS: contexts that have to answer */
    unsigned n_ids;
    uint64_t at;       /* of a read: data came up to here; of a status: how much a context told */
    unsigned answers;  /* contexts that have answered */
    bool failed, done; /* an error came; the last chunk came */
};

struct talk {
    int fd;
    GByteArray *out, *in;
    size_t sent, taken; /* bytes of `out` and `in` that are dealt with */
    bool half_closed;   /* nothing more is sent */
    bool ended;         /* the server has closed */

    /* What was agreed. */
    bool structured, extended, no_zeroes;
    uint32_t contexts[CONTEXTS_MAX]; /* ids selected */
    unsigned n_contexts;
    char *contexts_of;    /* the export that they were set for */
    uint64_t size;        /* of the export in use, */
    uint16_t eflags;      /* and its flags */
    uint32_t min_block;   /* which the target knows beforehand */
    const uint8_t *bytes; /* what is on it; NULL: requests overtake each other, so do not look */
    bool in_transmission;
    bool out_of_sync; /* what we sent makes no sense: anything may come, and the end */

    struct asked asked[REQUESTS_MAX];
    unsigned n_asked;
};

void talk_begin(struct talk *t, int fd);
void talk_end(struct talk *t);

/* Lay bytes out. talk_wait sends them. */
void talk_say(struct talk *t, const void *bytes, size_t length);
/* Send what is laid out and receive until `need` bytes are there. NULL: the server has ended before
 * that. They are valid until the next call. */
const uint8_t *talk_wait(struct talk *t, size_t need);
/* Send what is laid out, say that nothing follows, and receive to the end. */
void talk_finish(struct talk *t);

/* ---- handshake (talk-options.c) ---- */

/* The server's greeting; the client's flags. */
void talk_greet(struct talk *t, uint32_t flags);
void talk_say_option(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length);
/* Take all replies to an option that was sent with these data. Fills in what was agreed by it.
 * false: there will be no further option (transmission, or the end). */
bool talk_option_replies(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length);

/* ---- transmission (talk-replies.c) ---- */

/* Take one reply or chunk. false: the server has ended. */
bool talk_reply(struct talk *t);

#endif
