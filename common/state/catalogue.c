/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue.h"

#include "common/state/catalogue-make.h"
#include "common/state/catalogue-schema.h"
#include "common/state/catalogue-sql.h"
#include "common/state/catalogue-tally.h"
#include "common/state/folder.h"
#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <string.h>

/* SQLite's name of its log, and the bytes of a log in which there is nothing yet (fileformat2.html,
 * section 4.1). */
#define CATALOGUE_LOG STATE_CATALOGUE "-wal"
#define LOG_HEAD      32u
/* It is emptied after each transaction, so it is never as long as this. */
#define LOG_MOST (UINT64_C(1) << 30)

/* ---- opening ---- */

/* SQLite takes an empty file for a new database: here it is one that was cut short. */
static int check_file(struct storage *s, bool make, GError **err)
{
    struct storage_file *file;
    uint64_t size = 0;
    int error = s->ops->open(s, STATE_CATALOGUE, false, &file);

    if (error == -ENOENT && make)
        return catalogue_make(s, err);
    if (error < 0)
        return storage_fail(s, STATE_CATALOGUE, "open", error, err);
    error = s->ops->size(file, &size);
    s->ops->close(file);
    if (error < 0)
        return storage_fail(s, STATE_CATALOGUE, "stat", error, err);
    if (size < 512)
        return fail(err, "state: %s/" STATE_CATALOGUE ": it is damaged: it is cut short", s->path);
    return 0;
}

static bool is_zero(const uint8_t *bytes, size_t n)
{
    return *bytes == 0 && memcmp(bytes, bytes + 1, n - 1) == 0;
}

/* Nothing is in the log behind a piece of zeroes: each page in it has a head. */
static int write_again(struct storage_file *f)
{
    const struct storage_ops *ops = f->storage->ops;
    const size_t most = 65536;
    g_autofree uint8_t *piece = g_malloc(most);
    uint64_t size;
    int error = ops->size(f, &size);

    if (error < 0 || size <= LOG_HEAD)
        return error;
    size = MIN(size, LOG_MOST);
    for (uint64_t at = 0; at < size; at += most) {
        size_t n = MIN(most, size - at);

        error = ops->read(f, piece, n, at);
        if (error == 0 && is_zero(piece, n))
            break;
        if (error == 0)
            error = ops->write(f, piece, n, at);
        if (error < 0)
            return error;
    }
    return ops->sync(f);
}

/* A log may be there because its sync has failed. Then the kernel has all of it, the disk perhaps has
 * not, and a second sync would prove nothing. But SQLite relies on the log while it writes the
 * database. So all of it is written once more, before it is opened, and synced. */
static int write_log_again(struct storage *s, GError **err)
{
    struct storage_file *f;
    int error = s->ops->open(s, CATALOGUE_LOG, false, &f);

    if (error == -ENOENT)
        return 0;
    if (error < 0)
        return storage_fail(s, CATALOGUE_LOG, "open", error, err);
    error = write_again(f);
    s->ops->close(f);
    return error < 0 ? storage_fail(s, CATALOGUE_LOG, "write it again", error, err) : 0;
}

static int use_log(struct catalogue *c, GError **err)
{
    g_autofree char *mode = sql_text(c, "PRAGMA journal_mode = WAL", err);

    if (!mode)
        return -1;
    if (strcmp(mode, "wal") != 0)
        return fail(err, "state: %s/" STATE_CATALOGUE ": SQLite has no log for it, but '%s'",
                    c->s->path, mode);
    return 0;
}

/* Move what is in the log into the database, and empty the log. SQLite cannot tell a log that was cut
 * short from a shorter one: acknowledged changes would be gone. */
static int empty_log(struct catalogue *c)
{
    return sqlite3_wal_checkpoint_v2(c->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) & 0xff;
}

/* What is in the log becomes durable when it is written into the database. On a full disk that has to
 * wait. */
