/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The intent journal in the file `intent`: which regions of which disks may have been written since
 * their bits were last flushed. This file is the format: sectors of 512 bytes, in memory; no I/O.
 *
 * The file has two halves of the same length. One is in use: it begins with a *snapshot* (all
 * regions that are open) and grows by batches of sectors; a batch is written and synced at once.
 * When it is full, the other half gets a snapshot under the next generation, is synced, and is the
 * one in use. Both halves are zeroes when the file is made, and are overwritten again and again.
 *
 * A sector is all or nothing on every disk. Each has: magic, the folder's UUID (8 bytes of it),
 * generation, its number in the half, the number of the first sector of its batch, how many sectors
 * the snapshot has, entries, CRC-32. An entry opens or closes a range of regions of a disk. The
 * last entry about a region counts. The first half has the odd generations.
 *
 * Reading a half: its sectors in order, as far as they are valid. A sector behind them is what a
 * batch that was never synced has left out; nobody has relied on it. It has to be zeroes or a valid
 * sector of an older generation, and no sector behind it may be of a later batch: otherwise the
 * journal is damaged, and what it would have said is not known. A half counts from the moment its
 * snapshot is whole; of two, the one with the higher generation.
 */
#ifndef COMMON_STATE_JOURNAL_FORMAT_H
#define COMMON_STATE_JOURNAL_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define JOURNAL_SECTOR       512u
#define JOURNAL_HALF         (2u << 20) /* bytes */
#define JOURNAL_SECTORS      (JOURNAL_HALF / JOURNAL_SECTOR)
#define JOURNAL_REGION_SHIFT 22                  /* a region is 4 MiB of a disk */
#define JOURNAL_REGIONS      (UINT64_C(1) << 41) /* of the largest disk: 2^63 bytes */
#define JOURNAL_NEW_NAME     "intent.new" /* a journal that is being made, or a rest of one */

/* Regions [first, first + count) of a disk are open, or closed, from here on. */
struct journal_entry {
    int64_t disk;   /* catalogue_disk.id */
    uint64_t first; /* in regions */
    uint64_t count; /* not 0 */
    bool open;
};

/* What is beside the entries. */
struct journal_sector {
    uint64_t folder;     /* the first 8 bytes of the folder's UUID, as a number */
    uint64_t generation; /* from 1 */
    uint32_t number;     /* of the sector in its half, from 0 */
    uint32_t batch;      /* the number of its batch's first sector */
    uint32_t snapshot;   /* sectors that the snapshot has: it is whole when all of them are there */
    unsigned n;
};

/* Most entries of a sector. */
#define JOURNAL_CAPACITY 19u
/* Sectors for n entries; at least 1. */
unsigned journal_sectors_for(size_t n);
/* Write a sector of s->n entries. */
void journal_sector_encode(uint8_t sector[static JOURNAL_SECTOR], const struct journal_sector *s,
                           const struct journal_entry *entries);
enum journal_kind { JOURNAL_VALID, JOURNAL_ZEROES, JOURNAL_DAMAGED };
/* Read one; `entries` has room for JOURNAL_CAPACITY. */
enum journal_kind journal_sector_decode(const uint8_t sector[static JOURNAL_SECTOR],
                                        struct journal_sector *s, struct journal_entry *entries);

#endif
