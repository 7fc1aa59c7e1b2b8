/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-records.h"

#include "common/util/error.h"
#include "server/state/store-rows.h"

#include <string.h>

_Static_assert(STATE_MAX_RECORD == CATALOGUE_MAX_RECORD, "the catalogue takes what state.h allows");

struct record_change {
    char *kind, *name, *text; /* text NULL: it is removed */
    char *(*ask)(void *opaque);
    void *opaque;
    /* What the plan says; both NULL: nothing changes. */
    struct catalogue_record *old; /* in memory */
    struct catalogue_record *new; /* owned */
};

struct record_changes {
    GArray *changes; /* struct record_change */
};

static void clear_change(void *opaque)
{
    struct record_change *change = opaque;

    g_free(change->kind);
    g_free(change->name);
    g_free(change->text);
    g_clear_pointer(&change->new, rows_free_record);
}

static struct record_change *change_at(const struct record_changes *changes, unsigned i)
{
    return &g_array_index(changes->changes, struct record_change, i);
}

/* ---- the changes of a transaction ---- */

struct record_changes *record_changes_new(void)
{
    struct record_changes *changes = g_new(struct record_changes, 1);

    changes->changes = g_array_new(FALSE, FALSE, sizeof(struct record_change));
    g_array_set_clear_func(changes->changes, clear_change);
    return changes;
}

void record_changes_free(struct record_changes *changes)
{
    g_array_unref(changes->changes);
    g_free(changes);
}

void record_changes_add(struct record_changes *changes, const struct state_record *record)
{
    struct record_change change = {.kind = g_strdup(record->kind),
                                   .name = g_strdup(record->name),
                                   .ask = record->text,
                                   .opaque = record->opaque};

    for (unsigned i = 0; i < changes->changes->len; i++) {
        struct record_change *other = change_at(changes, i);

        if (!g_str_equal(other->kind, change.kind) || !g_str_equal(other->name, change.name))
            continue;
        clear_change(other);
        *other = change;
        return;
    }
    g_array_append_val(changes->changes, change);
}

/* The catalogue would say so, too, but not of which record. */
static int check(const struct record_change *change, GError **err)
{
    const char *text = change->text;

    if (!catalogue_is_name(change->kind) || !catalogue_is_name(change->name))
        return fail(err, "%s '%s' cannot be kept: its name is none", change->kind, change->name);
    if (!text)
        return fail(err, "%s '%s' cannot be kept: it has no text", change->kind, change->name);
    if (strlen(text) > STATE_MAX_RECORD)
        return fail(err,
                    "%s '%s' cannot be kept: its record has %zu bytes, and at most %u are kept",
                    change->kind, change->name, strlen(text), STATE_MAX_RECORD);
    return 0;
}

/* A path in it need not be UTF-8, and the catalogue takes nothing else. */
static char *ask(const struct record_change *change)
{
    g_autofree char *text = change->ask(change->opaque);

    return text ? g_utf8_make_valid(text, -1) : NULL;
}

int record_changes_ask(struct record_changes *changes, GError **err)
{
    for (unsigned i = 0; i < changes->changes->len; i++) {
        struct record_change *change = change_at(changes, i);

        if (!change->ask)
            continue;
        change->text = ask(change);
        if (check(change, err) < 0)
            return -1;
    }
    return 0;
}

static struct catalogue_record *find(struct store *s, const char *kind, const char *name)
{
    for (unsigned i = 0; i < s->records->len; i++) {
        struct catalogue_record *r = s->records->pdata[i];

        if (g_str_equal(r->kind, kind) && g_str_equal(r->name, name))
            return r;
    }
    return NULL;
}

/* The row as the change wants it. */
static struct catalogue_record *wanted(const struct record_change *change)
{
    struct catalogue_record *r = g_new0(struct catalogue_record, 1);

    r->id = change->old ? change->old->id : 0;
    r->kind = g_strdup(change->kind);
    r->name = g_strdup(change->name);
    r->text = g_strdup(change->text);
    return r;
}

bool record_changes_plan(struct record_changes *changes, struct store *s)
{
    bool any = false;

    for (unsigned i = 0; i < changes->changes->len; i++) {
        struct record_change *change = change_at(changes, i);

        change->old = find(s, change->kind, change->name);
        if (change->old && change->text && g_str_equal(change->old->text, change->text))
            change->old = NULL;
        else if (change->text)
            change->new = wanted(change);
        any = any || change->old || change->new;
    }
    return any;
}

int record_changes_put(struct record_changes *changes, struct store *s, GError **err)
{
    for (unsigned i = 0; i < changes->changes->len; i++) {
        struct record_change *change = change_at(changes, i);

        if (change->new
                ? catalogue_put_record(s->catalogue, change->new, err) < 0
                : change->old && catalogue_remove_record(s->catalogue, change->old->id, err) < 0)
            return -1;
    }
    return 0;
}

void record_changes_take(struct record_changes *changes, struct store *s)
{
    for (unsigned i = 0; i < changes->changes->len; i++) {
        struct record_change *change = change_at(changes, i);

        if (!change->new && change->old) {
            g_ptr_array_remove(s->records, change->old);
        } else if (change->old) {
            g_free(change->old->text);
            change->old->text = g_steal_pointer(&change->new->text);
        } else if (change->new) {
            g_ptr_array_add(s->records, g_steal_pointer(&change->new));
        }
    }
}

/* ---- all of them ---- */

static bool is_known(struct store *s, int64_t id)
{
    for (unsigned i = 0; i < s->records->len; i++)
        if (((const struct catalogue_record *)s->records->pdata[i])->id == id)
            return true;
    return false;
}

static int remove_unknown(struct store *s, GError **err)
{
    g_autoptr(GArray) there = catalogue_records(s->catalogue, NULL, err);

    if (!there)
        return -1;
    for (unsigned i = 0; i < there->len; i++) {
        int64_t id = g_array_index(there, struct catalogue_record, i).id;

        if (!is_known(s, id) && catalogue_remove_record(s->catalogue, id, err) < 0)
            return -1;
    }
    return 0;
}

int records_put_known(struct store *s, GError **err)
{
    if (remove_unknown(s, err) < 0)
        return -1;
    for (unsigned i = 0; i < s->records->len; i++)
        if (catalogue_put_record(s->catalogue, s->records->pdata[i], err) < 0)
            return -1;
    return 0;
}

static void clear_found(void *opaque)
{
    struct store_record *r = opaque;

    g_free(r->kind);
    g_free(r->name);
    g_free(r->text);
}

GArray *store_records(struct store *s, const char *kind)
{
    GArray *found = g_array_new(FALSE, FALSE, sizeof(struct store_record));

    g_array_set_clear_func(found, clear_found);
    pthread_mutex_lock(&s->catalogue_lock);
    for (unsigned i = 0; i < s->records->len; i++) {
        const struct catalogue_record *r = s->records->pdata[i];
        struct store_record copy;

        if (!g_str_equal(r->kind, kind))
            continue;
        copy = (struct store_record){g_strdup(r->kind), g_strdup(r->name), g_strdup(r->text)};
        g_array_append_val(found, copy);
    }
    pthread_mutex_unlock(&s->catalogue_lock);
    return found;
}
