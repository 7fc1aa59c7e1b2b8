/* SPDX-License-Identifier: BSD-3-Clause */
/* Sectors of the journal: what goes in comes out, and nothing else does. */
#include "common/state/journal-format.h"

#include <glib.h>
#include <string.h>

static void random_sector(struct journal_sector *s, struct journal_entry *entries)
{
    *s = (struct journal_sector){
        .folder = (uint64_t)g_test_rand_int() << 32,
        .generation = 1 + (uint64_t)g_test_rand_int_range(0, G_MAXINT),
        .number = (uint32_t)g_test_rand_int_range(0, JOURNAL_SECTORS),
        .snapshot = (uint32_t)g_test_rand_int_range(1, JOURNAL_SECTORS + 1),
        .n = (unsigned)g_test_rand_int_range(0, JOURNAL_CAPACITY + 1),
    };
    s->batch = (uint32_t)g_test_rand_int_range(0, (int)s->number + 1);
    for (unsigned i = 0; i < s->n; i++) {
        entries[i] = (struct journal_entry){
            .disk = 1 + (int64_t)g_test_rand_int_range(0, G_MAXINT) * 3,
            .first = (uint64_t)g_test_rand_int_range(0, G_MAXINT),
            .count = (uint64_t)g_test_rand_int_range(1, G_MAXINT),
            .open = g_test_rand_bit(),
        };
    }
}

static void test_round_trip(void)
{
    struct journal_entry in[JOURNAL_CAPACITY], out[JOURNAL_CAPACITY];
    uint8_t sector[JOURNAL_SECTOR];
    struct journal_sector s, t;

    for (unsigned i = 0; i < 1000; i++) {
        random_sector(&s, in);
        journal_sector_encode(sector, &s, in);
        g_assert_cmpint(journal_sector_decode(sector, &t, out), ==, JOURNAL_VALID);
        g_assert_true(s.folder == t.folder && s.generation == t.generation &&
                      s.number == t.number && s.batch == t.batch && s.snapshot == t.snapshot &&
                      s.n == t.n);
        for (unsigned k = 0; k < s.n; k++)
            g_assert_true(in[k].disk == out[k].disk && in[k].first == out[k].first &&
                          in[k].count == out[k].count && in[k].open == out[k].open);
    }
}

/* The bytes are the same on every machine. */
static void test_bytes(void)
{
    struct journal_entry e = {0x0102030405060708, 0x1112131415, 3, true};
    struct journal_sector s = {.folder = 0x2122232425262728,
                               .generation = 0x31,
                               .number = 0x41,
                               .batch = 0x40,
                               .snapshot = 0x3f,
                               .n = 1};
    uint8_t sector[JOURNAL_SECTOR];

    journal_sector_encode(sector, &s, &e);
    g_assert_cmpmem(sector, 8, "NBNFInt1", 8);
    g_assert_cmphex(sector[8], ==, 0x28);
    g_assert_cmphex(sector[15], ==, 0x21);
    g_assert_cmphex(sector[16], ==, 0x31);
    g_assert_cmphex(sector[24], ==, 0x41);
    g_assert_cmphex(sector[28], ==, 0x40);
    g_assert_cmphex(sector[32], ==, 0x3f);
    g_assert_cmphex(sector[36], ==, 1);
    g_assert_cmphex(sector[40], ==, 0x08);
    g_assert_cmphex(sector[48], ==, 0x15);
    g_assert_cmphex(sector[56], ==, 7);
}

static void test_every_bit(void)
{
    struct journal_entry entries[JOURNAL_CAPACITY];
    uint8_t sector[JOURNAL_SECTOR];
    struct journal_sector s;

    random_sector(&s, entries);
    journal_sector_encode(sector, &s, entries);
    for (unsigned bit = 0; bit < JOURNAL_SECTOR * 8; bit++) {
        sector[bit / 8] ^= (uint8_t)(1u << bit % 8);
        g_assert_cmpint(journal_sector_decode(sector, &s, entries), ==, JOURNAL_DAMAGED);
        sector[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    memset(sector, 0, sizeof sector);
    g_assert_cmpint(journal_sector_decode(sector, &s, entries), ==, JOURNAL_ZEROES);
    sector[JOURNAL_SECTOR - 1] = 1;
    g_assert_cmpint(journal_sector_decode(sector, &s, entries), ==, JOURNAL_DAMAGED);
}

/* A good checksum over what cannot be. */
static void test_limits(void)
{
    const struct journal_sector good = {.generation = 1, .snapshot = 1, .n = 1};
    const struct journal_entry entry = {1, 0, 1, true};
    const struct journal_sector bad_sectors[] = {
        {.generation = 0, .snapshot = 1, .n = 1},
        {.generation = 1, .snapshot = 0, .n = 1},
        {.generation = 1, .snapshot = JOURNAL_SECTORS + 1, .n = 1},
        {.generation = 1, .snapshot = 1, .n = 1, .number = JOURNAL_SECTORS},
        {.generation = 1, .snapshot = 1, .n = 1, .batch = 1},
    };
    const struct journal_entry bad_entries[] = {
        {0, 0, 1, true},
        {-1, 0, 1, true},
        {1, 0, 0, true},
        {1, JOURNAL_REGIONS, 1, true},
        {1, 1, JOURNAL_REGIONS, true},
        {1, 1, UINT64_MAX / 2, true},
    };
    uint8_t sector[JOURNAL_SECTOR];
    struct journal_entry e[JOURNAL_CAPACITY];
    struct journal_sector s;

    journal_sector_encode(sector, &good, &entry);
    g_assert_cmpint(journal_sector_decode(sector, &s, e), ==, JOURNAL_VALID);
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_sectors); i++) {
        journal_sector_encode(sector, &bad_sectors[i], &entry);
        g_assert_cmpint(journal_sector_decode(sector, &s, e), ==, JOURNAL_DAMAGED);
    }
    for (unsigned i = 0; i < G_N_ELEMENTS(bad_entries); i++) {
        journal_sector_encode(sector, &good, &bad_entries[i]);
        g_assert_cmpint(journal_sector_decode(sector, &s, e), ==, JOURNAL_DAMAGED);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal-format/round-trip", test_round_trip);
    g_test_add_func("/journal-format/bytes", test_bytes);
    g_test_add_func("/journal-format/every-bit", test_every_bit);
    g_test_add_func("/journal-format/limits", test_limits);
    return g_test_run();
}
