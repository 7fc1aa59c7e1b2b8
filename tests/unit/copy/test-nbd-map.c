/* SPDX-License-Identifier: BSD-3-Clause */
/* The map of an NBD server's answers, against a model of one byte for each sector. */
#include "common/copy/nbd-map.h"

#define SECTORS 512 /* of the disk, each of one byte: offsets stay small */

enum kind { CLEAN, ZERO, DATA };

struct told {
    uint64_t offset, end; /* of the question; the end moves with what is told */
    enum kind kinds[SECTORS];
    bool last_zero; /* of the extent before, which ended at `end` */
    uint64_t last_end;
};

static int take(void *opaque, const struct copy_extent *e, GError **err)
{
    struct told *t = opaque;

    g_assert_cmpuint(e->offset, >=, t->end);
    g_assert_cmpuint(e->length, >, 0);
    for (uint64_t i = 0; i < e->length; i++)
        t->kinds[e->offset + i] = e->zero ? ZERO : DATA;
    /* Neighbours differ. */
    g_assert_true(e->offset != t->last_end || e->zero != t->last_zero);
    t->end = t->last_end = e->offset + e->length;
    t->last_zero = e->zero;
    return 0;
}

/* Some entries of an answer, and what they say of each byte; *n counts the numbers. */
static uint64_t make_answer(GRand *rand, uint64_t offset, uint64_t end, uint32_t *entries,
                            size_t *n, uint32_t *flags)
{
    uint64_t position = offset;
    size_t most = (size_t)g_rand_int_range(rand, 1, 40);

    for (*n = 0; *n < 2 * most; *n += 2) {
        uint32_t length = (uint32_t)g_rand_int_range(rand, 0, 30);

        if (g_rand_int_range(rand, 0, 50) == 0)
            length = UINT32_MAX;
        entries[*n] = length;
        entries[*n + 1] = (uint32_t)g_rand_int_range(rand, 0, 4);
        for (uint32_t i = 0; i < length && position < end; i++)
            flags[position++] = entries[*n + 1];
    }
    return position;
}

/* One question with random answers. */
static void ask(GRand *rand)
{
    uint32_t align = 1U << g_rand_int_range(rand, 0, 5), dirty[SECTORS], allocation[SECTORS];
    bool has_context = g_rand_boolean(rand), has_allocation = g_rand_boolean(rand);
    uint64_t offset = (uint64_t)g_rand_int_range(rand, 0, SECTORS) / align * align;
    uint64_t length = (uint64_t)g_rand_int_range(rand, 1, (int)(SECTORS - offset) + 1), end;
    uint64_t known = offset + length, up;
    struct nbd_map *m =
        nbd_map_new(&(struct nbd_map_disk){.align = align, .has_context = has_context});
    struct told told = {.end = offset, .last_end = UINT64_MAX};
    uint32_t entries[80];
    size_t n;

    nbd_map_ask(m, offset, length);
    if (has_allocation) {
        up = make_answer(rand, offset, offset + length, entries, &n, allocation);
        g_assert_true(nbd_map_take(m, NBD_MAP_ALLOCATION, entries, n));
        has_allocation = up > offset;
        known = has_allocation ? MIN(known, up) : known;
    }
    if (has_context) {
        up = make_answer(rand, offset, offset + length, entries, &n, dirty);
        g_assert_true(nbd_map_take(m, NBD_MAP_DIRTY, entries, n));
        g_assert_true(nbd_map_is_answered(m) == (up > offset));
        known = MIN(known, up);
    }
    if (has_context && !nbd_map_is_answered(m)) {
        nbd_map_free(m);
        return;
    }
    g_assert_cmpint(nbd_map_tell(m, take, &told, &end, NULL), ==, 0);
    g_assert_cmpuint(end, >, offset);
    g_assert_cmpuint(end, <=, offset + length);
    g_assert_true(end % align == 0 || end == offset + length);
    /* All that is known is told, but for a part of a block. */
    g_assert_cmpuint(end + align, >, known);
    g_assert_cmpuint(told.end, <=, end);
    for (uint64_t at = offset; at < end; at += align) {
        uint64_t block_end = MIN(at + align, end);
        enum kind kind = told.kinds[at];
        bool is_known = block_end <= known, any_data = !is_known, any_dirty = !is_known,
             all_same = is_known;

        for (uint64_t i = at; i < block_end && i < known; i++) {
            bool d = !has_context || (dirty[i] & 1), z = has_allocation && (allocation[i] & 2);

            any_dirty |= d;
            any_data |= d && !z;
            all_same &= i == at || (d == (!has_context || (dirty[at] & 1)) &&
                                    (!d || z == (has_allocation && (allocation[at] & 2))));
            g_assert_cmpint(told.kinds[i], ==, kind); /* whole blocks */
        }
        /* What is dirty is never left out, data never zero; and nothing is copied for nothing. */
        g_assert_true(!any_dirty || kind != CLEAN);
        g_assert_true(!any_data || kind == DATA);
        if (all_same)
            g_assert_cmpint(kind, ==, !any_dirty ? CLEAN : any_data ? DATA : ZERO);
    }
    nbd_map_free(m);
}

