/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The client of the target `connection`. It knows what it has sent, and so what the server may
 * answer. Every reply is checked against the protocol and against the request. A server that
 * neither answers nor ends fails a check, too.
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
    uint64_t at;       /* a read: data came up to here; a status: bytes that a context covers */
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
    const uint8_t *bytes; /* its content; NULL: not checked, because requests run at once */
    bool in_transmission;
    bool out_of_sync; /* what we sent makes no sense: anything may come, and the end */

    struct asked asked[REQUESTS_MAX];
    unsigned n_asked;
};

void talk_begin(struct talk *t, int fd);
void talk_end(struct talk *t);

/* Put bytes into the buffer of what is to be sent; talk_wait and talk_finish send it. */
void talk_say(struct talk *t, const void *bytes, size_t length);
/* Send the buffer and receive until `need` bytes are there. They are valid until the next call.
 * NULL: the server has ended before that. */
const uint8_t *talk_wait(struct talk *t, size_t need);
/* Send the buffer, and say that nothing follows. */
void talk_finish(struct talk *t);

/* ---- handshake (talk-options.c) ---- */

/* Take the server's greeting, and answer with the client's flags. */
void talk_greet(struct talk *t, uint32_t flags);
void talk_say_option(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length);
/* Take all replies to an option that was sent with these data, and note what it has agreed. false:
 * no other option can follow, because of transmission or of the end. */
bool talk_option_replies(struct talk *t, uint32_t option, const uint8_t *data, uint32_t length);

/* ---- transmission (talk-replies.c) ---- */

/* Take one reply or chunk. false: the server has ended. */
bool talk_reply(struct talk *t);

#endif
