/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file that a stream writes, under a test's hand: pwritev, pwrite and fdatasync of a test that
 * links this are its own. One file; any thread.
 */
#ifndef TESTS_RIGS_STREAM_FILE_H
#define TESTS_RIGS_STREAM_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* Watch this file from now on; -1: none. Calls are counted from 0, none fails. */
void stream_file_watch(int fd);
/* How many calls there were. */
unsigned stream_file_calls(void);

enum stream_fault {
    FAULT_NONE,
    FAULT_FAIL,      /* the call and all behind it fail with this errno value */
    FAULT_ONCE,      /* the call alone fails */
    FAULT_CUT,       /* half of it is written; those behind it fail */
    FAULT_SHORT,     /* each call from it on writes half, and none fails */
    FAULT_INTERRUPT, /* the call alone fails, with EINTR */
};
void stream_file_fault(enum stream_fault fault, unsigned call, int error);

/* Memory from here on stands for zeroes: it is not written, but leaves a hole. NULL: none. */
void stream_file_holes(const void *from, size_t length);

/* The header was written, while what had been written before was not synced. */
bool stream_file_header_was_early(void);
/* All that was written has been synced. */
bool stream_file_all_synced(void);

#endif
