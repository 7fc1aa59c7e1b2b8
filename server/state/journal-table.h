/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The regions of a disk in the journal: the bytes of its cover (cover.h), and how many of each
 * 4096 are LOGGED, so that nobody has to look at all of them. A region has one of these states:
 *
 *   nothing           the file says that it is closed, or nothing
 *   LOGGED            a batch that opens it is being written, or has failed
 *   LOGGED, OPEN      the file says durably that it is open; writers go on without asking
 *   LOGGED, CLOSING   the same, but writers ask; unless one does, it will be closed
 *
 * USED may be set beside any of them, by writers that have just seen it OPEN. All else is changed
 * with the journal's lock.
 */
#ifndef STATE_JOURNAL_TABLE_H
#define STATE_JOURNAL_TABLE_H

#include "server/state/cover.h"

#include <glib.h>

struct region_table {
    _Atomic uint8_t *bytes;
    uint16_t *logged; /* LOGGED regions by page of 4096 */
    uint64_t count;   /* of all */
    uint64_t highest; /* the highest one that was ever LOGGED */
};

/* -1: errno is set. */
int table_init(struct region_table *t);
void table_destroy(struct region_table *t);

/* Are all of the range OPEN? Those that are CLOSING become so again. */
bool table_is_open(struct region_table *t, uint64_t first, uint64_t last);
/* A batch is going to open the range. Returns how many have become LOGGED. */
uint64_t table_log(struct region_table *t, uint64_t first, uint64_t last);
/* The range is durable: those that are LOGGED become OPEN. */
void table_open(struct region_table *t, uint64_t first, uint64_t last);

/* Make regions CLOSING that are OPEN and were not used since the last look, or (all) any; and with
 * `quiet` (no batch is being written, and all LOGGED regions are durable) those that are only
 * LOGGED. Returns how many are CLOSING now. */
uint64_t table_look(struct region_table *t, bool all, bool quiet);
/* Regions that are CLOSING become OPEN again. */
void table_reopen(struct region_table *t);
/* Regions that are CLOSING become nothing; entries that close them are appended. Returns how
 * many. */
uint64_t table_take_closing(struct region_table *t, int64_t disk, GArray *entries);
/* Append all LOGGED regions as entries that open them. */
void table_append_logged(const struct region_table *t, int64_t disk, GArray *entries);

#endif
