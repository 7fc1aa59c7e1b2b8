/* SPDX-License-Identifier: BSD-3-Clause */
/* The reserve: what is taken is counted, inside of the file, zeroes, and taken once; at each moment the
 * image is clean but for leaks. */
#include "tests/rigs/space-rig.h"

#include <errno.h>
#include <string.h>

struct shape {
    unsigned cluster, count_bits;
    uint64_t size;    /* of the disk */
    unsigned batches; /* that are taken */
};

static void create(struct space_rig *r, const struct shape *s)
{
    qcow2_rig_run(&r->files,
                  "rm -f i.qcow2 && qemu-img create -q -f qcow2 -o "
                  "cluster_size=%u,refcount_bits=%u i.qcow2 %" G_GUINT64_FORMAT,
                  s->cluster, s->count_bits, (guint64)s->size);
}

/* What was taken so far: runs in ascending order. */
struct taken {
    uint64_t end;      /* byte behind the last one */
    uint64_t clusters; /* all */
};

static int take(struct space_rig *r, struct taken *t, unsigned n)
{
    uint64_t host = 1;
    int got = space_rig_take(r, n, &host);

    if (got < 0)
        return got;
    g_assert_cmpuint(host, >=, t->end);
    t->end = host + (uint64_t)got * r->top.cluster;
    t->clusters += (unsigned)got;
    return got;
}

/* Take all of so many batches, and something of a further one. 0 or the first error. */
static int take_batches(struct space_rig *r, struct taken *t, unsigned batches)
{
    uint64_t size = space_rig_file_size(r);
    unsigned grown = 0;

    while (grown <= batches) {
        int got = take(r, t, 1000);

        if (got < 0)
            return got;
        grown += space_rig_file_size(r) > size;
        size = space_rig_file_size(r);
    }
    return 0;
}

static const struct shape shapes[] = {
    {512, 1, 1 << 20, 1},     {512, 2, 1 << 20, 1},      {512, 4, 1 << 20, 2},
    {512, 8, 1 << 20, 2},     {512, 16, 1 << 20, 2},     {512, 32, 1 << 20, 2},
    {512, 64, 1 << 20, 2},    {4096, 1, 1 << 20, 1},     {4096, 2, 1 << 20, 1},
    {4096, 16, 8 << 20, 2},   {4096, 64, 8 << 20, 3},    {65536, 1, 64 << 20, 2},
    {65536, 4, 64 << 20, 2},  {65536, 16, 64 << 20, 3},  {65536, 64, 64 << 20, 5},
    {2 << 20, 1, 1 << 30, 2}, {2 << 20, 16, 1 << 30, 3}, {2 << 20, 64, 1 << 30, 2},
};

static void test_take(gconstpointer opaque)
{
    const struct shape *s = opaque;
    struct taken t = {0};
    struct space_rig r;
    uint64_t size;

    if (!space_rig_begin(&r))
        return;
    create(&r, s);
    size = space_rig_file_size(&r);
    space_rig_must_open(&r);
    g_assert_cmpint(take_batches(&r, &t, s->batches), ==, 0);
    g_assert_cmpint(take(&r, &t, 1), ==, 1);
    g_assert_cmpuint(space_rig_leaks(&r, true), >=, t.clusters);
    g_assert_cmpint(live_reserve_return(&r.image), ==, 0);
    g_assert_cmpuint(space_rig_file_size(&r), ==, t.end);
    g_assert_cmpuint(t.end, >, size);
    space_rig_lose(&r, true);
    space_rig_close(&r);
    g_assert_cmpuint(space_rig_leaks(&r, true), ==, t.clusters);
    /* Nothing is counted behind the end of the file, either. */
    space_rig_must_open(&r);
    g_assert_cmpuint(live_reserve_first(&r.image), ==, t.end);
    g_assert_cmpstr(r.told->str, ==, "");
    space_rig_end(&r);
}

/* ---- deaths and failures ---- */

static unsigned count_changes(struct space_rig *r, const struct shape *s)
{
    struct taken t = {0};

    create(r, s);
    space_rig_keep(r);
    space_rig_must_open(r);
    g_assert_cmpint(take_batches(r, &t, s->batches), ==, 0);
    g_assert_cmpint(live_reserve_return(&r->image), ==, 0);
    space_rig_close(r);
    return r->changes;
}

static void open_new(struct space_rig *r, unsigned fail_at, int error)
{
    space_rig_reset(r);
    space_rig_must_open(r);
    r->fail_at = fail_at;
    r->error = error;
}

/* The process dies before a change of the file, or the machine: then what was not durable is lost. What was
 * taken is counted in any case. */
