/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Looking for requests before sleeping: when it is done, when it is not, and that requests which
 * are found this way are answered like any others.
 */
#include "tests/rigs/nbd-rig.h"

#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define MAX_NS 50000u
#define MS     1000000u

/* ---- the rules ---- */

/* A budget that finds `runnable` threads on a machine with two processors. */
static void budget_begin(struct poll_budget *b, unsigned runnable)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *path = NULL;
    char text[80];

    poll_budget_init(b, MAX_NS);
    poll_budget_destroy(b);
    b->processors = 2;
    b->pollers_max = 1;
    b->loadavg = g_file_open_tmp("loadavg-XXXXXX", &path, &err);
    g_assert_no_error(err);
    g_unlink(path);
    int n = g_snprintf(text, sizeof text, "0.20 1.37 2.01 %u/234 5678\n", runnable);
    g_assert_cmpint(pwrite(b->loadavg, text, (size_t)n, 0), ==, n);
}

static void test_one_at_a_time(void)
{
    struct poll_budget b;
    struct busy_poll p, q;

    budget_begin(&b, 2);
    busy_poll_init(&p);
    busy_poll_init(&q);
    g_assert_true(busy_poll_begin(&p, &b, 0));
    g_assert_false(busy_poll_begin(&q, &b, 0));
    busy_poll_end(&p, &b, true);
    g_assert_true(busy_poll_begin(&q, &b, 0));
    busy_poll_end(&q, &b, true);
    poll_budget_destroy(&b);
}

static void test_off(void)
{
    struct poll_budget b;
    struct busy_poll p;

    busy_poll_init(&p);
    poll_budget_init(&b, 0);
    g_assert_false(busy_poll_begin(&p, &b, 0));
    poll_budget_destroy(&b);

    budget_begin(&b, 2); /* one processor alone */
    b.pollers_max = 0;
    g_assert_false(busy_poll_begin(&p, &b, 0));
    poll_budget_destroy(&b);

    budget_begin(&b, 2); /* no /proc */
    poll_budget_destroy(&b);
    b.loadavg = -1;
    g_assert_false(busy_poll_begin(&p, &b, 0));
}

static bool try_at(struct busy_poll *p, struct poll_budget *b, uint64_t now)
{
    bool begun = busy_poll_begin(p, b, now);

    if (begun)
        busy_poll_end(p, b, true);
    return begun;
}

static void set_runnable(struct poll_budget *b, const char *n)
{
    g_assert_cmpint(pwrite(b->loadavg, n, 1, 15), ==, 1);
}

/* Polling stops after two looks in a row that find a crowd, and goes on after one that does not.
 * Between two looks nobody looks. */
static void test_crowd(void)
{
    struct poll_budget b;
    struct busy_poll p;
    uint64_t now = 1000 * MS;

    budget_begin(&b, 2);
    busy_poll_init(&p);
    g_assert_true(try_at(&p, &b, now));
    set_runnable(&b, "3");
    g_assert_true(try_at(&p, &b, now + CROWD_CHECK_NS - 1));
    g_assert_true(try_at(&p, &b, now += CROWD_CHECK_NS));
    g_assert_true(try_at(&p, &b, now + CROWD_CHECK_NS - 1));
    g_assert_false(try_at(&p, &b, now += CROWD_CHECK_NS));
    set_runnable(&b, "2");
    g_assert_false(try_at(&p, &b, now + CROWD_CHECK_NS - 1));
    g_assert_true(try_at(&p, &b, now += CROWD_CHECK_NS));
    set_runnable(&b, "?");
    g_assert_true(try_at(&p, &b, now += CROWD_CHECK_NS));
    g_assert_false(try_at(&p, &b, now += CROWD_CHECK_NS));
    poll_budget_destroy(&b);
}

/* Count the polls for a client that never sends anything in time, over `waits` waits of `ns`. */
static unsigned wasted(struct busy_poll *p, struct poll_budget *b, unsigned waits, uint64_t ns)
{
    unsigned polls = 0;

    for (unsigned i = 0; i < waits; i++) {
        if (busy_poll_begin(p, b, 0)) {
            busy_poll_end(p, b, false);
            polls++;
        }
        busy_poll_waited(p, b, ns);
    }
    return polls;
}