static void test_random(void)
{
    guint32 seed = g_random_int();
    GRand *rand = g_rand_new_with_seed(seed);

    g_test_message("seed %u", seed);
    for (int i = 0; i < 20000; i++)
        ask(rand);
    g_rand_free(rand);
}

static void test_unanswered(void)
{
    struct nbd_map *m = nbd_map_new(&(struct nbd_map_disk){.align = 16});
    struct told told = {.end = 0, .last_end = UINT64_MAX};
    uint64_t end;

    nbd_map_ask(m, 32, 100);
    g_assert_false(nbd_map_is_answered(m));
    g_assert_cmpint(nbd_map_tell(m, take, &told, &end, NULL), ==, 0);
    g_assert_cmpuint(end, ==, 132);
    g_assert_cmpint(told.kinds[32], ==, DATA);
    g_assert_cmpint(told.kinds[131], ==, DATA);
    nbd_map_free(m);
}

static int count(void *opaque, const struct copy_extent *e, GError **err)
{
    ++*(size_t *)opaque;
    return 0;
}

/* An answer of very many extents is kept in part, and the rest is asked for again. */
static void test_many(void)
{
    enum { ENTRIES = 2000000 };
    uint32_t *entries = g_new(uint32_t, 2 * ENTRIES);
    struct nbd_map *m = nbd_map_new(&(struct nbd_map_disk){.align = 512, .has_context = true});
    uint64_t end;
    size_t told = 0;

    for (uint32_t i = 0; i < ENTRIES; i++) {
        entries[2 * i] = 512;
        entries[2 * i + 1] = i % 2;
    }
    nbd_map_ask(m, 0, UINT64_C(512) * ENTRIES);
    g_assert_true(nbd_map_take(m, NBD_MAP_DIRTY, entries, 2 * ENTRIES));
    g_assert_cmpint(nbd_map_tell(m, count, &told, &end, NULL), ==, 0);
    g_assert_cmpuint(end, ==, told * 1024);
    g_assert_cmpuint(end, <, UINT64_C(512) * ENTRIES);
    nbd_map_free(m);
    g_free(entries);
}

static void test_endless(void)
{
    static const uint32_t nothing[] = {0, 1};
    struct nbd_map *m = nbd_map_new(&(struct nbd_map_disk){.align = 512, .has_context = true});
    size_t messages = 0;

    nbd_map_ask(m, 0, 4096);
    while (nbd_map_take(m, NBD_MAP_DIRTY, nothing, 2))
        g_assert_cmpuint(++messages, <, 1000);
    g_assert_cmpuint(messages, >, 2);
    g_assert_false(nbd_map_is_answered(m));
    /* The next question has an answer of its own. */
    nbd_map_ask(m, 0, 4096);
    g_assert_true(nbd_map_take(m, NBD_MAP_DIRTY, nothing, 2));
    nbd_map_free(m);
}

static int refuse(void *opaque, const struct copy_extent *e, GError **err)
{
    ++*(size_t *)opaque;
    g_set_error_literal(err, G_FILE_ERROR, 1, "no");
    return -1;
}

static void test_sink_fails(void)
{
    static const uint32_t entries[] = {512, 1, 512, 0, 512, 1};
    struct nbd_map *m = nbd_map_new(&(struct nbd_map_disk){.align = 512, .has_context = true});
    GError *err = NULL;
    size_t told = 0;
    uint64_t end;

    nbd_map_ask(m, 0, 1536);
    g_assert_true(nbd_map_take(m, NBD_MAP_DIRTY, entries, G_N_ELEMENTS(entries)));
    g_assert_cmpint(nbd_map_tell(m, refuse, &told, &end, &err), ==, -1);
    g_assert_error(err, G_FILE_ERROR, 1);
    g_assert_cmpuint(told, ==, 1);
    g_error_free(err);
    nbd_map_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy/nbd-map/random", test_random);
    g_test_add_func("/copy/nbd-map/unanswered", test_unanswered);
    g_test_add_func("/copy/nbd-map/many", test_many);
    g_test_add_func("/copy/nbd-map/endless", test_endless);
    g_test_add_func("/copy/nbd-map/sink-fails", test_sink_fails);
    return g_test_run();
}