static void die(struct space_rig *r, const struct shape *s, unsigned at, unsigned how)
{
    struct taken t = {0};

    open_new(r, at, -EIO);
    r->dead = true;
    r->applied = how > 1;
    if (take_batches(r, &t, s->batches) == 0)
        live_reserve_return(&r->image);
    if (how > 0)
        space_rig_lose(r, how == 1);
    space_rig_close(r);
    g_assert_cmpuint(r->changes, >, at);
    g_assert_cmpuint(space_rig_leaks(r, at % 64 == 0), >=, t.clusters);
}

static void test_death(gconstpointer opaque)
{
    const struct shape *s = opaque;
    struct space_rig r;
    unsigned changes;

    if (!space_rig_begin(&r))
        return;
    changes = count_changes(&r, s);
    for (unsigned i = 0; i < changes; i++)
        for (unsigned how = 0; how < 4; how++)
            die(&r, s, i, how);
    g_test_message("%u deaths", 4 * changes);
    space_rig_end(&r);
}

/* One change fails, for want of room; then all goes on. `applied`: it happened all the same. Nothing leaks
 * but what was taken, and the old table of counts where the failure was that it could not be counted down. */
static void fail_once(struct space_rig *r, const struct shape *s, unsigned at, bool applied)
{
    struct taken t = {0};
    uint64_t leaks;
    int e;

    open_new(r, at, -ENOSPC);
    r->dead = false;
    r->applied = applied;
    e = take_batches(r, &t, s->batches);
    if (e < 0) {
        g_assert_cmpint(e, ==, -ENOSPC);
        g_assert_cmpint(take_batches(r, &t, s->batches), ==, 0);
    }
    e = live_reserve_return(&r->image);
    if (e == 0)
        g_assert_cmpuint(space_rig_file_size(r), ==, t.end);
    space_rig_close(r);
    leaks = space_rig_leaks(r, at % 64 == 0);
    g_assert_cmpuint(leaks, >=, t.clusters);
    if (e == 0)
        g_assert_cmpuint(leaks, <=, t.clusters + 1);
    else
        g_assert_cmpint(e, ==, -ENOSPC);
}

/* One change fails, and nobody knows whether it has reached the medium: that is final. */
static void fail_for_good(struct space_rig *r, const struct shape *s, unsigned at)
{
    struct taken t = {0};
    int e;

    open_new(r, at, -EIO);
    r->dead = false;
    r->applied = at % 2;
    for (int i = 0; i < 2; i++)
        take_batches(r, &t, s->batches);
    e = live_reserve_return(&r->image);
    g_assert_true(e == 0 || e == -EIO);
    space_rig_close(r);
    g_assert_cmpuint(space_rig_leaks(r, at % 64 == 0), >=, t.clusters);
}

static void test_full(gconstpointer opaque)
{
    const struct shape *s = opaque;
    struct space_rig r;
    unsigned changes;

    if (!space_rig_begin(&r))
        return;
    changes = count_changes(&r, s);
    for (unsigned i = 0; i < changes; i++) {
        fail_once(&r, s, i, false);
        fail_once(&r, s, i, true);
        fail_for_good(&r, s, i);
    }
    g_assert_cmpstr(r.told->str, ==, "");
    space_rig_end(&r);
}

/* ---- threads ---- */

#define THREADS 4
#define TAKES   3000

static void *take_many(void *opaque)
{
    struct space_rig *r = opaque;
    GArray *hosts = g_array_new(FALSE, FALSE, sizeof(uint64_t));

    for (unsigned i = 0; i < TAKES; i++) {
        uint64_t host;
        int n = i % 64 == 0 ? live_reserve_take_table(&r->image, &host) + 1
                            : live_reserve_take(&r->image, 1 + i % 5, &host);

        g_assert_cmpint(n, >=, 1);
        g_assert_cmpint(live_reserve_is_metadata(&r->image, host), ==, i % 64 == 0);
        for (int k = 0; k < n; k++, host += r->top.cluster)
            g_array_append_val(hosts, host);
    }
    return hosts;
}

