/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writes that a plugin may hold in its memory (it offers a map) are flushed before new bits, or a view,
 * count: the process may die then, and these bits do not tell of them.
 */
#include "tests/rigs/disk-harness.h"
#include "tests/rigs/fake-store-bitmaps.h"

#include <errno.h>

static void nowhere(struct backend_handle *h, uint64_t offset, uint64_t length, bool writing,
                    struct backend_segment *s)
{
    *s = (struct backend_segment){.place = BACKEND_ANYWHERE, .fd = -1, .length = length};
}

static struct fake_store *begin(bool mapped)
{
    struct backend *b = fake_backend_new(1 * MIB);

    if (mapped)
        fake_backend_set_map(b, nowhere);
    return fake_store_new_over(rig_new_over(b, 0), NULL, 0);
}

static unsigned flushes(struct fake_store *s)
{
    return fake_backend_calls(s->rig->backend, FAKE_FLUSH);
}

static void note_flushes(struct fake_store *s, void *seen)
{
    *(unsigned *)seen = flushes(s);
}

static struct instant *add_bitmap(struct fake_store *s, bool persistent)
{
    struct instant *i = instant_new();

    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, "b", 4096, true, persistent, NULL), ==, 0);
    return i;
}

static void test_bitmap(void)
{
    struct fake_store *s = begin(true);
    unsigned seen = 0;

    s->committing = note_flushes;
    s->opaque = &seen;
    commit_instant(add_bitmap(s, true));
    g_assert_cmpuint(seen, ==, 1);
    fake_store_free(s);
}

static void test_view(void)
{
    struct fake_store *s = begin(true);
    unsigned seen = 0;

    s->committing = note_flushes;
    s->opaque = &seen;
    struct view *v = rig_view(s->rig, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_cmpuint(seen, ==, 1);
    assert_store_heard(s, "prepare; commit; end; ");
    rig_delete(s->rig, v);
    fake_store_free(s);
}

/* What the store has no part in waits for no flush, and neither does what the kernel has. */
static void test_not_needed(void)
{
    struct fake_store *s = begin(true);
    struct fake_store *plain = begin(false);

    commit_instant(add_bitmap(s, false));
    g_assert_cmpuint(flushes(s), ==, 0);
    fake_store_free(s);

    commit_instant(add_bitmap(plain, true));
    rig_delete(plain->rig, rig_view(plain->rig, "v", CBW_BREAK_SNAPSHOT, 0));
    g_assert_cmpuint(flushes(plain), ==, 0);
    fake_store_free(plain);
}

static void test_fails(void)
{
    struct fake_store *s = begin(true);
    struct fake_failure failure = {.call = FAKE_FLUSH, .error = -EIO};
    g_autoptr(GError) err = NULL;

    fake_backend_fail(s->rig->backend, &failure);
    g_assert_cmpint(instant_commit(add_bitmap(s, true), &err), <, 0);
    g_assert_cmpstr(err->message, ==, "disk vda: flush: Input/output error");
    assert_store_heard(s, "new; attach 0; prepare b=0; end without; ");
    failure.error = 0;
    fake_store_free(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-flush/bitmap", test_bitmap);
    g_test_add_func("/state-flush/view", test_view);
    g_test_add_func("/state-flush/not-needed", test_not_needed);
    g_test_add_func("/state-flush/fails", test_fails);
    return g_test_run();
}
