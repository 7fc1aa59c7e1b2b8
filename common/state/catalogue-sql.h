/* SPDX-License-Identifier: BSD-3-Clause */
/* The catalogue's ways to SQLite. All that fail return -1 (or NULL) and set *err. */
#ifndef COMMON_STATE_CATALOGUE_SQL_H
#define COMMON_STATE_CATALOGUE_SQL_H

#include "common/state/catalogue-private.h"

/* Open c->db, the file `name` of the folder, which is there. Nothing in it was looked at yet. */
int sql_open(struct catalogue *c, const char *name, GError **err);
/* `state: DIR/catalogue.db: DOING: why`, from the last call that failed. */
int sql_fail(struct catalogue *c, const char *doing, GError **err);
/* -1: no transaction is open, and each change would be one by itself. That is so, too, after SQLite
 * has ended the transaction because of an error. */
int sql_check_transaction(struct catalogue *c, GError **err);

/* Run statements that return nothing. */
int sql_run(struct catalogue *c, const char *sql, GError **err);
sqlite3_stmt *sql_prepare(struct catalogue *c, const char *sql, GError **err);
/* 1: a row; 0: it is done. */
int sql_step(struct catalogue *c, sqlite3_stmt *statement, GError **err);
/* The first column of the first row: a number, or a text (g_free). */
int sql_number(struct catalogue *c, const char *sql, int64_t *number, GError **err);
char *sql_text(struct catalogue *c, const char *sql, GError **err);

static inline void sql_finish(sqlite3_stmt **statement)
{
    sqlite3_finalize(*statement);
}
/* A local variable of this kind is finalized at the end of its block. */
#define SQL_AUTO __attribute__((cleanup(sql_finish)))

#endif