static gint compare(gconstpointer a, gconstpointer b)
{
    const uint64_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

/* Nobody takes what another one has taken, while the thread makes batches, too. */
static void test_threads(void)
{
    const struct shape s = {512, 16, 1 << 20, 0};
    GArray *all = g_array_new(FALSE, FALSE, sizeof(uint64_t));
    GThread *threads[THREADS];
    struct space_rig r;

    if (!space_rig_begin(&r))
        return;
    create(&r, &s);
    space_rig_must_open(&r);
    for (int i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("take", take_many, &r);
    for (int i = 0; i < 100; i++)
        g_assert_cmpint(live_reserve_fill(&r.image), ==, 0);
    for (int i = 0; i < THREADS; i++) {
        GArray *hosts = g_thread_join(threads[i]);

        g_array_append_vals(all, hosts->data, hosts->len);
        g_array_unref(hosts);
    }
    g_array_sort(all, compare);
    for (guint i = 1; i < all->len; i++)
        g_assert_cmpuint(g_array_index(all, uint64_t, i - 1), <, g_array_index(all, uint64_t, i));
    g_assert_cmpint(live_reserve_return(&r.image), ==, 0);
    space_rig_close(&r);
    g_assert_cmpuint(space_rig_leaks(&r, true), ==, all->len);
    g_array_unref(all);
    space_rig_end(&r);
}

/* ---- batches ahead ---- */

/* The thread is woken once when little is left, and what it makes is taken when the rest has been. */
static void test_wake(void)
{
    const struct shape s = {65536, 16, 64 << 20, 0};
    struct taken t = {0};
    struct space_rig r;
    unsigned changes;

    if (!space_rig_begin(&r))
        return;
    create(&r, &s);
    space_rig_must_open(&r);
    g_assert_cmpint(take(&r, &t, 8), ==, 8);
    g_assert_cmpuint(r.wakes, ==, 0);
    g_assert_cmpint(take(&r, &t, 1), ==, 1);
    g_assert_cmpint(take(&r, &t, 1), ==, 1);
    g_assert_cmpuint(r.wakes, ==, 1);
    g_assert_cmpint(live_reserve_fill(&r.image), ==, 0);
    changes = r.changes;
    g_assert_cmpint(live_reserve_fill(&r.image), ==, 0);
    while (t.clusters < 16 + 60)
        g_assert_cmpint(take(&r, &t, 1), ==, 1);
    g_assert_cmpuint(r.changes, ==, changes);
    g_assert_cmpuint(r.wakes, ==, 2);
    space_rig_end(&r);
}

/* Between the rest of one batch and the next one there are blocks of counts, which stay. */
static void test_two_parts(void)
{
    const struct shape s = {512, 64, 1 << 20, 0};
    struct taken t = {0};
    struct space_rig r;

    if (!space_rig_begin(&r))
        return;
    create(&r, &s);
    space_rig_must_open(&r);
    g_assert_cmpint(take(&r, &t, 1500), ==, 1500);
    g_assert_cmpint(live_reserve_fill(&r.image), ==, 0);
    g_assert_cmpint(live_reserve_return(&r.image), ==, 0);
    g_assert_cmpuint(space_rig_file_size(&r), >, t.end);
    space_rig_close(&r);
    g_assert_cmpuint(space_rig_leaks(&r, true), ==, t.clusters);
    space_rig_end(&r);
}

/* What was given back is not taken again before it has been prepared again. */
static void test_return_and_go_on(void)
{
    const struct shape s = {4096, 16, 8 << 20, 0};
    struct taken t = {0};
    struct space_rig r;

    if (!space_rig_begin(&r))
        return;
    create(&r, &s);
    space_rig_must_open(&r);
    for (int i = 0; i < 5; i++) {
        unsigned changes;

        g_assert_cmpint(take(&r, &t, 3), ==, 3);
        g_assert_cmpint(live_reserve_return(&r.image), ==, 0);
        g_assert_cmpuint(space_rig_file_size(&r), ==, t.end);
        g_assert_cmpuint(space_rig_leaks(&r, true), ==, t.clusters);
        changes = r.changes;
        g_assert_cmpint(live_reserve_return(&r.image), ==, 0);
        g_assert_cmpuint(r.changes, ==, changes);
    }
    space_rig_end(&r);
}

static void add_shapes(const char *name, const struct shape *list, size_t n,
                       void (*test)(gconstpointer))
{
    for (size_t i = 0; i < n; i++) {
        g_autofree char *path =
            g_strdup_printf("/reserve/%s/%u-%u", name, list[i].cluster, list[i].count_bits);

        g_test_add_data_func(path, list + i, test);
    }
}

int main(int argc, char **argv)
{
    static const struct shape grids[] = {{512, 64, 1 << 18, 1},
                                         {512, 16, 1 << 20, 1},
                                         {4096, 1, 1 << 20, 2},
                                         {65536, 16, 64 << 20, 2}};

    g_test_init(&argc, &argv, NULL);
    add_shapes("take", shapes, G_N_ELEMENTS(shapes), test_take);
    add_shapes("death", grids, G_N_ELEMENTS(grids), test_death);
    add_shapes("full", grids, G_N_ELEMENTS(grids), test_full);
    g_test_add_func("/reserve/threads", test_threads);
    g_test_add_func("/reserve/wake", test_wake);
    g_test_add_func("/reserve/two-parts", test_two_parts);
    g_test_add_func("/reserve/return-and-go-on", test_return_and_go_on);
    return g_test_run();
}
