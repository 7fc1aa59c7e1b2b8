/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/catalogue-row.h"

#include "common/state/catalogue-sql.h"

#include <string.h>
#include <zlib.h>

/* A column's value, as SQLite has it. */
struct value {
    int type; /* SQLITE_INTEGER, SQLITE_TEXT, SQLITE_NULL; others are damage */
    int64_t number;
    const char *text; /* not terminated */
    size_t length;
};

static uint32_t crc_add(uint32_t crc, const struct value *v)
{
    uint64_t number = v->type == SQLITE_INTEGER ? (uint64_t)v->number : v->length;
    uint8_t head[9] = {(uint8_t)v->type};

    number = GUINT64_TO_LE(number);
    memcpy(head + 1, &number, sizeof number);
    crc = (uint32_t)crc32(crc, head, sizeof head);
    /* zlib begins anew where it gets NULL */
    return v->length > 0 ? (uint32_t)crc32(crc, (const Bytef *)v->text, (uInt)v->length) : crc;
}

static uint32_t crc_begin(const struct table *t)
{
    return (uint32_t)crc32(0, (const Bytef *)t->name, (uInt)strlen(t->name));
}

/* ---- values and members ---- */

static struct value text_value(const char *text)
{
    if (!text)
        return (struct value){.type = SQLITE_NULL};
    return (struct value){.type = SQLITE_TEXT, .text = text, .length = strlen(text)};
}

static struct value member_value(const struct column *column, const void *row)
{
    const void *p = (const char *)row + column->at;
    int64_t n = 1;

    switch (column->kind) {
    case COLUMN_TEXT:
    case COLUMN_TEXT_OR_NULL:
        return text_value(*(char *const *)p);
    case COLUMN_CHARS:
        return text_value(p);
    case COLUMN_INT64:
    case COLUMN_UINT64:
    case COLUMN_SIZE:
        n = *(const int64_t *)p;
        break;
    case COLUMN_UINT32:
        n = *(const uint32_t *)p;
        break;
    case COLUMN_BOOL:
        n = *(const bool *)p;
        break;
    case COLUMN_ENUM:
        n = *(const int *)p;
        break;
    case COLUMN_ONE:
        break;
    }
    return (struct value){.type = SQLITE_INTEGER, .number = n};
}

static struct value column_value(sqlite3_stmt *statement, int column)
{
    struct value v = {.type = sqlite3_column_type(statement, column)};

    if (v.type == SQLITE_INTEGER) {
        v.number = sqlite3_column_int64(statement, column);
    } else if (v.type == SQLITE_TEXT) {
        v.text = (const char *)sqlite3_column_text(statement, column);
        v.length = v.text ? (size_t)sqlite3_column_bytes(statement, column) : 0;
    }
    return v;
}

static bool store_text(const struct column *column, void *p, const struct value *v)
{
    bool fits = v->type == SQLITE_TEXT && v->text && !memchr(v->text, '\0', v->length);

    if (column->kind == COLUMN_TEXT_OR_NULL && v->type == SQLITE_NULL)
        return true;
    if (column->kind == COLUMN_CHARS) {
        fits = fits && v->length < column->most;
        if (fits)
            memcpy(p, v->text, v->length); /* the NUL is there */
        return fits;
    }
    if (fits && v->length <= column->most)
        *(char **)p = g_strndup(v->text, v->length);
    return fits && v->length <= column->most;
}

static int64_t most_of(const struct column *column)
{
    switch (column->kind) {
    case COLUMN_UINT32:
        return UINT32_MAX;
    case COLUMN_ENUM:
        return (int64_t)column->most;
    case COLUMN_SIZE:
        return INT64_MAX;
    default:
        return 1;
    }
}

static bool store_number(const struct column *column, void *p, const struct value *v)
{
    if (v->type != SQLITE_INTEGER)
        return false;
    if (column->kind == COLUMN_INT64 || column->kind == COLUMN_UINT64) {
        *(int64_t *)p = v->number;
        return true;
    }
    if (v->number < 0 || v->number > most_of(column))
        return false;
    if (column->kind == COLUMN_SIZE)
        *(uint64_t *)p = (uint64_t)v->number;
    else if (column->kind == COLUMN_UINT32)
        *(uint32_t *)p = (uint32_t)v->number;
    else if (column->kind == COLUMN_BOOL)
        *(bool *)p = v->number != 0;
    else if (column->kind == COLUMN_ENUM)
        *(int *)p = (int)v->number;
    else
        return v->number == 1;
    return true;
}

/* False: it does not fit. */
static bool store_member(const struct column *column, void *row, const struct value *v)
{
    void *p = (char *)row + column->at;
    bool is_text = column->kind == COLUMN_TEXT || column->kind == COLUMN_TEXT_OR_NULL ||
                   column->kind == COLUMN_CHARS;

    return is_text ? store_text(column, p, v) : store_number(column, p, v);
}

