/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * One row of the catalogue, between a struct and the database. Each row ends with a CRC-32 of its
 * table's name and its columns' types and values.
 */
#ifndef COMMON_STATE_CATALOGUE_ROW_H
#define COMMON_STATE_CATALOGUE_ROW_H

#include "common/state/catalogue-private.h"

/* What a column is in the struct. */
enum column_kind {
    COLUMN_ONE,    /* no member: it is 1 */
    COLUMN_INT64,  /* any */
    COLUMN_UINT64, /* any, as the same 64 bits */
    COLUMN_SIZE,   /* uint64_t, at most INT64_MAX */
    COLUMN_UINT32,
    COLUMN_BOOL,
    COLUMN_ENUM, /* of the size of an int, from 0 to `most` */
    COLUMN_TEXT, /* char *, owned, at most `most` bytes */
    COLUMN_TEXT_OR_NULL,
    COLUMN_CHARS, /* char[most] */
};

struct column {
    const char *name;
    enum column_kind kind;
    size_t at; /* in the struct */
    size_t most;
};

struct table {
    const char *name;
    const struct column *columns; /* the first is `id` */
    unsigned n;
    size_t size; /* of the struct */
};

/* A statement for row_read: all rows in order of their ids. NULL and *err. */
sqlite3_stmt *row_select(struct catalogue *c, const struct table *t, GError **err);
/* Take the row that the statement is at. `row` is zeroed before; a value that does not fit its
 * member leaves that so. *crc: the one that the row has. False: the row is damaged. */
bool row_read(const struct table *t, sqlite3_stmt *statement, void *row, uint32_t *crc);
/* Insert the row, or replace the one with the same id. *crc: that of the row. -1 and *err. */
int row_write(struct catalogue *c, const struct table *t, const void *row, uint32_t *crc,
              GError **err);
/* 1: there is such a row, and *crc is the one that it has. 0: there is none. -1 and *err. */
int row_crc(struct catalogue *c, const struct table *t, int64_t id, uint32_t *crc, GError **err);
int row_delete(struct catalogue *c, const struct table *t, int64_t id, GError **err);

#endif
