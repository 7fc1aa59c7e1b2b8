/* SPDX-License-Identifier: BSD-3-Clause */
/* Records that the store gets with an instant. */
#include "common/util/error.h"
#include "tests/rigs/fake-store.h"

static void commit(struct instant *i)
{
    g_autoptr(GError) error = NULL;

    instant_commit(i, &error);
    g_assert_no_error(error);
}

/* A text that tells whether the instant has come by when it is asked for. */
static char *when(void *opaque)
{
    struct fake_store *s = opaque;

    return g_strdup(atomic_load(&s->rig->disk->newest) ? "after" : "before");
}

static void add_record(struct instant *i, struct fake_store *s, const char *name)
{
    g_autofree char *kind = g_strdup("kind"), *copied = g_strdup(name);

    g_assert_cmpint(
        instant_record(
            i, s->rig->disk,
            &(struct state_record){.kind = kind, .name = copied, .text = when, .opaque = s}, NULL),
        ==, 0);
    kind[0] = copied[0] = '?';
}

static void remove_record(struct instant *i, struct fake_store *s, const char *name)
{
    g_assert_cmpint(
        instant_record(i, s->rig->disk, &(struct state_record){.kind = "kind", .name = name}, NULL),
        ==, 0);
}

/* It is told before the flip, and its text is asked for after it. */
static void test_order(void)
{
    struct fake_store *s = fake_store_new();
    struct view_options options = {0};
    struct instant *i = instant_new();
    struct view *v;

    g_assert_cmpint(instant_view_create(i, s->rig->disk, "v", &options, &v, NULL), ==, 0);
    add_record(i, s, "r");
    remove_record(i, s, "old");
    commit(i);
    assert_store_heard(s,
                       "prepare; record kind/r; record kind/old; commit r=after old=none; end; ");
    rig_delete(s->rig, v);
    fake_store_free(s);
}

static void note_closed(struct rig *r, enum disk_point point)
{
    if (atomic_load(&r->disk->gate.closed))
        r->visitor = r;
}

/* A write under way keeps nothing waiting where nothing but a record changes. */
static void test_alone(void)
{
    struct fake_store *s = fake_store_new();
    struct rig *r = s->rig;
    struct instant *i = instant_new();
    GThread *writer;

    rig_bitmap(r, "b", 4096);
    park_arm(r, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(r, 0, 4096, 'a');
    park_wait(r);
    r->visit = note_closed;
    add_record(i, s, "r");
    commit(i);
    g_assert_null(r->visitor);
    assert_store_heard(s, "prepare b=4096~; record kind/r; commit r=before; end; ");
    park_release(r);
    g_thread_join(writer);
    g_assert_cmpuint(rig_count(r, "b"), ==, 4096);
    rig_fill(r, 8192, 1, 'b');
    g_assert_cmpuint(rig_count(r, "b"), ==, 2 * 4096);
    fake_store_free(s);
}

static void test_fails(void)
{
    struct fake_store *s = fake_store_new();
    struct instant *i = instant_new();
    g_autoptr(GError) error = NULL;

    add_record(i, s, "r");
    s->fails = FAIL_PREPARE;
    g_assert_cmpint(instant_commit(i, NULL), ==, -1);
    assert_store_heard(s, "prepare; ");
    i = instant_new();
    add_record(i, s, "r");
    s->fails = FAIL_COMMIT;
    g_assert_cmpint(instant_commit(i, &error), ==, -1);
    g_assert_cmpstr(error->message, ==, "catalogue broken");
    assert_store_heard(s, "prepare; record kind/r; commit r=before; end without; ");
    i = instant_new();
    add_record(i, s, "r");
    instant_abort(i);
    assert_store_heard(s, "");
    fake_store_free(s);
}

/* A disk of the instant that has no store does not come between. */
static void test_without_store(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *i = instant_new();
    const struct state_record record = {.kind = "kind", .name = "r"};

    g_assert_cmpint(instant_record(i, r->disk, &record, NULL), ==, 0);
    g_assert_true(disk_in_instant(r->disk));
    commit(i);
    g_assert_false(disk_in_instant(r->disk));
    rig_free(r);
}

static void test_refused(void)
{
    struct rig *r = rig_new(1 * MIB, 0);
    struct instant *first = instant_new(), *second = instant_new();
    const struct state_record record = {.kind = "kind", .name = "r"};
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(instant_record(first, r->disk, &record, NULL), ==, 0);
    g_assert_cmpint(instant_record(second, r->disk, &record, &error), ==, -1);
    g_assert_true(g_str_has_suffix(error->message, "size is under way"));
    instant_abort(second);
    instant_abort(first);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/instant-record/order", test_order);
    g_test_add_func("/instant-record/alone", test_alone);
    g_test_add_func("/instant-record/fails", test_fails);
    g_test_add_func("/instant-record/without-store", test_without_store);
    g_test_add_func("/instant-record/refused", test_refused);
    return g_test_run();
}
