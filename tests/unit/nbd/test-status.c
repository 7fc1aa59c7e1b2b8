/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * BLOCK_STATUS over a connection, with contexts that make it hard.
 */
#include "tests/rigs/nbd-rig.h"

#include <errno.h>

/* Ask for BLOCK_STATUS and take all its chunks. Return how much each chunk covers (they have to
 * agree), or 0 for an error; counts[] gets the number of extents of each context. */
static uint64_t ask(struct client *c, uint16_t flags, uint64_t offset, uint32_t length,
                    unsigned contexts, unsigned *counts)
{
    uint64_t total = 0;

    client_request(c, flags, NBD_CMD_BLOCK_STATUS, 1, offset, length);
    for (unsigned i = 0; i < contexts; i++) {
        struct answer a = client_answer(c, 0);
        if (a.error != 0) {
            g_assert_cmpuint(i, ==, 0);
            g_free(a.payload);
            return 0;
        }
        g_assert_cmpuint(a.type, ==, NBD_REPLY_TYPE_BLOCK_STATUS);
        g_assert_cmpint(i + 1 == contexts, ==, (a.flags & NBD_REPLY_FLAG_DONE) != 0);
        counts[i] = (a.length - 4) / 8;
        uint64_t sum = 0;
        for (unsigned j = 0; j < counts[i]; j++) {
            uint32_t n = load_be32(a.payload + 4 + j * 8);
            g_assert_cmpuint(n, >, 0);
            sum += n;
        }
        if (i == 0)
            total = sum;
        g_assert_cmpuint(sum, ==, total);
        g_assert_cmpuint(sum, <=, length);
        g_free(a.payload);
    }
    return total;
}

static void test_contexts_agree(void)
{
    static const char *const contexts[] = {"base:allocation", "qemu:dirty-bitmap:a",
                                           "qemu:dirty-bitmap:b"};
    struct rig r;
    unsigned counts[3];

    rig_begin(&r, NULL);
    fake_allocation(r.disk, 1 << 20, 3); /* a backend that tells little at a time */
    fake_add_bitmap(r.disk, "a", 512);
    fake_add_bitmap(r.disk, "b", 65536);
    struct client c = rig_connect(&r);
    client_go(&c, "disk", true, contexts, 3);
    g_assert_cmpuint(ask(&c, 0, 0, 16 << 20, 3, counts), ==, 16 << 20);
    g_assert_cmpuint(counts[0], ==, 16);
    g_assert_cmpuint(counts[1], ==, 32768);
    g_assert_cmpuint(counts[2], ==, 256);
    /* Bitmap a has more extents than a list takes: all contexts are cut to what it can tell. */
    uint64_t total = ask(&c, 0, 0, 64 << 20, 3, counts);
    g_assert_cmpuint(total, ==, (uint64_t)EXTENTS_MAX * 512);
    g_assert_cmpuint(ask(&c, NBD_CMD_FLAG_REQ_ONE, 100, 1 << 20, 3, counts), ==, 412);
    g_assert_cmpuint(counts[0] * counts[1] * counts[2], ==, 1);
    client_close(&c);
    rig_end(&r);
}

/* A backend that tells one extent a call is asked only so often. */
static void test_few_calls(void)
{
    static const char *const contexts[] = {"base:allocation", "qemu:dirty-bitmap:a"};
    struct rig r;
    unsigned counts[2];

    rig_begin(&r, NULL);
    fake_allocation(r.disk, 512, 1);
    fake_add_bitmap(r.disk, "a", 65536);
    struct client c = rig_connect(&r);
    client_go(&c, "disk", true, contexts, 2);
    g_assert_cmpuint(ask(&c, 0, 0, 64 << 20, 2, counts), ==, 4096 * 512);
    g_assert_cmpuint(counts[0], ==, 4096);
    g_assert_cmpuint(counts[1], ==, 4096 * 512 / 65536);
    client_close(&c);
    rig_end(&r);
}

/* When the state is not known, the answer is an error and never "clean". */
static void test_failures(void)
{
    static const char *const contexts[] = {"base:allocation", "qemu:dirty-bitmap:a"};
    struct rig r;
    unsigned counts[2];

    rig_begin(&r, NULL);
    struct dirty_bitmap *db = fake_add_bitmap(r.disk, "a", 512);
    struct client c = rig_connect(&r);
    client_go(&c, "disk", true, contexts, 2);
    g_assert_cmpuint(ask(&c, 0, 0, 4096, 2, counts), ==, 4096);
    fake_fail(r.registry, 0, EIO);
    g_assert_cmpuint(ask(&c, 0, 0, 4096, 2, counts), ==, 0);
    fake_fail(r.registry, 0, 0);
    g_assert_cmpuint(ask(&c, 0, 0, 4096, 2, counts), ==, 4096);
    fake_break_bitmap(db);
    g_assert_cmpuint(ask(&c, 0, 0, 4096, 2, counts), ==, 0);
    client_close(&c);
    rig_end(&r);
}

/* With as many contexts as a client may have, each has its share of the extents. */
static void test_many_contexts(void)
{
    struct rig r;
    const char *contexts[META_CONTEXTS_MAX];
    unsigned counts[META_CONTEXTS_MAX];

    rig_begin(&r, NULL);
    for (unsigned i = 0; i < META_CONTEXTS_MAX; i++) {
        g_autofree char *name = g_strdup_printf("b%u", i);
        fake_add_bitmap(r.disk, name, 512);
        contexts[i] = g_strdup_printf("qemu:dirty-bitmap:%s", name);
    }
    struct client c = rig_connect(&r);
    client_go(&c, "disk", true, contexts, META_CONTEXTS_MAX);
    uint64_t total = ask(&c, 0, 0, 64 << 20, META_CONTEXTS_MAX, counts);
    g_assert_cmpuint(total, ==, (1 << 19) / META_CONTEXTS_MAX * 512);
    client_close(&c);
    for (unsigned i = 0; i < META_CONTEXTS_MAX; i++)
        g_free((char *)contexts[i]);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd-status/contexts-agree", test_contexts_agree);
    g_test_add_func("/nbd-status/few-calls", test_few_calls);
    g_test_add_func("/nbd-status/failures", test_failures);
    g_test_add_func("/nbd-status/many-contexts", test_many_contexts);
    return g_test_run();
}
