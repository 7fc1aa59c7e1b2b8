/* SPDX-License-Identifier: BSD-3-Clause */
/* Changes of a disk with a store are covered (server/state/cover.h): before the gate, and until they
 * have left it. */
#include "tests/rigs/fake-store.h"

#include <errno.h>

#define REGION (UINT64_C(1) << JOURNAL_REGION_SHIFT)

struct opening {
    struct fake_store *store;
    unsigned calls;
    uint64_t first, last; /* of the last call */
    int result;
    unsigned inside; /* changes inside the gate when it was called */
    uint64_t marked; /* bytes that were dirty then */
    bool waits;      /* what node_change_waits has said then */
};

static unsigned inside_gate(struct fake_store *s)
{
    return atomic_load(&s->rig->io->slot->inside);
}

static unsigned covered(struct fake_store *s)
{
    struct live_line *line = s->rig->io->line;

    return atomic_load(&line->inside[0]) + atomic_load(&line->inside[1]);
}

static int open_regions(struct cover *c, uint64_t first, uint64_t last)
{
    struct opening *o = c->opaque;

    o->calls++;
    o->first = first;
    o->last = last;
    o->inside = inside_gate(o->store);
    o->marked = rig_count(o->store->rig, "b");
    g_assert_cmpuint(covered(o->store), ==, 1);
    o->waits = node_change_waits(o->store->rig->io, 1, first << JOURNAL_REGION_SHIFT);
    for (uint64_t r = first; o->result == 0 && r <= last; r++)
        atomic_store(&c->regions[r], REGION_OPEN);
    return o->result;
}

static struct fake_store *covered_store(struct opening *o, struct rig *rig)
{
    struct fake_store *s = fake_store_new_over(rig, NULL, 0);
    struct instant *i = instant_new();

    *o = (struct opening){.store = s};
    s->cover.regions = (_Atomic uint8_t *)g_new0(uint8_t, disk_size(s->rig->disk) / REGION + 2);
    s->cover.open = open_regions;
    s->cover.opaque = o;
    g_assert_cmpint(instant_bitmap_add(i, s->rig->disk, "b", 4096, true, true, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    return s;
}

static void end_covered(struct fake_store *s)
{
    void *regions = (void *)s->cover.regions;

    g_assert_cmpuint(covered(s), ==, 0);
    fake_store_free(s);
    g_free(regions);
}

static void test_opened_once(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(16 * MIB, 0));
    struct live_line *line = s->rig->io->line;
    int64_t before = cover_clock();

    g_assert_true(node_change_waits(s->rig->io, 4096, 0));
    rig_fill(s->rig, 0, 4096, 'x');
    g_assert_cmpuint(o.calls, ==, 1);
    g_assert_cmpuint(o.first, ==, 0);
    g_assert_cmpuint(o.last, ==, 0);
    g_assert_cmpuint(o.inside, ==, 0); /* it does not wait inside the gate */
    g_assert_cmpuint(o.marked, ==, 0);
    g_assert_true(o.waits);
    g_assert_cmpint(atomic_load(&line->changed), >=, before);
    g_assert_false(node_change_waits(s->rig->io, 4096, 4096));
    rig_fill(s->rig, 4096, 4096, 'x');
    g_assert_cmpuint(o.calls, ==, 1);
    g_assert_true(atomic_load(&s->cover.regions[0]) & REGION_USED);
    /* All regions that a change touches. */
    rig_fill(s->rig, REGION - 512, 1024, 'x');
    g_assert_cmpuint(o.calls, ==, 2);
    g_assert_cmpuint(o.last, ==, 1);
    g_assert_cmpint(node_trim(s->rig->io, 2 * REGION, REGION + 1, 0), ==, 0);
    g_assert_cmpuint(o.calls, ==, 3);
    g_assert_cmpuint(o.first, ==, 1);
    g_assert_cmpuint(o.last, ==, 3);
    end_covered(s);
}

/* Where the guest's write is to fail instead, nothing is marked or changed. */
static void test_cannot_be_opened(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(8 * MIB, 0));

    o.result = -EIO;
    g_assert_cmpint(rig_try_fill(s->rig, 0, 4096, 'x'), ==, -EIO);
    g_assert_cmpint(node_zero(s->rig->io, 4096, 0, 0), ==, -EIO);
    g_assert_cmpuint(rig_count(s->rig, "b"), ==, 0);
    g_assert_cmpuint(covered(s), ==, 0);
    g_assert_true(node_is(disk_node(s->rig->disk), 0, 4096, 0));
    o.result = 0;
    rig_fill(s->rig, 0, 4096, 'x');
    g_assert_cmpuint(rig_count(s->rig, "b"), ==, 4096);
    end_covered(s);
}