static int take_log_in(struct catalogue *c, GError **err)
{
    int code = empty_log(c);

    return code == SQLITE_OK || code == SQLITE_FULL ? 0
                                                    : sql_fail(c, "empty its write-ahead log", err);
}

/* Look at all pages, which is little work. Writing into a damaged tree would make it worse. */
static int check_pages(struct catalogue *c, GError **err)
{
    g_autofree char *answer = sql_text(c, "PRAGMA quick_check(1)", err);

    if (!answer)
        return -1;
    if (strcmp(answer, "ok") == 0)
        return 0;
    g_strdelimit(answer, "\n", ' ');
    return fail(err, "state: %s/" STATE_CATALOGUE ": it is damaged: %s", c->s->path, answer);
}

struct catalogue *catalogue_open(struct storage *s, GError **err)
{
    struct catalogue *c;

    if (check_file(s, true, err) < 0 || write_log_again(s, err) < 0)
        return NULL;
    c = g_new0(struct catalogue, 1);
    c->s = s;
    if (sql_open(c, STATE_CATALOGUE, err) == 0 && schema_check(c, err) == 0 &&
        use_log(c, err) == 0 && check_pages(c, err) == 0 && take_log_in(c, err) == 0 &&
        schema_upgrade(c, err) == 0 && tally_check(c, err) == 0)
        return c;
    catalogue_close(c);
    return NULL;
}

