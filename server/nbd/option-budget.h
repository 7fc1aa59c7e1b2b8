/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How much a client may haggle. Private to nbd/.
 *
 * Options are not counted: a program that lists exports asks two or three questions about each of
 * them, however many there are. The handshake's deadline bounds the time. This bounds the bytes,
 * both ways together, also where there is no deadline.
 */
#ifndef NBD_OPTION_BUDGET_H
#define NBD_OPTION_BUDGET_H

#include <stdbool.h>
#include <stdint.h>

/* More than ten times what it takes to use one export with META_CONTEXTS_MAX contexts. */
#define OPTION_BUDGET (64u << 20)
/* More for each export that the client was told of: room for a few hundred contexts' names. */
#define OPTION_BUDGET_EXPORT (64u << 10)

/* All zero: nothing used. For the connection's thread. */
struct option_budget {
    uint64_t used;
    unsigned exports; /* the most that one NBD_OPT_LIST has told */
};

static inline void option_budget_use(struct option_budget *b, uint64_t bytes)
{
    b->used += bytes;
}

static inline void option_budget_told(struct option_budget *b, unsigned exports)
{
    if (exports > b->exports)
        b->exports = exports;
}

static inline bool option_budget_is_spent(const struct option_budget *b)
{
    return b->used > OPTION_BUDGET + (uint64_t)b->exports * OPTION_BUDGET_EXPORT;
}

#endif
