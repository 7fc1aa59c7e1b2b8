/* SPDX-License-Identifier: BSD-3-Clause */
/* Where clusters go in the file, and their counts. */
#include "common/base/cursor.h"
#include "common/qcow2/q2-entry-build.h"
#include "common/qcow2/q2-stream-private.h"

#include <glib.h>

static struct q2_cluster compressed(uint32_t length)
{
    return (struct q2_cluster){.kind = Q2_COMPRESSED, .length = length};
}

static struct q2_cluster raw(void)
{
    return (struct q2_cluster){.kind = Q2_DATA, .length = (uint32_t)CLUSTER};
}

static void take(struct q2_space *p, uint64_t n, uint64_t at)
{
    uint64_t host;
    struct q2_error err;

    g_assert_cmpint(q2_space_take(p, n, &host, &err), ==, 0);
    g_assert_cmpuint(host, ==, at * CLUSTER);
}

static unsigned count_of(const struct q2_space *p, uint64_t cluster)
{
    return load_be16(p->blocks[cluster / BLOCK_COUNTS] + cluster % BLOCK_COUNTS * 2);
}

static struct q2_gap place(struct q2_space *p, struct q2_cluster *c, size_t n, size_t behind)
{
    struct q2_gap gap;
    struct q2_error err;
    size_t is;

    g_assert_cmpint(q2_space_place(p, c, n, &is, &gap, &err), ==, 0);
    g_assert_cmpuint(is, ==, behind);
    return gap;
}

/* Compressed clusters lie one behind the other, also across host clusters, as long as nothing comes
 * between. */
static void test_packed(void)
{
    struct q2_space p = {0};
    struct q2_cluster c[] = {compressed(40000), compressed(40000)}, d = compressed(60000);

    take(&p, 2, 0);
    place(&p, c, 2, 0);
    g_assert_cmpuint(c[0].host, ==, 2 * CLUSTER);
    g_assert_cmpuint(c[1].host, ==, 2 * CLUSTER + 40000);
    g_assert_cmpuint(p.next, ==, 4 * CLUSTER);
    g_assert_cmpuint(place(&p, &d, 1, 0).length, ==, 0);
    g_assert_cmpuint(d.host, ==, 2 * CLUSTER + 80000);
    g_assert_cmpuint(count_of(&p, 1), ==, 1);
    g_assert_cmpuint(count_of(&p, 2), ==, 2);
    g_assert_cmpuint(count_of(&p, 3), ==, 2);
    g_assert_cmpuint(count_of(&p, 4), ==, 1);
    g_assert_cmpuint(p.next, ==, 5 * CLUSTER);
    q2_space_free(&p);
}

/* Raw clusters come between: what fits goes into the rest of the pack, what does not goes behind
 * them, and the rest is a gap. */
static void test_mixed(void)
{
    struct q2_space p = {0};
    struct q2_cluster first = compressed(60000);
    struct q2_cluster c[] = {raw(), compressed(5000), raw(), compressed(600), compressed(10)};
    struct q2_gap gap;

    take(&p, 2, 0);
    place(&p, &first, 1, 0);
    gap = place(&p, c, 5, 3);
    g_assert_cmpuint(c[1].host, ==, 2 * CLUSTER + 60000);
    g_assert_cmpuint(c[0].host, ==, 3 * CLUSTER);
    g_assert_cmpuint(c[2].host, ==, 4 * CLUSTER);
    g_assert_cmpuint(c[3].host, ==, 5 * CLUSTER);
    g_assert_cmpuint(c[4].host, ==, 5 * CLUSTER + 600);
    g_assert_cmpuint(gap.offset, ==, 2 * CLUSTER + 65000);
    g_assert_cmpuint(gap.length, ==, 536);
    g_assert_cmpuint(count_of(&p, 2), ==, 2);
    g_assert_cmpuint(count_of(&p, 3), ==, 1);
    g_assert_cmpuint(count_of(&p, 5), ==, 2);
    gap = q2_space_close_pack(&p);
    g_assert_cmpuint(gap.offset, ==, 5 * CLUSTER + 610);
    g_assert_cmpuint(gap.offset + gap.length, ==, 6 * CLUSTER);
    g_assert_cmpuint(q2_space_close_pack(&p).length, ==, 0);
    q2_space_free(&p);
}

/* A block is given away when nothing that it counts can change, and not before. */
static void test_blocks(void)
{
    struct q2_space p = {0};
    struct q2_cluster c = compressed(100), more = compressed(100);
    size_t number;
    uint8_t *block;

    take(&p, BLOCK_COUNTS - 1, 0);
    g_assert_null(q2_space_next_block(&p, &number));
    place(&p, &c, 1, 0);
    g_assert_null(q2_space_next_block(&p, &number));
    take(&p, 2 * BLOCK_COUNTS, BLOCK_COUNTS);
    g_assert_null(q2_space_next_block(&p, &number));
    place(&p, &more, 1, 1);
    g_assert_cmpuint(more.host, ==, c.host + 100);
    q2_space_close_pack(&p);
    for (size_t i = 0; i < 3; i++) {
        block = q2_space_next_block(&p, &number);
        g_assert_nonnull(block);
        g_assert_cmpuint(number, ==, i);
        g_assert_cmpuint(load_be16(block), ==, 1);
        g_assert_cmpuint(load_be16(block + CLUSTER - 2), ==, i == 0 ? 2 : 1);
        g_free(block);
    }
    g_assert_null(q2_space_next_block(&p, &number));
    q2_space_free(&p);
}

static void test_too_long(void)
{
    struct q2_space p = {0};
    struct q2_error err;
    uint64_t host;

    g_assert_cmpint(q2_space_take(&p, UINT64_C(1) << 36, &host, &err), ==, -1);
    q2_space_free(&p);
}

/* The sectors behind the first one that the bytes touch. */
static void test_entries(void)
{
    const struct {
        uint64_t host;
        uint32_t length;
        uint64_t further;
    } e[] = {{65536, 1, 0},   {65536, 512, 0}, {65536, 513, 1}, {66047, 1, 0},    {66047, 2, 1},
             {66047, 513, 1}, {66047, 514, 2}, {0, 65535, 127}, {511, 65535, 128}};

    for (size_t i = 0; i < G_N_ELEMENTS(e); i++)
        g_assert_cmphex(q2_entry_compressed(e[i].host, e[i].length, 16), ==,
                        UINT64_C(1) << 62 | e[i].further << 54 | e[i].host);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/space/packed", test_packed);
    g_test_add_func("/space/mixed", test_mixed);
    g_test_add_func("/space/blocks", test_blocks);
    g_test_add_func("/space/too-long", test_too_long);
    g_test_add_func("/space/entries", test_entries);
    return g_test_run();
}
