/* SPDX-License-Identifier: BSD-3-Clause */
/* The counts of connections add up: while the connections are there, after they have gone, and with
 * many threads. */
#include "server/disk/node-stats.h"
#include "server/disk/view.h"
#include "tests/rigs/disk-harness.h"

#include <errno.h>

#define THREADS  5
#define REQUESTS 20000

static struct node_io *open_io(struct node *n)
{
    struct node_io *io;

    g_assert_cmpint(node_io_open(n, true, true, NULL, &io, NULL), ==, 0);
    return io;
}

static void assert_stats(struct node *n, enum io_kind kind, uint64_t operations, uint64_t bytes,
                         uint64_t failed)
{
    struct io_stats s;

    node_stats(n, &s);
    g_assert_cmpuint(s.done[kind].operations, ==, operations);
    g_assert_cmpuint(s.done[kind].bytes, ==, bytes);
    g_assert_cmpuint(s.failed[kind], ==, failed);
}

static uint64_t write_end(struct node *n)
{
    struct io_stats s;

    node_stats(n, &s);
    return s.write_end;
}

/* Whose counters: of one thread, or of several. */
typedef struct io_counters *counters_of(struct node_io *io);
static counters_of *const whose[] = {node_io_counters, node_io_shared_counters};

static void test_kinds(void)
{
    struct rig *r = rig_new(MIB, 0);
    struct node *n = disk_node(r->disk);

    for (enum io_kind k = 0; k < IO_KINDS; k++)
        for (unsigned i = 0; i < G_N_ELEMENTS(whose); i++) {
            struct io_counters *c = whose[i](r->io);

            g_assert_true(c->shared == (i == 1)); /* so that several threads lose nothing */
            assert_stats(n, k, i * 3, i * (1100 + k), i);
            io_count(c, k, 0, 100 + k, 0);
            io_count(c, k, 0, 1000, 0);
            io_count(c, k, 0, 0, 0);
            io_count(c, k, 0, 5000, -EIO);
            assert_stats(n, k, (i + 1) * 3, (i + 1) * (1100 + k), i + 1);
        }
    rig_free(r);
}

/* write_end is the highest end of all requests that changed data, and of no others. */
static void check_write_end(counters_of *of)
{
    struct rig *r = rig_new(MIB, 0);
    struct node *n = disk_node(r->disk);
    struct node_io *other = open_io(n);
    struct io_counters *c = of(r->io);

    io_count(c, IO_READ, 500, 100, 0);
    io_count(c, IO_TRIM, 500, 100, 0);
    io_count(c, IO_WRITE, 500, 100, -EIO);
    io_count(c, IO_WRITE, 500, 0, 0);
    g_assert_cmpuint(write_end(n), ==, 0);
    io_count(c, IO_WRITE, 100, 10, 0);
    io_count(c, IO_WRITE, 0, 20, 0);
    g_assert_cmpuint(write_end(n), ==, 110);
    io_count(of(other), IO_ZERO, 90, 30, 0);
    g_assert_cmpuint(write_end(n), ==, 120);
    node_io_close(other);
    g_assert_cmpuint(write_end(n), ==, 120);
    rig_free(r);
}

static void test_write_end(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(whose); i++)
        check_write_end(whose[i]);
}

/* A connection that goes leaves its counts. The counts of a view are not those of its disk. */
static void test_gone(void)
{
    struct rig *r = rig_new(MIB, 0);
    struct node *disk = disk_node(r->disk);
    struct view *v = rig_view(r, "v", CBW_BREAK_SNAPSHOT, 0);
    struct node_io *ios[3];

    for (unsigned i = 0; i < G_N_ELEMENTS(ios); i++) {
        ios[i] = open_io(i == 2 ? view_node(v) : disk);
        io_count(node_io_counters(ios[i]), IO_READ, 0, 10, 0);
        io_count(node_io_shared_counters(ios[i]), IO_FLUSH, 0, 0, -EIO);
    }
    for (unsigned i = 0; i <= G_N_ELEMENTS(ios); i++) {
        assert_stats(disk, IO_READ, 2, 20, 0);
        assert_stats(disk, IO_FLUSH, 0, 0, 2);
        assert_stats(view_node(v), IO_READ, 1, 10, 0);
        assert_stats(view_node(v), IO_FLUSH, 0, 0, 1);
        if (i < G_N_ELEMENTS(ios))
            node_io_close(ios[i]);
    }
    rig_free(r);
}

static gpointer count_many(gpointer counters)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        io_count(counters, IO_WRITE, i, 3, 0);
    return NULL;
}

/* No count is lost when a connection's own thread and several others count for it, and sums only
 * grow while connections come and go. */
static void test_threads(void)
{
    struct rig *r = rig_new(MIB, 0);
    struct node *n = disk_node(r->disk);
    GThread *threads[THREADS];
    uint64_t last = 0;

    for (unsigned i = 0; i < THREADS; i++)
        threads[i] = g_thread_new("count", count_many, whose[i > 0](r->io));
    for (unsigned i = 0; i < 200; i++) {
        struct node_io *io = open_io(n);
        struct io_stats s;

        io_count(node_io_counters(io), IO_WRITE, 0, 3, 0);
        node_stats(n, &s);
        g_assert_cmpuint(s.done[IO_WRITE].operations, >, last);
        last = s.done[IO_WRITE].operations;
        node_io_close(io);
    }
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
    assert_stats(n, IO_WRITE, THREADS * REQUESTS + 200, 3 * (THREADS * REQUESTS + 200), 0);
    g_assert_cmpuint(write_end(n), ==, REQUESTS + 2);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/node-stats/kinds", test_kinds);
    g_test_add_func("/node-stats/write-end", test_write_end);
    g_test_add_func("/node-stats/gone", test_gone);
    g_test_add_func("/node-stats/threads", test_threads);
    return g_test_run();
}
