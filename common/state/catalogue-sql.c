/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-sql.h"

#include "common/state/folder.h"
#include "common/util/error.h"

/* Longer rows than that are damage. A record may have CATALOGUE_MAX_RECORD bytes and its names. */
#define MOST_BYTES (2 << 20)

/* A lock on the folder keeps others out; with locking_mode=EXCLUSIVE SQLite needs no shared memory
 * beside the database. A mapped database would be a SIGBUS where somebody cuts it short. No page is
 * written before COMMIT (cache_spill), and the log is emptied by us (catalogue.c). */
static const char settings[] = "PRAGMA locking_mode=EXCLUSIVE;"
                               "PRAGMA temp_store=MEMORY;"
                               "PRAGMA mmap_size=0;"
                               "PRAGMA synchronous=FULL;"
                               "PRAGMA cell_size_check=ON;"
                               "PRAGMA foreign_keys=ON;"
                               "PRAGMA cache_spill=OFF;"
                               "PRAGMA wal_autocheckpoint=0;";

int sql_fail(struct catalogue *c, const char *doing, GError **err)
{
    int code = sqlite3_errcode(c->db) & 0xff;

    if (code == SQLITE_CORRUPT || code == SQLITE_NOTADB)
        return fail(err, "state: %s/" STATE_CATALOGUE ": it is damaged: %s", c->s->path,
                    sqlite3_errmsg(c->db));
    return fail(err, "state: %s/" STATE_CATALOGUE ": %s: %s", c->s->path, doing,
                sqlite3_errmsg(c->db));
}

int sql_check_transaction(struct catalogue *c, GError **err)
{
    if (!sqlite3_get_autocommit(c->db))
        return 0;
    return fail(err, "state: %s/" STATE_CATALOGUE ": the transaction is over", c->s->path);
}

/* The schema comes from a file that is not trusted. */
static void distrust(sqlite3 *db)
{
    sqlite3_db_config(db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_VIEW, 0, NULL);
    sqlite3_limit(db, SQLITE_LIMIT_LENGTH, MOST_BYTES);
    sqlite3_limit(db, SQLITE_LIMIT_ATTACHED, 0);
}

int sql_open(struct catalogue *c, const char *name, GError **err)
{
    /* SQLite may take a name that begins with "file:" for a URI. */
    const char *here = g_str_has_prefix(c->s->path, "file:") ? "./" : "";
    g_autofree char *path = g_strdup_printf("%s%s/%s", here, c->s->path, name);
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE |
                SQLITE_OPEN_EXRESCODE;

    if (sqlite3_open_v2(path, &c->db, flags, c->s->vfs) != SQLITE_OK) {
        if (!c->db) /* no memory */
            return fail(err, "state: %s: %s", path, sqlite3_errstr(SQLITE_NOMEM));
        return sql_fail(c, "open", err);
    }
    distrust(c->db);
    return sql_run(c, settings, err);
}

int sql_run(struct catalogue *c, const char *sql, GError **err)
{
    return sqlite3_exec(c->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_fail(c, sql, err);
}

sqlite3_stmt *sql_prepare(struct catalogue *c, const char *sql, GError **err)
{
    sqlite3_stmt *statement = NULL;

    if (sqlite3_prepare_v2(c->db, sql, -1, &statement, NULL) != SQLITE_OK)
        sql_fail(c, sql, err);
    return statement;
}

int sql_step(struct catalogue *c, sqlite3_stmt *statement, GError **err)
{
    int code = sqlite3_step(statement);

    if (code == SQLITE_ROW)
        return 1;
    return code == SQLITE_DONE ? 0 : sql_fail(c, sqlite3_sql(statement), err);
}

/* A statement whose first row is there. */
static sqlite3_stmt *first_row(struct catalogue *c, const char *sql, GError **err)
{
    sqlite3_stmt *statement = sql_prepare(c, sql, err);
    int got = statement ? sql_step(c, statement, err) : -1;

    if (got > 0)
        return statement;
    if (got == 0)
        fail(err, "state: %s/" STATE_CATALOGUE ": %s: there is no answer", c->s->path, sql);
    sqlite3_finalize(statement);
    return NULL;
}

int sql_number(struct catalogue *c, const char *sql, int64_t *number, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = first_row(c, sql, err);

    if (!statement)
        return -1;
    *number = sqlite3_column_int64(statement, 0);
    return 0;
}

char *sql_text(struct catalogue *c, const char *sql, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = first_row(c, sql, err);
    const unsigned char *text;

    if (!statement)
        return NULL;
    text = sqlite3_column_text(statement, 0);
    return g_strdup(text ? (const char *)text : "");
}
