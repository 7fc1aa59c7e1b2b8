/* SPDX-License-Identifier: BSD-3-Clause */
/* Reading a journal: what is open, and what is damage. */
#include "common/state/journal-scan.h"

#include "common/state/folder.h"
#include "tests/rigs/journal-storage.h"

#include <string.h>

#define FOLDER  UINT64_C(0xfeedfacecafebeef)
#define DISKS   3
#define REGIONS 300

/* ---- a journal by hand ---- */

struct maker {
    uint8_t *bytes; /* of the file */
    struct journal_sector head;
};

static void maker_init(struct maker *m)
{
    *m = (struct maker){.bytes = g_malloc0(2 * JOURNAL_HALF)};
}

static uint8_t *sector_at(struct maker *m, uint64_t generation, unsigned number)
{
    return m->bytes + (generation & 1 ? 0 : JOURNAL_HALF) + number * JOURNAL_SECTOR;
}

/* The next batch, an entry a sector; with generation, it is the snapshot of the next half. */
static void add(struct maker *m, const struct journal_entry *entries, unsigned n, bool snapshot)
{
    struct journal_sector *h = &m->head;

    if (snapshot)
        *h = (struct journal_sector){
            .folder = FOLDER, .generation = h->generation + 1, .snapshot = MAX(n, 1)};
    h->batch = h->number;
    for (unsigned i = 0; i < MAX(n, 1); i++) {
        h->n = n > 0;
        journal_sector_encode(sector_at(m, h->generation, h->number), h, entries + i);
        h->number++;
    }
}

static GArray *scan(struct maker *m, const char **why)
{
    return journal_scan_bytes(m->bytes, 2 * JOURNAL_HALF, FOLDER, why);
}

static void expect_damage(struct maker *m, const char *what)
{
    const char *why;

    g_assert_null(scan(m, &why));
    g_assert_cmpstr(why, ==, what);
}

/* "disk:first+count ..." */
static char *to_text(const GArray *open)
{
    GString *s = g_string_new(NULL);

    for (guint i = 0; i < open->len; i++) {
        const struct journal_entry *e = &g_array_index(open, struct journal_entry, i);

        g_assert_true(e->open);
        g_string_append_printf(s, "%s%d:%d+%d", i ? " " : "", (int)e->disk, (int)e->first,
                               (int)e->count);
    }
    return g_string_free(s, FALSE);
}

static void expect_open(struct maker *m, const char *text)
{
    const char *why;
    GArray *open = scan(m, &why);
    char *found;

    g_assert_cmpstr(why, ==, NULL);
    found = to_text(open);
    g_assert_cmpstr(found, ==, text);
    g_free(found);
    g_array_free(open, TRUE);
}

static const struct journal_entry some[] = {{1, 10, 5, true}, {1, 20, 5, true}, {2, 0, 1, true}};

/* ---- tests ---- */

static void test_lengths(void)
{
    g_autofree uint8_t *bytes = g_malloc0(2 * JOURNAL_HALF + JOURNAL_SECTOR);
    const char *why;
    GArray *open = journal_scan_bytes(NULL, 0, FOLDER, &why);

    g_assert_cmpuint(open->len, ==, 0);
    g_array_free(open, TRUE);
    g_assert_null(journal_scan_bytes(bytes, JOURNAL_HALF, FOLDER, &why));
    g_assert_cmpstr(why, ==, "it is cut short");
    g_assert_null(journal_scan_bytes(bytes, 1, FOLDER, &why));
    g_assert_null(journal_scan_bytes(bytes, 2 * JOURNAL_HALF + JOURNAL_SECTOR, FOLDER, &why));
    g_assert_cmpstr(why, ==, "it is too long");
    g_assert_null(journal_scan_bytes(bytes, 2 * JOURNAL_HALF, FOLDER, &why));
    g_assert_cmpstr(why, ==, "it has only zeroes");
}

