/* SPDX-License-Identifier: BSD-3-Clause */
/* The set of clusters that hold metadata: compared with a table of GLib's, and looked into while it grows. */
#include "common/live/live-metadata.h"

#include <glib.h>

/* Clusters next to each other, and far ones. */
static uint64_t some_cluster(void)
{
    uint64_t n = (uint64_t)g_test_rand_int_range(0, 5000);

    switch (g_test_rand_int_range(0, 3)) {
    case 0:
        return n;
    case 1:
        return n << 20;
    default:
        return (UINT64_C(1) << 54) - 1 - n;
    }
}

static void test_model(void)
{
    g_autoptr(GHashTable) model = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, NULL);
    struct live_metadata m;

    g_assert_cmpint(live_metadata_init(&m), ==, 0);
    for (int i = 0; i < 100000; i++) {
        uint64_t cluster = some_cluster();
        gint64 key = (gint64)cluster;
        bool there = g_hash_table_contains(model, &key);

        g_assert_cmpint(live_metadata_has(&m, cluster), ==, there);
        if (g_test_rand_int_range(0, 4) > 0) {
            g_assert_cmpint(live_metadata_add(&m, cluster), ==, there);
            g_hash_table_add(model, g_memdup2(&key, sizeof(key)));
        } else {
            live_metadata_remove(&m, cluster);
            g_hash_table_remove(model, &key);
        }
    }
    live_metadata_clear(&m);
}

#define MANY 200000

struct shared {
    struct live_metadata m;
    _Atomic uint64_t added; /* clusters 3, 6, 9... are in the set, that many */
};

static void *look(void *opaque)
{
    struct shared *s = opaque;
    uint64_t added;

    do {
        added = s->added;
        for (uint64_t i = added > 100 ? added - 100 : 0; i < added; i++) {
            g_assert_true(live_metadata_has(&s->m, 3 * i));
            g_assert_false(live_metadata_has(&s->m, 3 * i + 1));
        }
    } while (added < MANY);
    return NULL;
}

/* What was added is seen from then on, by everybody. */
static void test_threads(void)
{
    struct shared s = {0};
    GThread *readers[2];

    g_assert_cmpint(live_metadata_init(&s.m), ==, 0);
    for (int i = 0; i < 2; i++)
        readers[i] = g_thread_new("look", look, &s);
    for (uint64_t i = 0; i < MANY; i++) {
        g_assert_cmpint(live_metadata_add(&s.m, 3 * i), ==, 0);
        s.added = i + 1;
    }
    for (int i = 0; i < 2; i++)
        g_thread_join(readers[i]);
    live_metadata_clear(&s.m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/metadata/model", test_model);
    g_test_add_func("/metadata/threads", test_threads);
    return g_test_run();
}
