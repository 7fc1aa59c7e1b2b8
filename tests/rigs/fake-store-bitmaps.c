/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/fake-store-bitmaps.h"

#include <errno.h>

void commit_instant(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

void assert_commit_fails(struct instant *i, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, why);
}

static struct dirty_bitmap_info info_of(struct fake_store *s, const char *name, char **reason)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    struct dirty_bitmap_info info;

    g_assert_nonnull(db);
    dirty_bitmap_info(db, &info);
    *reason = dirty_bitmap_reason(db);
    dirty_bitmap_unref(db);
    return info;
}

void assert_stored(struct fake_store *s, const char *name, uint64_t count, bool recording,
                   bool persistent, const char *why)
{
    g_autofree char *reason = NULL;
    struct dirty_bitmap_info info = info_of(s, name, &reason);

    g_assert_cmpstr(reason, ==, why);
    g_assert_true(info.inconsistent == (why != NULL));
    if (!why)
        g_assert_cmpuint(info.count, ==, count);
    g_assert_true(info.recording == recording);
    g_assert_true(info.persistent == persistent);
    g_assert_false(info.busy);
}

/* Nothing is called clean. */
void assert_stored_no_extents(struct fake_store *s, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    struct extents e = EXTENTS_INIT;

    g_assert_cmpint(dirty_bitmap_extents(db, 4096, 0, false, &e), ==, -EIO);
    extents_free(&e);
    dirty_bitmap_unref(db);
}

void stored_add(struct fake_store *s, const char *name, bool recording, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, name, 4096, recording, persistent, NULL),
                    ==, 0);
    commit_instant(i);
    fake_store_forget(s);
}

void stored_clear(struct fake_store *s, const char *name)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_clear(i, s->rig->disk, name, NULL), ==, 0);
    commit_instant(i);
}

void assert_refused(int result, GError **error, const char *message)
{
    g_assert_cmpint(result, ==, -1);
    g_assert_cmpstr((*error)->message, ==, message);
    g_clear_error(error);
}

const struct bitmap *stored_bits_at(struct fake_store *s, const char *name)
{
    struct dirty_bitmap *db = disk_find_bitmap(s->rig->disk, name);
    const struct bitmap *bits = db->bits;

    dirty_bitmap_unref(db);
    return bits;
}

struct fake_store *stored_two(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();

    stored_add(s, "old", true, true);
    stored_add(s, "idle", true, true);
    rig_fill(s->rig, 0, 4096, 'a');
    g_assert_cmpint(instant_bitmap_record(i, s->rig->disk, "idle", false, NULL), ==, 0);
    commit_instant(i);
    fake_store_forget(s);
    return s;
}
