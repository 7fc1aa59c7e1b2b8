/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What a handshake keeps, and what all of its options need. Private to handshake.c and
 * handshake-options.c; the connection's thread.
 */
#ifndef NBD_HAGGLING_H
#define NBD_HAGGLING_H

#include "server/nbd/connection.h"
#include "server/nbd/option-budget.h"
#include "server/nbd/option.h"

/* Memory that an option and its replies may keep until the next; what is more is given back. So
 * much is read, and sent, in one piece where all of it is not needed at once. */
#define OPTION_PIECE (64u << 10)

enum next { NEXT_OPTION, NEXT_TRANSMISSION, NEXT_END };

struct haggling {
    struct connection *c;
    int64_t deadline;
    bool fixed_newstyle, no_zeroes; /* the client's flags */
    struct agreement agreed;
    struct meta_contexts contexts;
    struct option_budget budget;
    uint32_t option; /* being dealt with */
    const uint8_t *data;
    size_t length;
    GByteArray *out;
};

/* All of `length` bytes by the deadline. 0, or a negative errno. */
int haggling_receive(struct haggling *h, void *buf, size_t length);
/* Send what is laid out. 0, or a negative errno. */
int haggling_send(struct haggling *h);

/* Lay out an error for the option, with a sentence for people; the haggling goes on. */
enum next haggling_error(struct haggling *h, uint32_t error, const char *why);
/* Lay out that the option is done. */
enum next haggling_done(struct haggling *h);

bool haggling_uses_tls(const struct haggling *h);
/* May this client know of the export? */
bool haggling_is_for(const struct haggling *h, const struct export *e);
/* Which exports this client may find: its listener's. A client on standard input and output has the
 * whole server to itself. */
enum export_scope haggling_scope(const struct haggling *h);
/* A reference to the export, or NULL and an error laid out. */
struct export *haggling_find_export(struct haggling *h, struct text name);

#endif