static void test_file(void)
{
    struct storage *s = memory_storage_new();
    g_autoptr(GError) err = NULL;
    GArray *open = journal_scan(s, FOLDER, &err);
    struct maker m;

    g_assert_cmpuint(open->len, ==, 0);
    g_array_free(open, TRUE);
    maker_init(&m);
    add(&m, some, 3, true);
    memory_put(s, STATE_INTENT, m.bytes, 2 * JOURNAL_HALF);
    open = journal_scan(s, FOLDER, &err);
    g_assert_no_error(err);
    g_assert_cmpuint(open->len, ==, 3);
    g_array_free(open, TRUE);
    g_assert_null(journal_scan(s, FOLDER + 1, &err));
    g_assert_cmpstr(err->message, ==,
                    "state: MEMORY/intent: the journal is damaged: it is another folder's");
    g_clear_error(&err);
    memory_put(s, STATE_INTENT, m.bytes, JOURNAL_HALF);
    g_assert_null(journal_scan(s, FOLDER, &err));
    g_assert_cmpstr(err->message, ==,
                    "state: MEMORY/intent: the journal is damaged: it is cut short");
    g_free(m.bytes);
    s->ops->free(s);
}

static void test_order(void)
{
    static const struct journal_entry changes[] = {
        {1, 12, 1, false}, {1, 15, 5, true}, {2, 0, 100, false}, {2, 50, 1, true}};
    struct maker m;

    maker_init(&m);
    add(&m, NULL, 0, true);
    expect_open(&m, "");
    add(&m, some, 3, false);
    expect_open(&m, "1:10+5 1:20+5 2:0+1");
    add(&m, changes, 4, false);
    expect_open(&m, "1:10+2 1:13+12 2:50+1");
    add(&m, some, 1, true); /* the next half has nothing else */
    expect_open(&m, "1:10+5");
    g_free(m.bytes);
}

/* Random entries against an array of flags. */
static void test_random(void)
{
    for (unsigned round = 0; round < 100; round++) {
        bool flags[DISKS + 1][REGIONS] = {0};
        GArray *open;
        const char *why;
        struct maker m;

        maker_init(&m);
        add(&m, NULL, 0, true);
        for (int n = g_test_rand_int_range(0, 60); n > 0; n--) {
            struct journal_entry e = {g_test_rand_int_range(1, DISKS + 1),
                                      (uint64_t)g_test_rand_int_range(0, REGIONS - 50),
                                      (uint64_t)g_test_rand_int_range(1, 51), g_test_rand_bit()};

            add(&m, &e, 1, false);
            for (uint64_t r = e.first; r < e.first + e.count; r++)
                flags[e.disk][r] = e.open;
        }
        open = scan(&m, &why);
        for (guint i = 0; i < open->len; i++) {
            struct journal_entry *e = &g_array_index(open, struct journal_entry, i);

            g_assert_true(e->first == 0 || !flags[e->disk][e->first - 1]); /* merged, in order */
            for (uint64_t r = e->first; r < e->first + e->count; r++) {
                g_assert_true(flags[e->disk][r]);
                flags[e->disk][r] = false;
            }
        }
        for (unsigned d = 0; d <= DISKS; d++)
            for (unsigned r = 0; r < REGIONS; r++)
                g_assert_false(flags[d][r]);
        g_array_free(open, TRUE);
        g_free(m.bytes);
    }
}

/* A batch that was never synced: any of its sectors may be there. */
static void test_unsynced_batch(void)
{
    struct maker m;

    maker_init(&m);
    add(&m, some, 1, true);
    add(&m, some, 3, false);
    memset(sector_at(&m, 1, 2), 0, JOURNAL_SECTOR);
    expect_open(&m, "1:10+5");
    memset(sector_at(&m, 1, 1), 0, JOURNAL_SECTOR);
    expect_open(&m, "1:10+5");
    g_free(m.bytes);
}

static void test_lost_sector(void)
{
    struct maker m;

    maker_init(&m);
    add(&m, some, 1, true);
    add(&m, some, 3, false);
    add(&m, some, 1, false);
    memset(sector_at(&m, 1, 3), 0, JOURNAL_SECTOR);
    expect_damage(&m, "a sector is missing");
    g_free(m.bytes);
}