static void close_database(struct catalogue *c)
{
    if (c->dead && c->db)
        sqlite3_db_config(c->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
    sqlite3_close(c->db);
    c->db = NULL;
    for (unsigned i = 0; i < TALLIES; i++)
        g_clear_pointer(&c->complaint[i], g_free);
}

void catalogue_close(struct catalogue *c)
{
    close_database(c);
    g_free(c);
}

/* ---- opening anew ---- */

bool catalogue_has_failed(const struct catalogue *c)
{
    return c->dead;
}

static bool counts_are(const struct catalogue *c, const struct tally said[TALLIES])
{
    return memcmp(c->tallies, said, sizeof c->tallies) == 0;
}

/* What is read now may be in the kernel's memory alone, since a sync has failed: it is written into
 * the database once more, and synced. A full disk is no excuse here. */
static int open_anew(struct catalogue *c, GError **err)
{
    if (check_file(c->s, false, err) < 0 || write_log_again(c->s, err) < 0 ||
        sql_open(c, STATE_CATALOGUE, err) < 0 || schema_check(c, err) < 0 || use_log(c, err) < 0 ||
        check_pages(c, err) < 0)
        return -1;
    if (empty_log(c) != SQLITE_OK)
        return sql_fail(c, "empty its write-ahead log", err);
    if (tally_check(c, err) < 0)
        return -1;
    if (!c->sick && (counts_are(c, c->before) || counts_are(c, c->after)))
        return 0;
    return fail(err, "state: %s/" STATE_CATALOGUE ": it is not as it was left", c->s->path);
}

int catalogue_reopen(struct catalogue *c, bool *happened, GError **err)
{
    close_database(c);
    c->sick = c->distrusted = false;
    if (open_anew(c, err) < 0) {
        close_database(c);
        return -1;
    }
    *happened = counts_are(c, c->after);
    c->dead = false;
    return 0;
}

/* ---- transactions ---- */

int catalogue_begin(struct catalogue *c, GError **err)
{
    if (c->dead)
        return fail(err,
                    "state: %s/" STATE_CATALOGUE
                    ": the storage failed while it was written, and it "
                    "is not written any more before it is opened anew",
                    c->s->path);
    if (sql_run(c, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    memcpy(c->before, c->tallies, sizeof c->before);
    c->was_sick = c->sick;
    if (c->sick && tally_heal(c, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    c->sick = false;
    return 0;
}

void catalogue_rollback(struct catalogue *c)
{
    /* After an error SQLite may have done so by itself. */
    if (!sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    memcpy(c->tallies, c->before, sizeof c->before);
    c->sick = c->was_sick;
}

/* Names are unique at the end of a transaction; in the middle they need not be. */
static int check_unique(struct catalogue *c, const char *sql, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = sql_prepare(c, sql, err);
    int got = statement ? sql_step(c, statement, err) : -1;

    if (got <= 0)
        return got;
    return fail(err, "state: %s/" STATE_CATALOGUE ": '%s' would be there twice", c->s->path,
                (const char *)sqlite3_column_text(statement, 0));
}

uint64_t catalogue_number(const struct catalogue *c)
{
    uint64_t number = 0;

    for (unsigned i = 0; i < TALLIES; i++)
        number += (uint64_t)c->tallies[i].next;
    return number;
}

/* Each transaction uses up an id, if need be one that no row gets. So the counts that it leaves differ
 * from all earlier ones, and tell whether it has happened. */
static void use_an_id(struct catalogue *c)
{
    int64_t *next = &c->tallies[OF_BITMAPS].next;

    for (unsigned i = 0; i < TALLIES; i++)
        if (c->tallies[i].next != c->before[i].next)
            return;
    if (*next < INT64_MAX)
        ++*next;
}

static int prepare_commit(struct catalogue *c, GError **err)
{
    if (sql_check_transaction(c, err) < 0 ||
        check_unique(c, "SELECT name FROM disks GROUP BY name HAVING count(*) > 1", err) < 0 ||
        check_unique(c, "SELECT name FROM bitmaps GROUP BY disk, name HAVING count(*) > 1", err) <
            0 ||
        check_unique(c, "SELECT uuid FROM bitmaps GROUP BY uuid HAVING count(*) > 1", err) < 0 ||
        check_unique(c, "SELECT name FROM records GROUP BY kind, name HAVING count(*) > 1", err) <
            0)
        return -1;
    use_an_id(c);
    return tally_write(c, err);
}

/* The log is emptied after each transaction. Where that fails, the next one tries again, and writes
 * all of it into the database once more. */
static void end_commit(struct catalogue *c)
{
    if (empty_log(c) != SQLITE_OK)
        log_error("state: %s/" STATE_CATALOGUE ": its write-ahead log cannot be emptied: %s",
                  c->s->path, sqlite3_errmsg(c->db));
}

int catalogue_commit(struct catalogue *c, bool *unsure, GError **err)
{
    int code;

    if (unsure)
        *unsure = false;
    if (prepare_commit(c, err) < 0) {
        catalogue_rollback(c);
        return -1;
    }
    code = sqlite3_exec(c->db, "COMMIT", NULL, NULL, NULL) & 0xff;
    if (code == SQLITE_OK) {
        end_commit(c);
        return 0;
    }
    sql_fail(c, "COMMIT", err);
    /* A full disk (SQLITE_FULL) cuts the last frame of the log, which then counts for nothing. */
    c->dead = code == SQLITE_IOERR;
    if (unsure)
        *unsure = c->dead;
    memcpy(c->after, c->tallies, sizeof c->after);
    catalogue_rollback(c);
    return -1;
}

/* ---- tools ---- */

int catalogue_verify(struct catalogue *c, GPtrArray *damaged, GError **err)
{
    static const struct {
        const char *sql, *format;
    } checks[] = {
        {"PRAGMA integrity_check(100)", "the catalogue: %s"},
        {"PRAGMA foreign_key_check",
         "the catalogue: a row of its %s refers to one that is missing"},
    };

    for (size_t i = 0; i < G_N_ELEMENTS(checks); i++) {
        SQL_AUTO sqlite3_stmt *statement = sql_prepare(c, checks[i].sql, err);
        int got = -1;

        while (statement && (got = sql_step(c, statement, err)) > 0) {
            const char *text = (const char *)sqlite3_column_text(statement, 0);

            if (text && strcmp(text, "ok") != 0)
                g_ptr_array_add(damaged, g_strdup_printf(checks[i].format, text));
        }
        if (got < 0)
            return -1;
    }
    return 0;
}