/* ---- statements ---- */

sqlite3_stmt *row_select(struct catalogue *c, const struct table *t, GError **err)
{
    g_autoptr(GString) sql = g_string_new("SELECT ");

    for (unsigned i = 0; i < t->n; i++)
        g_string_append_printf(sql, "%s, ", t->columns[i].name);
    g_string_append_printf(sql, "crc FROM %s ORDER BY id", t->name);
    return sql_prepare(c, sql->str, err);
}

static bool read_crc(sqlite3_stmt *statement, int column, uint32_t *crc)
{
    int64_t number = sqlite3_column_int64(statement, column);

    *crc = (uint32_t)number;
    return sqlite3_column_type(statement, column) == SQLITE_INTEGER && number >= 0 &&
           number <= UINT32_MAX;
}

bool row_read(const struct table *t, sqlite3_stmt *statement, void *row, uint32_t *crc)
{
    uint32_t sum = crc_begin(t);
    bool good = read_crc(statement, (int)t->n, crc);

    for (unsigned i = 0; i < t->n; i++) {
        struct value v = column_value(statement, (int)i);

        sum = crc_add(sum, &v);
        good = store_member(&t->columns[i], row, &v) && good;
    }
    return good && sum == *crc;
}

static char *write_statement(const struct table *t)
{
    GString *sql = g_string_new(NULL);

    g_string_append_printf(sql, "INSERT INTO %s (", t->name);
    for (unsigned i = 0; i < t->n; i++)
        g_string_append_printf(sql, "%s, ", t->columns[i].name);
    g_string_append(sql, "crc) VALUES (");
    for (unsigned i = 0; i < t->n; i++)
        g_string_append(sql, "?, ");
    /* Not INSERT OR REPLACE, which deletes a row that others refer to. */
    g_string_append(sql, "?) ON CONFLICT (id) DO UPDATE SET ");
    for (unsigned i = 1; i < t->n; i++)
        g_string_append_printf(sql, "%s = excluded.%s, ", t->columns[i].name, t->columns[i].name);
    g_string_append(sql, "crc = excluded.crc");
    return g_string_free(sql, FALSE);
}

static int bind(sqlite3_stmt *statement, int place, const struct value *v)
{
    if (v->type == SQLITE_INTEGER)
        return sqlite3_bind_int64(statement, place, v->number);
    if (v->type == SQLITE_TEXT)
        return sqlite3_bind_text(statement, place, v->text, (int)v->length, SQLITE_STATIC);
    return sqlite3_bind_null(statement, place);
}

int row_write(struct catalogue *c, const struct table *t, const void *row, uint32_t *crc,
              GError **err)
{
    g_autofree char *sql = write_statement(t);
    SQL_AUTO sqlite3_stmt *statement = sql_prepare(c, sql, err);
    uint32_t sum = crc_begin(t);

    if (!statement)
        return -1;
    for (unsigned i = 0; i < t->n; i++) {
        struct value v = member_value(&t->columns[i], row);

        sum = crc_add(sum, &v);
        if (bind(statement, (int)i + 1, &v) != SQLITE_OK)
            return sql_fail(c, t->name, err);
    }
    if (sqlite3_bind_int64(statement, (int)t->n + 1, sum) != SQLITE_OK)
        return sql_fail(c, t->name, err);
    *crc = sum;
    return sql_step(c, statement, err) < 0 ? -1 : 0;
}

/* A statement that has an id as its one parameter. */
static sqlite3_stmt *with_id(struct catalogue *c, const char *format, const struct table *t,
                             int64_t id, GError **err)
{
    g_autofree char *sql = g_strdup_printf(format, t->name);
    sqlite3_stmt *statement = sql_prepare(c, sql, err);

    if (!statement || sqlite3_bind_int64(statement, 1, id) == SQLITE_OK)
        return statement;
    sql_fail(c, t->name, err);
    sqlite3_finalize(statement);
    return NULL;
}

int row_crc(struct catalogue *c, const struct table *t, int64_t id, uint32_t *crc, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = with_id(c, "SELECT crc FROM %s WHERE id = ?", t, id, err);
    int got = statement ? sql_step(c, statement, err) : -1;

    if (got > 0)
        read_crc(statement, 0, crc);
    return got;
}

int row_delete(struct catalogue *c, const struct table *t, int64_t id, GError **err)
{
    SQL_AUTO sqlite3_stmt *statement = with_id(c, "DELETE FROM %s WHERE id = ?", t, id, err);

    return statement && sql_step(c, statement, err) == 0 ? 0 : -1;
}
