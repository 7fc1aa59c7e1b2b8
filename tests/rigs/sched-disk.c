/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sched-disk.h"

#include <errno.h>
#include <string.h>

static int backend_hook(void *opaque, enum fake_call call, uint64_t offset, uint64_t length)
{
    static const char *const names[] = {"backend read",  "backend write", "backend zero",
                                        "backend trim",  "backend flush", "backend extents",
                                        "backend resize"};
    const struct place *p = opaque;

    if (call == FAKE_WRITE && p->rig->issued)
        p->rig->issued(p->rig, p->disk, offset);
    sched_step(names[call], (int)(offset / SECTOR));
    return 0;
}

static int at(void *opaque, enum disk_point point, uint64_t offset)
{
    const struct place *p = opaque;
    struct rig *r = p->rig;

    for (unsigned i = 0; point == POINT_WRITE_ENTERED && i < CHANGES; i++)
        if (r->changes[i].begun && r->changes[i].disk == p->disk && r->changes[i].offset == offset)
            r->changes[i].entered = true;
    for (unsigned i = 0; point == POINT_GATES_CLOSED && i < CHANGES; i++)
        r->changes[i].inside = r->changes[i].entered;
    if (point == POINT_GATES_CLOSED)
        r->flipped[p->disk] = true;
    if (point == POINT_GATES_CLOSED)
        fake_backend_peek(r->backends[p->disk], r->instant[p->disk], SIZE, 0);
    return 0;
}

static void open_guests(struct rig *r, unsigned d)
{
    for (unsigned g = 0; g < GUESTS; g++)
        g_assert_cmpint(
            node_io_open(disk_node(r->disks[d]), true, false, NULL, &r->guests[d][g], NULL), ==, 0);
}

struct rig *rig_new(uint32_t min_block)
{
    struct rig *r = g_new0(struct rig, 1);

    for (unsigned d = 0; d < DISKS; d++) {
        r->backends[d] = fake_backend_new(SIZE);
        fake_backend_set_min_block(r->backends[d], min_block);
        fake_backend_set_hook(r->backends[d], backend_hook, &r->places[d]);
        r->disks[d] =
            disk_new(&(struct disk_config){.name = d ? "b" : "a", .backend = r->backends[d]}, NULL);
        r->places[d] = (struct place){r, d};
        r->hooks[d] = (struct disk_hooks){.at = at, .opaque = &r->places[d]};
        r->disks[d]->hooks = &r->hooks[d];
        open_guests(r, d);
    }
    return r;
}

void rig_restore(struct rig *r, unsigned disk, const struct disk_state *state)
{
    for (unsigned g = 0; g < GUESTS; g++)
        node_io_close(r->guests[disk][g]);
    disk_restore(r->disks[disk], state, NULL, 0);
    open_guests(r, disk);
}

void put(struct rig *r, unsigned guest, unsigned disk, uint64_t offset, uint32_t length, char c)
{
    char buf[SIZE];
    int error;

    memset(buf, c, length);
    error = node_write(r->guests[disk][guest], buf, length, offset, 0);
    if (error != 0)
        sched_fail("a write at %u: %s", (unsigned)offset, g_strerror(-error));
}

void change(struct rig *r, unsigned guest, unsigned n, unsigned disk, uint64_t offset)
{
    struct change *c = &r->changes[n];

    c->disk = disk;
    c->offset = offset;
    c->begun = true;
    put(r, guest, disk, offset, SECTOR, (char)('0' + n));
}

void add_view(struct rig *r, unsigned n, uint64_t limit, bool discard)
{
    const struct view_options options = {.scratch_limit = limit};
    struct instant *i = instant_new();

    g_assert_cmpint(
        instant_view_create(i, r->disks[0], n ? "v1" : "v0", &options, &r->views[n], NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    g_assert_cmpint(
        node_io_open(view_node(r->views[n]), false, discard, NULL, &r->readers[n], NULL), ==, 0);
    fake_backend_peek(r->backends[0], r->was[n], SIZE, 0);
}

void compare(const char *what, const char *have, const char *want, uint64_t offset, uint64_t length)
{
    for (uint64_t i = 0; i < length; i++)
        if (have[i] != want[offset + i])
            sched_fail("%s has %02x at %u, not %02x", what, (unsigned char)have[i],
                       (unsigned)(offset + i), (unsigned char)want[offset + i]);
}

void check_view(struct rig *r, unsigned n, uint64_t offset, uint32_t length)
{
    char buf[SIZE];
    int error = node_read(r->readers[n], buf, length, offset, 0);

    if (error < 0)
        sched_fail("view %u: %s", n, g_strerror(-error));
    compare(n ? "view 1" : "view 0", buf, r->was[n], offset, length);
}

void check_kept(struct rig *r, unsigned n, uint64_t bytes)
{
    struct view_info info;

    view_info(r->views[n], &info);
    if (info.scratch_bytes != bytes)
        sched_fail("view %u keeps %u bytes, not %u", n, (unsigned)info.scratch_bytes,
                   (unsigned)bytes);
}

void check_bitmap_of(struct rig *r, unsigned disk, struct dirty_bitmap *db,
                     bool (*want)(const struct change *))
{
    struct bitmap *bits = dirty_bitmap_bits(db);

    for (uint64_t s = 0; s < SIZE; s += SECTOR) {
        bool expected = false;

        for (unsigned i = 0; i < CHANGES; i++)
            expected |=
                r->changes[i].disk == disk && r->changes[i].offset == s && want(&r->changes[i]);
        if (bitmap_test(bits, s) != expected)
            sched_fail("disk %u: sector %u of bitmap %s is %s", disk, (unsigned)(s / SECTOR),
                       dirty_bitmap_name(db), expected ? "clean" : "dirty");
    }
    bitmap_unref(bits);
}

void check_bitmap(struct rig *r, unsigned disk, const char *name,
                  bool (*want)(const struct change *))
{
    struct dirty_bitmap *db = disk_find_bitmap(r->disks[disk], name);

    check_bitmap_of(r, disk, db, want);
    dirty_bitmap_unref(db);
}

bool before_instant(const struct change *c)
{
    return c->inside;
}

bool after_instant(const struct change *c)
{
    return c->begun && !c->inside;
}

bool always(const struct change *c)
{
    return true;
}

bool never(const struct change *c)
{
    return false;
}

void must(int result, GError *error)
{
    if (result < 0)
        sched_fail("%s", error->message);
}

void drop_view(struct rig *r, unsigned n)
{
    g_autoptr(GError) error = NULL;

    if (!r->views[n])
        return;
    node_io_close(r->readers[n]);
    if (view_delete(r->views[n], &error) < 0)
        sched_fail("view-delete: %s", error->message);
    r->views[n] = NULL;
}

void rig_free(struct rig *r)
{
    for (unsigned n = 0; n < VIEWS; n++) {
        if (r->views[n])
            check_view(r, n, 0, SIZE);
        drop_view(r, n);
    }
    for (unsigned d = 0; d < DISKS; d++) {
        for (unsigned g = 0; g < GUESTS; g++)
            node_io_close(r->guests[d][g]);
        disk_free(r->disks[d]);
    }
    g_free(r);
}

static void test_scenario(gconstpointer scenario)
{
    sched_explore(scenario);
}

int run_scenarios(int argc, char **argv, const struct scenario *const *scenarios, unsigned n)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("/schedules/%s", scenarios[i]->name);

        g_test_add_data_func(path, scenarios[i], test_scenario);
    }
    return g_test_run();
}
