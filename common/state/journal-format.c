/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A sector, in bytes; numbers are little-endian:
 *
 *     0   8  magic
 *     8   8  folder
 *    16   8  generation
 *    24   4  number
 *    28   4  batch
 *    32   4  snapshot
 *    36   4  n
 *    40      n entries of 24 bytes: disk (8), first region (8), 2 * count + open (8); then zeroes
 *   508   4  CRC-32 of all before
 */
#include "common/state/journal-format.h"

#include <endian.h>
#include <string.h>
#include <zlib.h>

#define MAGIC   UINT64_C(0x31746e49464e424e) /* "NBNFInt1" */
#define ENTRIES 40
#define ENTRY   24
#define CRC_AT  508

_Static_assert(ENTRIES + JOURNAL_CAPACITY * ENTRY <= CRC_AT, "entries end before the checksum");

unsigned journal_sectors_for(size_t n)
{
    return n == 0 ? 1 : (unsigned)((n + JOURNAL_CAPACITY - 1) / JOURNAL_CAPACITY);
}

static void put64(uint8_t *at, uint64_t value)
{
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t value)
{
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static uint64_t get64(const uint8_t *at)
{
    uint64_t value;

    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

static uint32_t get32(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint32_t checksum(const uint8_t *sector)
{
    return (uint32_t)crc32(0, sector, CRC_AT);
}

void journal_sector_encode(uint8_t sector[static JOURNAL_SECTOR], const struct journal_sector *s,
                           const struct journal_entry *entries)
{
    memset(sector, 0, JOURNAL_SECTOR);
    put64(sector, MAGIC);
    put64(sector + 8, s->folder);
    put64(sector + 16, s->generation);
    put32(sector + 24, s->number);
    put32(sector + 28, s->batch);
    put32(sector + 32, s->snapshot);
    put32(sector + 36, s->n);
    for (unsigned i = 0; i < s->n && i < JOURNAL_CAPACITY; i++) {
        uint8_t *at = sector + ENTRIES + i * ENTRY;

        put64(at, (uint64_t)entries[i].disk);
        put64(at + 8, entries[i].first);
        put64(at + 16, entries[i].count << 1 | entries[i].open);
    }
    put32(sector + CRC_AT, checksum(sector));
}

/* Most of a journal is zeroes, and a recovery looks at all of it. */
static bool is_zeroes(const uint8_t *sector)
{
    static const uint8_t zeroes[JOURNAL_SECTOR];

    return memcmp(sector, zeroes, JOURNAL_SECTOR) == 0;
}

static bool read_head(const uint8_t *sector, struct journal_sector *s)
{
    if (get64(sector) != MAGIC || get32(sector + CRC_AT) != checksum(sector))
        return false;
    *s = (struct journal_sector){
        .folder = get64(sector + 8),
        .generation = get64(sector + 16),
        .number = get32(sector + 24),
        .batch = get32(sector + 28),
        .snapshot = get32(sector + 32),
        .n = get32(sector + 36),
    };
    return s->generation > 0 && s->number < JOURNAL_SECTORS && s->batch <= s->number &&
           s->snapshot > 0 && s->snapshot <= JOURNAL_SECTORS && s->n <= JOURNAL_CAPACITY;
}

static bool read_entry(const uint8_t *at, struct journal_entry *e)
{
    uint64_t count = get64(at + 16);

    *e = (struct journal_entry){
        .disk = (int64_t)get64(at),
        .first = get64(at + 8),
        .count = count >> 1,
        .open = count & 1,
    };
    return e->disk > 0 && e->count > 0 && e->first < JOURNAL_REGIONS &&
           e->count <= JOURNAL_REGIONS - e->first;
}

enum journal_kind journal_sector_decode(const uint8_t sector[static JOURNAL_SECTOR],
                                        struct journal_sector *s, struct journal_entry *entries)
{
    if (is_zeroes(sector))
        return JOURNAL_ZEROES;
    if (!read_head(sector, s))
        return JOURNAL_DAMAGED;
    for (unsigned i = 0; i < s->n; i++)
        if (!read_entry(sector + ENTRIES + i * ENTRY, &entries[i]))
            return JOURNAL_DAMAGED;
    return JOURNAL_VALID;
}
