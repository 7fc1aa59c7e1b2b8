/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which requests are handed to a worker.
 */
#include "server/nbd/offload.h"

#include <glib.h>

static void test_offload(void)
{
    struct offload h;
    bool watch;

    offload_init(&h);
    /* A new one takes the disk for slow. That a request is alone does not help at once. */
    g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
    for (unsigned i = 0; i < OFFLOAD_DEEP; i++)
        g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    /* A client asks one by one. */
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(watch);
    offload_watched(&h, false);
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    offload_watched(&h, true); /* it does not do so any more */
    g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    /* A quick disk. */
    for (unsigned i = 0; i < 40; i++)
        offload_note(&h, CLASS_READ, 2000, 4096);
    g_assert_true(offload_stay(&h, CLASS_READ, false, &watch));
    g_assert_false(watch);
    g_assert_false(offload_stay(&h, CLASS_WRITE, false, &watch)); /* another class */
    /* One hiccup is soon forgotten, a slow disk is noticed at once. */
    offload_note(&h, CLASS_READ, 1000000000, 4096);
    offload_note(&h, CLASS_READ, 2000, 4096);
    offload_note(&h, CLASS_READ, 2000, 4096);
    g_assert_true(offload_stay(&h, CLASS_READ, false, &watch));
    for (unsigned i = 0; i < 3; i++)
        offload_note(&h, CLASS_READ, 10000000, 4096);
    g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
}

/* A node that never promises is asked less and less. Once it does, it is asked always. */
static void test_offload_asks(void)
{
    struct offload h;
    unsigned asked = 0;

    offload_init(&h);
    for (unsigned i = 0; i < 1000; i++) { /* slow: always */
        g_assert_true(offload_ask(&h));
        offload_asked(&h, false, false);
    }
    for (unsigned i = 0; i < 40; i++)
        offload_note(&h, CLASS_READ, 2000, 4096);
    for (unsigned i = 0; i < 1000; i++) {
        if (offload_ask(&h)) {
            asked++;
            offload_asked(&h, false, false);
        }
    }
    g_assert_cmpuint(asked, >, 5);
    g_assert_cmpuint(asked, <, 30);
    while (!offload_ask(&h))
        ;
    offload_asked(&h, true, false);
    for (unsigned i = 0; i < 1000; i++) {
        g_assert_true(offload_ask(&h));
        offload_asked(&h, true, false);
    }
}

/* Data that has to come from a medium is handed to a worker, however quick that is, and the node is
 * not asked each time, until the data is there. */
static void test_offload_blocks(void)
{
    struct offload h;
    unsigned asked = 0;
    bool watch;

    offload_init(&h);
    for (unsigned i = 0; i < 1000; i++) {
        offload_note(&h, CLASS_READ, 2000, 4096);
        if (offload_ask(&h)) {
            asked++;
            offload_asked(&h, false, true);
        }
        g_assert_false(offload_stay(&h, CLASS_READ, false, &watch));
    }
    g_assert_cmpuint(asked, <, 40);
    while (!offload_ask(&h))
        ;
    offload_asked(&h, true, false);
    for (unsigned i = 0; i < OFFLOAD_REFUSALS; i++)
        g_assert_true(offload_ask(&h));
    /* A client that asks one by one gains nothing by a worker. */
    offload_asked(&h, false, true);
    while (h.deep > 0)
        g_assert_false(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(offload_stay(&h, CLASS_READ, true, &watch));
    g_assert_true(watch);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-offload/stays", test_offload);
    g_test_add_func("/nbd-offload/asks", test_offload_asks);
    g_test_add_func("/nbd-offload/blocks", test_offload_blocks);
    return g_test_run();
}
