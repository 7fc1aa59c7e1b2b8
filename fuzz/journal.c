/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The intent journal after a crash: journal_scan_bytes. Nothing in the file is believed, and what
 * is found is sorted, has no overlaps and lies inside the largest disk. Good sectors are read and
 * written again, byte for byte.
 *
 * Input: sectors, each with a byte that says how it is made, the half (bit 7) and number that it is
 * put at, and its content: see make_sector. A file of two halves of zeroes gets them.
 */
#include "fuzz/fuzz.h"

#include "common/state/journal-scan.h"

#include <string.h>

const char fuzz_name[] = "journal";

#define FOLDER 7

/* How a sector is made. */
enum {
    RAW = 1,     /* bytes as they come, as many as there are up to a sector */
    BATCH = 2,   /* its batch begins with it; else it belongs to the snapshot */
    FOREIGN = 4, /* of another folder */
    BROKEN = 8,  /* one bit is wrong */
};

static void check_again(const uint8_t *sector)
{
    struct journal_entry entries[JOURNAL_CAPACITY];
    uint8_t again[JOURNAL_SECTOR];
    struct journal_sector s;

    if (journal_sector_decode(sector, &s, entries) != JOURNAL_VALID)
        return;
    CHECK(s.n <= JOURNAL_CAPACITY && s.number < JOURNAL_SECTORS && s.batch <= s.number);
    journal_sector_encode(again, &s, entries);
    CHECK(memcmp(sector, again, 40 + s.n * 24) == 0);
}

static void make_entry(struct supply *s, struct journal_entry *e)
{
    uint8_t shape = take_u8(s);

    e->disk = 1 + (shape & 3);
    e->open = shape & 4;
    e->first = take_u8(s);
    e->count = take_u8(s);
    if (shape & 8)
        e->first = take_u64(s);
    if (shape & 16)
        e->count = take_u64(s);
}

static void make_sector(struct supply *s, uint8_t how, unsigned number, uint8_t *sector)
{
    struct journal_entry entries[JOURNAL_CAPACITY];
    struct journal_sector h = {
        .folder = FOLDER + !!(how & FOREIGN),
        .generation = take_u8(s),
        .number = number,
        .batch = how & BATCH ? number : 0,
        .snapshot = take_u8(s),
        .n = take_u8(s) % (JOURNAL_CAPACITY + 1),
    };

    for (unsigned i = 0; i < h.n; i++)
        make_entry(s, &entries[i]);
    journal_sector_encode(sector, &h, entries);
    if (how & BROKEN)
        sector[take_u16(s) % JOURNAL_SECTOR] ^= 1;
}

static void put_sector(struct supply *s, uint8_t *bytes)
{
    uint8_t how = take_u8(s), at = take_u8(s);
    uint8_t *sector = bytes + (at & 128 ? JOURNAL_HALF : 0) + (at & 127) * JOURNAL_SECTOR;
    size_t got;

    if (how & RAW) {
        const uint8_t *raw = take_bytes(s, JOURNAL_SECTOR, &got);

        if (got > 0)
            memcpy(sector, raw, got);
    } else {
        make_sector(s, how, at & 127, sector);
    }
    check_again(sector);
}

static void check_open(GArray *open)
{
    for (guint i = 0; i < open->len; i++) {
        const struct journal_entry *e = &g_array_index(open, struct journal_entry, i);

        CHECK(e->open && e->disk > 0 && e->count > 0);
        CHECK(e->first < JOURNAL_REGIONS && e->count <= JOURNAL_REGIONS - e->first);
        CHECK(i == 0 || e[-1].disk < e->disk ||
              (e[-1].disk == e->disk && e[-1].first + e[-1].count < e->first));
    }
    g_array_free(open, TRUE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct supply s = supply_on(data, size);
    uint8_t *bytes = g_malloc0(2 * JOURNAL_HALF);
    const char *why;
    GArray *open;

    while (supply_left(&s) > 0)
        put_sector(&s, bytes);
    open = journal_scan_bytes(bytes, 2 * JOURNAL_HALF, FOLDER, &why);
    CHECK(!open == !!why);
    if (open)
        check_open(open);
    /* As it comes: lengths that are none of a journal. */
    open = journal_scan_bytes(data, size, FOLDER, &why);
    CHECK(!open == !!why);
    if (open)
        check_open(open);
    g_free(bytes);
    return 0;
}