/* A sector of the snapshot, with a batch behind it: the snapshot was synced. */
static void test_lost_snapshot(void)
{
    struct maker m;

    maker_init(&m);
    add(&m, some, 1, true);
    add(&m, some, 3, true);
    add(&m, some, 1, false);
    memset(sector_at(&m, 2, 1), 0, JOURNAL_SECTOR);
    expect_damage(&m, "a sector is missing");
    memset(sector_at(&m, 2, 0), 0, JOURNAL_SECTOR);
    expect_damage(&m, "sectors do not fit each other");
    g_free(m.bytes);
}

static void test_torn_snapshot(void)
{
    struct maker m;
    uint8_t old[JOURNAL_SECTOR];

    maker_init(&m);
    add(&m, some, 3, true);
    memcpy(old, sector_at(&m, 1, 1), sizeof old);
    add(&m, some + 1, 1, true);
    add(&m, some, 3, true); /* over the first one */
    expect_open(&m, "1:10+5 1:20+5 2:0+1");
    memcpy(sector_at(&m, 3, 1), old, sizeof old);
    expect_open(&m, "1:20+5"); /* the second one counts again */
    memset(sector_at(&m, 2, 0), 0, JOURNAL_SECTOR);
    expect_damage(&m, "its halves do not belong together");
    g_free(m.bytes);
}

static void test_no_snapshot(void)
{
    struct maker m;

    maker_init(&m);
    add(&m, some, 3, true);
    memset(sector_at(&m, 1, 0), 0, JOURNAL_SECTOR);
    expect_damage(&m, "no snapshot is whole");
    g_free(m.bytes);
}

static void test_damage(void)
{
    struct maker m;

    maker_init(&m);
    add(&m, some, 3, true);
    add(&m, some, 3, true);
    /* In either half, and behind what is in use. */
    sector_at(&m, 1, 1)[100] ^= 1;
    expect_damage(&m, "a sector is damaged");
    sector_at(&m, 1, 1)[100] ^= 1;
    sector_at(&m, 2, 4000)[0] = 1;
    expect_damage(&m, "a sector is damaged");
    sector_at(&m, 2, 4000)[0] = 0;
    memcpy(sector_at(&m, 2, 5), sector_at(&m, 2, 1), JOURNAL_SECTOR);
    expect_damage(&m, "a sector is not where it belongs");
    memset(sector_at(&m, 2, 5), 0, JOURNAL_SECTOR);
    expect_open(&m, "1:10+5 1:20+5 2:0+1");
    memcpy(m.bytes, m.bytes + JOURNAL_HALF, JOURNAL_HALF);
    expect_damage(&m, "a sector is not where it belongs");
    g_free(m.bytes);
}

/* A half as it was some time ago. */
static void test_old_half(void)
{
    struct maker m;
    uint8_t *old;

    maker_init(&m);
    add(&m, some, 1, true);
    add(&m, some, 1, true);
    old = g_memdup2(m.bytes + JOURNAL_HALF, JOURNAL_HALF);
    for (unsigned i = 0; i < 3; i++)
        add(&m, some, 2, true);
    memcpy(m.bytes + JOURNAL_HALF, old, JOURNAL_HALF);
    expect_damage(&m, "its halves do not belong together");
    memset(m.bytes + JOURNAL_HALF, 0, JOURNAL_HALF);
    expect_damage(&m, "its halves do not belong together");
    g_free(old);
    g_free(m.bytes);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/journal-scan/lengths", test_lengths);
    g_test_add_func("/journal-scan/file", test_file);
    g_test_add_func("/journal-scan/order", test_order);
    g_test_add_func("/journal-scan/random", test_random);
    g_test_add_func("/journal-scan/unsynced-batch", test_unsynced_batch);
    g_test_add_func("/journal-scan/lost-sector", test_lost_sector);
    g_test_add_func("/journal-scan/lost-snapshot", test_lost_snapshot);
    g_test_add_func("/journal-scan/torn-snapshot", test_torn_snapshot);
    g_test_add_func("/journal-scan/no-snapshot", test_no_snapshot);
    g_test_add_func("/journal-scan/damage", test_damage);
    g_test_add_func("/journal-scan/old-half", test_old_half);
    return g_test_run();
}
