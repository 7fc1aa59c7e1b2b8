/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-schema.h"

#include "common/state/catalogue-sql.h"
#include "common/state/catalogue.h"
#include "common/state/folder.h"
#include "common/util/error.h"

#include <inttypes.h>

#define APPLICATION 0x6e626466 /* "nbdf", in PRAGMA application_id; file(1) can tell by it */

/*
 * Step n makes version n + 1 of version n; the last one is CATALOGUE_VERSION. A step that has been
 * released is never changed. No table has an index, which could disagree with it.
 */
static const char *const steps[] = {
    /* 1 */
    "CREATE TABLE folder (id INTEGER PRIMARY KEY, uuid TEXT, boot_id TEXT, machine_id TEXT,"
    " mount_id INTEGER, journal INTEGER, open INTEGER, failed INTEGER, crc INTEGER);"
    "CREATE TABLE disks (id INTEGER PRIMARY KEY, name TEXT, size INTEGER, resize_to INTEGER,"
    " state INTEGER, image TEXT, content TEXT, changed_until INTEGER, adopted INTEGER,"
    " crc INTEGER);"
    "CREATE TABLE bitmaps (id INTEGER PRIMARY KEY, disk INTEGER NOT NULL REFERENCES disks (id),"
    " name TEXT, uuid TEXT, granularity INTEGER, size INTEGER, recording INTEGER,"
    " inconsistent TEXT, sealed INTEGER, bits_crc INTEGER, crc INTEGER);"
    "CREATE TABLE tally (id INTEGER PRIMARY KEY, rows INTEGER, sum INTEGER, next INTEGER,"
    " crc INTEGER);",
    /* 2 */
    "CREATE TABLE checkpoints (id INTEGER PRIMARY KEY,"
    " disk INTEGER NOT NULL REFERENCES disks (id) ON DELETE CASCADE,"
    " name TEXT, description TEXT, created INTEGER, crc INTEGER);"
    "CREATE TABLE checkpoint_bitmaps (id INTEGER PRIMARY KEY,"
    " checkpoint INTEGER NOT NULL REFERENCES checkpoints (id) ON DELETE CASCADE,"
    " bitmap INTEGER NOT NULL REFERENCES bitmaps (id) ON DELETE CASCADE, crc INTEGER);"
    "CREATE TABLE sessions (id INTEGER PRIMARY KEY, name TEXT, created INTEGER, crc INTEGER);",
    /* 3: live bits are in a memory folder, whose run this is */
    "ALTER TABLE folder RENAME COLUMN mount_id TO run;",
    /* 4: records, and their count: none, with the checksum of that. No server has used the tables of
     * step 2. */
    "DROP TABLE checkpoint_bitmaps; DROP TABLE checkpoints; DROP TABLE sessions;"
    "CREATE TABLE records (id INTEGER PRIMARY KEY, kind TEXT, name TEXT, text TEXT, crc INTEGER);"
    "INSERT INTO tally (id, rows, sum, next, crc) VALUES (3, 0, 0, 1, 2223519212);",
};

_Static_assert(G_N_ELEMENTS(steps) == CATALOGUE_VERSION, "the header says how many");

static int take_steps(struct catalogue *c, int64_t from, GError **err)
{
    g_autofree char *version = g_strdup_printf("PRAGMA user_version = %zu", G_N_ELEMENTS(steps));

    for (size_t i = (size_t)from; i < G_N_ELEMENTS(steps); i++)
        if (sql_run(c, steps[i], err) < 0)
            return -1;
    return sql_run(c, version, err);
}

int schema_create(struct catalogue *c, GError **err)
{
    g_autofree char *application = g_strdup_printf("PRAGMA application_id = %d", APPLICATION);

    return sql_run(c, application, err) < 0 ? -1 : take_steps(c, 0, err);
}

int schema_check(struct catalogue *c, GError **err)
{
    int64_t application, version, most = G_N_ELEMENTS(steps);

    if (sql_number(c, "PRAGMA application_id", &application, err) < 0 ||
        sql_number(c, "PRAGMA user_version", &version, err) < 0)
        return -1;
    if (application != APPLICATION || version < 1)
        return fail(err, "state: %s/" STATE_CATALOGUE ": this is no catalogue of nbdfleece",
                    c->s->path);
    if (version > most)
        return fail(err,
                    "state: %s: made by a newer version (format %" PRId64
                    "; this one knows up to %" PRId64 ")",
                    c->s->path, version, most);
    return 0;
}

int schema_upgrade(struct catalogue *c, GError **err)
{
    int64_t version;

    if (sql_number(c, "PRAGMA user_version", &version, err) < 0)
        return -1;
    if (version == G_N_ELEMENTS(steps))
        return 0;
    if (sql_run(c, "BEGIN IMMEDIATE", err) < 0)
        return -1;
    if (take_steps(c, version, err) == 0 && sql_run(c, "COMMIT", err) == 0)
        return 0;
    if (!sqlite3_get_autocommit(c->db))
        sqlite3_exec(c->db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}