/* A change is covered until it has left the gate: so whoever finds nobody covered finds all bits. */
static void check_covered(struct rig *r, enum disk_point point)
{
    struct fake_store *s = r->visitor;

    if (point == POINT_WRITE_ENTERED || point == POINT_WRITE_MARKED)
        g_assert_cmpuint(covered(s), ==, 1);
}

static void test_until_it_has_left(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(8 * MIB, 0));
    GThread *writer;

    s->rig->visitor = s;
    s->rig->visit = check_covered;
    rig_fill(s->rig, 0, 4096, 'x');
    g_assert_cmpuint(covered(s), ==, 0);
    park_arm(s->rig, POINT_WRITE_MARKED, 0);
    writer = rig_fill_thread(s->rig, 0, 4096, 'y');
    park_wait(s->rig);
    g_assert_cmpuint(covered(s), ==, 1);
    g_assert_cmpuint(inside_gate(s), ==, 1);
    park_release(s->rig);
    g_thread_join(writer);
    s->rig->visit = NULL;
    end_covered(s);
}

/* A write that breaks rather than a view's data is covered no more when it has failed. */
static void test_not_kept(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(8 * MIB, 0));
    struct view *v;

    rig_fill(s->rig, 0, 4096, 'x');
    v = rig_view(s->rig, "v", CBW_BREAK_GUEST_WRITE, 0);
    s->rig->failing_scratch_writes = 1;
    g_assert_cmpint(rig_try_fill(s->rig, 0, 4096, 'y'), ==, -EIO);
    g_assert_cmpuint(covered(s), ==, 0);
    rig_delete(s->rig, v);
    end_covered(s);
}

/* Views change nothing. */
static void test_views_have_no_line(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(8 * MIB, 0));
    struct view *v = rig_view(s->rig, "v", CBW_BREAK_SNAPSHOT, 0);
    struct node_io *io;
    unsigned lines = s->lines;

    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    g_assert_null(io->line);
    g_assert_cmpuint(s->lines, ==, lines);
    g_assert_false(node_change_waits(io, 4096, 0));
    g_assert_cmpint(node_trim(io, 1 * MIB, 0, 0), ==, 0);
    g_assert_cmpuint(o.calls, ==, 0);
    node_io_close(io);
    rig_delete(s->rig, v);
    end_covered(s);
}

static struct fake_store *flushed;
static unsigned covered_flushes;

static int look_and_flush(struct backend_handle *h)
{
    (void)h;
    covered_flushes += covered(flushed);
    return 0;
}

static void no_map(struct backend_handle *h, uint64_t offset, uint64_t length, bool writing,
                   struct backend_segment *s)
{
    (void)h, (void)offset, (void)writing;
    *s = (struct backend_segment){.place = BACKEND_ANYWHERE, .length = length};
}

/* A plugin that has a map may write to the image when it flushes, long after the guest's last write. */
static void test_flush(void)
{
    struct opening o;
    struct fake_store *s = covered_store(&o, rig_new(8 * MIB, 0));
    struct backend_handle *h = s->rig->io->handle;
    const struct backend_ops *before = h->backend->ops;
    struct backend_ops ops = *before;

    flushed = s;
    covered_flushes = 0;
    ops.flush = look_and_flush;
    h->backend->ops = &ops;
    g_assert_cmpint(node_flush(s->rig->io), ==, 0);
    g_assert_cmpuint(covered_flushes, ==, 0);
    g_assert_cmpint(atomic_load(&s->rig->io->line->changed), ==, 0);
    h->map = no_map;
    g_assert_cmpint(node_flush(s->rig->io), ==, 0);
    h->map = NULL;
    h->backend->ops = before;
    g_assert_cmpuint(covered_flushes, ==, 1);
    g_assert_cmpint(atomic_load(&s->rig->io->line->changed), >, 0);
    end_covered(s);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/state-cover/opened-once", test_opened_once);
    g_test_add_func("/state-cover/cannot-be-opened", test_cannot_be_opened);
    g_test_add_func("/state-cover/until-it-has-left", test_until_it_has_left);
    g_test_add_func("/state-cover/not-kept", test_not_kept);
    g_test_add_func("/state-cover/views", test_views_have_no_line);
    g_test_add_func("/state-cover/flush", test_flush);
    return g_test_run();
}
