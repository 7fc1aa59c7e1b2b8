/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A storage in memory for tests of the journal: files without mappings in one folder. It keeps what
 * is durable apart from what was written, and operations can be made to fail or to hang.
 */
#ifndef TESTS_RIGS_JOURNAL_STORAGE_H
#define TESTS_RIGS_JOURNAL_STORAGE_H

#include "common/state/storage.h"

enum memory_op {
    MEMORY_OPEN,
    MEMORY_WRITE,
    MEMORY_SYNC,
    MEMORY_RENAME,
    MEMORY_SYNC_NAMES,
    MEMORY_OPS
};

struct storage *memory_storage_new(void);

/* The operation fails so many times from now on (-1: always; 0: no more); `error` is negative. */
void memory_fail(struct storage *s, enum memory_op op, int times, int error);
/* Calls of the operation wait until memory_release. */
void memory_hold(struct storage *s, enum memory_op op);
void memory_release(struct storage *s);
/* Wait until a call waits. */
void memory_wait_held(struct storage *s);
/* Calls of the operation since the beginning. */
unsigned memory_count(struct storage *s, enum memory_op op);

/* The bytes of a file as they are now, or as it would be after a power loss: of what was not
 * synced, each sector is there or not, as `rand` wants it. NULL: there is none. g_free. */
uint8_t *memory_read(struct storage *s, const char *name, size_t *length);
uint8_t *memory_crash(struct storage *s, const char *name, GRand *rand, size_t *length);
/* Put a file there, durably. */
void memory_put(struct storage *s, const char *name, const uint8_t *bytes, size_t length);

#endif