static void test_misses(void)
{
    struct poll_budget b;
    struct busy_poll p;

    budget_begin(&b, 2);
    busy_poll_init(&p);
    /* If the waits are long, it misses twice and never polls again. */
    g_assert_cmpuint(wasted(&p, &b, 10000, 10 * MS), ==, POLL_POINTS_TRY / 2);
    g_assert_cmpuint(p.misses, ==, POLL_POINTS_TRY / 2);

    /* If the waits are just too long to poll for, it polls more and more seldom. */
    busy_poll_init(&p);
    g_assert_cmpuint(wasted(&p, &b, 10000, 2 * MAX_NS), <, 40);

    /* If the client is quick again, polling soon begins again. */
    unsigned waits = 0;
    for (; !busy_poll_begin(&p, &b, 0); waits++)
        busy_poll_waited(&p, &b, MAX_NS);
    g_assert_cmpuint(waits, <=, POLL_PAUSE_MAX + 1);
    busy_poll_end(&p, &b, true);
    for (unsigned i = 0; i < 100; i++)
        g_assert_true(try_at(&p, &b, 0));

    /* A miss now and then stops nothing. */
    for (unsigned i = 0; i < 100; i++) {
        g_assert_true(busy_poll_begin(&p, &b, 0));
        busy_poll_end(&p, &b, i % 4 != 0);
    }
    poll_budget_destroy(&b);
}

/* ---- in a connection ---- */

/* All requests are found by looking, and the thread never sleeps, if it looks for long enough. The
 * fake budget sees no crowd and looks for four seconds, so this does not depend on what else the
 * machine does. */
static void test_requests_found(void)
{
    struct rig r;
    static const struct nbd_options options = {.handshake_timeout = 60,
                                               .max_connections = 100,
                                               .threads = 16,
                                               .poll_max_ns = UINT32_MAX,
                                               .mask_handshake = 0xffff};

    rig_begin(&r, &options);
    r.nbd->poll_budget.processors = UINT32_MAX;
    r.nbd->poll_budget.pollers_max = 1;
    struct client c = rig_go(&r, true);
    for (unsigned i = 0; i < 100; i++) {
        client_request(&c, 0, NBD_CMD_READ, i, i * 4096, 64);
        client_expect_success(&c, i, 64);
    }
    client_request(&c, 0, NBD_CMD_DISC, 0, 0, 0);
    client_expect_end(&c);
    rig_wait_gone(&r, 1);
    g_assert_cmpuint(atomic_load(&r.nbd->poll_budget.hits), >=, 100);
    g_assert_cmpuint(atomic_load(&r.nbd->poll_budget.misses), ==, 0);
    client_close(&c);
    rig_end(&r);
}

/* A connection that polls ends with the server all the same. */
static void test_end_while_polling(void)
{
    struct rig r;
    static const struct nbd_options options = {.handshake_timeout = 60,
                                               .max_connections = 100,
                                               .threads = 16,
                                               .poll_max_ns = UINT32_MAX,
                                               .mask_handshake = 0xffff};

    rig_begin(&r, &options);
    r.nbd->poll_budget.processors = UINT32_MAX;
    r.nbd->poll_budget.pollers_max = 1;
    struct client c = rig_go(&r, true);
    client_request(&c, 0, NBD_CMD_READ, 1, 0, 64);
    client_expect_success(&c, 1, 64);
    rig_end_nbd(&r, 60000);
    client_expect_end(&c);
    client_close(&c);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-poll/one-at-a-time", test_one_at_a_time);
    g_test_add_func("/nbd-poll/off", test_off);
    g_test_add_func("/nbd-poll/crowd", test_crowd);
    g_test_add_func("/nbd-poll/misses", test_misses);
    g_test_add_func("/nbd-poll/requests-found", test_requests_found);
    g_test_add_func("/nbd-poll/end-while-polling", test_end_while_polling);
    return g_test_run();
}
