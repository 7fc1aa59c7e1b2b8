/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The bits of a bitmap in a file of a state folder, or of its memory folder (memory.h): bits/UUID.
 *
 *   0     header, 4096 bytes, never changed: magic, version, UUID, size and granularity, CRC
 *   4096  bitmap_words() words, little-endian (the host must be), padded with zeroes to 4096 bytes
 *
 * Bits in it are only ever set. A bitmap that is cleared or resized gets a new file.
 */
#ifndef COMMON_STATE_BIT_FILE_H
#define COMMON_STATE_BIT_FILE_H

#include "common/base/bitmap.h"
#include "common/state/storage.h"

struct bit_file;

#define BIT_PAGE 4096u

/* Bytes of the mapping: the words, rounded up to 4096, which is also the least. */
size_t bit_file_map_length(uint64_t size, uint32_t granularity);

/* Make one, all clean and reserved; it is not synced (bit_file_sync), and its name is not (storage's
 * sync_names). The folder for bits is made, and its name synced, where it is not there. */
struct bit_file *bit_file_create(struct storage *s, const char *uuid, uint64_t size,
                                 uint32_t granularity, GError **err);
/* Open one and check that it is what the catalogue says. *err says what is wrong: it is missing, cut
 * short, damaged, or another bitmap's. No bits are set behind the last granule. */
struct bit_file *bit_file_open(struct storage *s, const char *uuid, uint64_t size,
                               uint32_t granularity, GError **err);
void bit_file_close(struct bit_file *f); /* a mapping stays */

/* Its words, mapped: `at` (MAP_FIXED) or, with NULL, anywhere. NULL and *err. */
uint64_t *bit_file_map(struct bit_file *f, void *at, GError **err);
/* The file's descriptor (storage_dir_fd); its words begin at byte BIT_PAGE. */
int bit_file_fd(struct bit_file *f);
/* Words at byte `at` of them. All of the length, or -1 and *err. */
int bit_file_read(struct bit_file *f, void *words, size_t length, uint64_t at, GError **err);
int bit_file_write(struct bit_file *f, const void *words, size_t length, uint64_t at, GError **err);
/* Are these words clean for sure, because the file has nothing there? Costs less than reading them. */
bool bit_file_has_hole(struct bit_file *f, size_t length, uint64_t at);
/* Set in `to` what is set in `from`, a file or bits for the same size and granularity. All pages of `to`
 * that are not zero then are written, also those that had all bits before: a sync may have failed to
 * write them. *more: bytes of the disk that are dirty in `to` now, and were not. */
int bit_file_add(struct bit_file *to, struct bit_file *from, GError **err);
int bit_file_add_bits(struct bit_file *to, const struct bitmap *from, uint64_t *more, GError **err);
/* Is the file as long as it should be? -1 and *err: no. */
int bit_file_check_length(struct bit_file *f, GError **err);
/* It gets another UUID; nobody has the old name then. Only in a memory folder: a power loss between
 * would leave neither. */
int bit_file_rename(struct bit_file *f, const char *uuid, GError **err);
/* All that was written before survives a power loss. After a failure the file is given up. */
int bit_file_sync(struct bit_file *f, GError **err);
/* A CRC-32 of size, granularity and all words. Zeroes count the same however they are stored, and
 * take little time. */
int bit_file_crc(struct bit_file *f, uint32_t *crc, GError **err);
/* The same, of words that come piece by piece, in order: whole pages, at byte `at`. */
uint32_t bits_crc_begin(uint64_t size, uint32_t granularity);
uint32_t bits_crc_add(uint32_t crc, const void *words, size_t length, uint64_t at);
const char *bit_file_uuid(const struct bit_file *f);

bool bits_are_zero(const void *words, size_t length); /* length: bytes */

int bit_file_remove(struct storage *s, const char *uuid, GError **err); /* 0 if it is not there */

#endif
