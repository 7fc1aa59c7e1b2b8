/* SPDX-License-Identifier: BSD-3-Clause */
/* Instants, and bitmaps of a disk with a fake store. */
#ifndef TESTS_RIGS_FAKE_STORE_BITMAPS_H
#define TESTS_RIGS_FAKE_STORE_BITMAPS_H

#include "tests/rigs/fake-store.h"

/* It takes effect; it fails with this message. */
void commit_instant(struct instant *i);
void assert_commit_fails(struct instant *i, const char *why);
/* `result` is -1; the error is cleared. */
void assert_refused(int result, GError **error, const char *message);

/* Add a bitmap of granularity 4096; the store forgets that it heard of it. */
void stored_add(struct fake_store *s, const char *name, bool recording, bool persistent);
/* A store with a disk and two of them: "old" records, "idle" does not, and block 0 is dirty in both. */
struct fake_store *stored_two(void);
void stored_clear(struct fake_store *s, const char *name);
/* Its bits as they are now, to be compared only. */
const struct bitmap *stored_bits_at(struct fake_store *s, const char *name);
/* why NULL: it is good and has `count` dirty bytes; else it is inconsistent for this reason. */
void assert_stored(struct fake_store *s, const char *name, uint64_t count, bool recording,
                   bool persistent, const char *why);
/* Its extents cannot be had. */
void assert_stored_no_extents(struct fake_store *s, const char *name);

#endif
