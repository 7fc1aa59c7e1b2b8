/* SPDX-License-Identifier: BSD-3-Clause */
/* What the files of the catalogue share. */
#ifndef COMMON_STATE_CATALOGUE_PRIVATE_H
#define COMMON_STATE_CATALOGUE_PRIVATE_H

#include "common/state/storage.h"

#include <sqlite3.h>

/* The tables whose rows are counted. */
enum { OF_DISKS, OF_BITMAPS, OF_RECORDS, TALLIES };

/*
 * What is known of a table as a whole. A row's checksum shows that the row is damaged. It does not
 * show that a row is gone, or that an old page of the database has come back: these counts do. They
 * are the rows of the table `tally`, and have a checksum, too.
 */
struct tally {
    int64_t id; /* 1 + OF_... */
    int64_t rows;
    int64_t sum;  /* of the rows' checksums, modulo 2^64 */
    int64_t next; /* the next row's id: none is used twice */
};

struct catalogue {
    struct storage *s;
    sqlite3 *db; /* NULL: dead, and opening it anew has failed */
    struct tally tallies[TALLIES];
    struct tally before[TALLIES]; /* as they were when the transaction began */
    struct tally after[TALLIES];  /* dead: as the transaction that failed would have left them */
    /* The storage failed in the middle of a commit. What comes after the lost part of the log would
     * be lost with it, even if its own sync succeeds: nothing is written before it is opened anew. */
    bool dead;
    /* Damage was found when the database was opened. Each reading finds it again, until the first
     * transaction writes the rows concerned anew. */
    bool sick;
    bool was_sick;            /* when the transaction began */
    bool distrusted;          /* sick: rows are missing or old, nobody knows which */
    char *complaint[TALLIES]; /* sick: what is wrong with a table as a whole, or NULL */
};

#endif
