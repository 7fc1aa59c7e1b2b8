/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A raw NBD client for unit tests: it sends what it is told to, right or wrong, and checks only the
 * framing of what comes back. Every call that waits fails the test after a minute.
 */
#ifndef TESTS_RIGS_NBD_CLIENT_H
#define TESTS_RIGS_NBD_CLIENT_H

#include "common/base/cursor.h"
#include "common/base/nbd-protocol.h"

#include <glib.h>

struct client {
    int fd;
    bool structured;
    uint64_t size; /* of the export, after client_go */
    uint16_t eflags;
};

/* A reply of the transmission phase: a simple one, or one structured chunk. */
struct answer {
    bool simple;
    uint16_t flags, type;
    uint64_t cookie;
    uint32_t error;   /* of a simple reply or an error chunk */
    uint64_t offset;  /* of a content chunk or an ERROR_OFFSET */
    uint32_t length;  /* of the payload below */
    uint8_t *payload; /* data, or a status chunk's id and extents; g_free */
};

struct client client_on(int fd);
void client_close(struct client *c);

void client_send(struct client *c, const void *bytes, size_t length);
void client_receive(struct client *c, void *bytes, size_t length);
/* The server has closed, or closes, and sends nothing more. */
void client_expect_end(struct client *c);

/* Receive the server's greeting and answer with these flags. */
void client_greet(struct client *c, uint32_t flags);
void client_option(struct client *c, uint32_t option, const void *data, uint32_t length);
/* Receive one option reply; returns its type. *data (may be NULL) is for g_free. */
uint32_t client_option_reply(struct client *c, uint32_t option, uint8_t **data, uint32_t *length);
/* Do the greeting, structured replies if wanted, contexts (n may be 0), and GO. All of them
 * succeed. */
void client_go(struct client *c, const char *export, bool structured, const char *const *contexts,
               unsigned n);
/* Do only the GO or INFO; returns its final reply's type. */
uint32_t client_go_option(struct client *c, uint32_t option, const char *export);
/* Do only the SET_META_CONTEXT or LIST_META_CONTEXT; returns the final reply's type. *n (may be
 * NULL): so many contexts came. */
uint32_t client_meta_option(struct client *c, uint32_t option, const char *export,
                            const char *const *queries, unsigned n_queries, unsigned *n);

void client_request(struct client *c, uint16_t flags, uint16_t type, uint64_t cookie,
                    uint64_t offset, uint32_t length);
/* A simple reply to a read carries `read_length` bytes: the caller has to know. */
struct answer client_answer(struct client *c, uint32_t read_length);
/* The same, and throw it away: it has to be the success of `cookie` with so much data (0: none). */
void client_expect_success(struct client *c, uint64_t cookie, uint32_t read_length);
void client_expect_error(struct client *c, uint64_t cookie, uint32_t error);

#endif
