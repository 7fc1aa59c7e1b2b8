/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files of a live image on a machine that loses power: operations for live_options.ops that do what they
 * say on real files, and log it; and, made from the log, the files as they may be after a crash.
 *
 * What is on the medium after a crash at some place of the log: all that was done to a file before its last
 * sync that had ended; durable writes and extensions; and of all else any part, each 512 bytes by itself. A
 * write that made the file longer may have left its size behind and no bytes, or the other way around nothing at
 * all. What a sync that failed should have saved is never certain again. After the end of a process (and
 * not of the machine) all is there: that is one of the crashes.
 *
 * A sector is logged as the page cache has it, also where a write covers a part of it only: what was written to
 * it before goes to the medium with it.
 *
 * One storage at a time; its operations may be called by any thread, the rest by one.
 */
#ifndef TESTS_RIGS_LIVE_STORAGE_H
#define TESTS_RIGS_LIVE_STORAGE_H

#include "common/live/live-file.h"

#include <glib.h>

#define LIVE_STORAGE_SECTOR 512u
#define LIVE_STORAGE_FILES  2

extern const struct live_file_ops live_storage_ops;

enum live_what {
    LIVE_WRITE = 1 << 0,
    LIVE_DURABLE = 1 << 1, /* a durable write */
    LIVE_SYNC = 1 << 2,
    LIVE_EXTEND = 1 << 3,
    LIVE_SHORTEN = 1 << 4,
    LIVE_ZERO_RANGE = 1 << 5, /* either way */
    LIVE_READ = 1 << 6,       /* not logged; only to make it fail */
    LIVE_CHANGES = LIVE_READ - 1,
};

/* One operation of the log. */
struct live_event {
    enum live_what what;
    unsigned file;
    uint64_t offset;    /* of `bytes`, a multiple of a sector */
    size_t length;      /* a multiple of a sector */
    uint8_t *bytes;     /* as they are afterwards; NULL: zeroes */
    uint64_t end;       /* the file is at least so long afterwards; SHORTEN: its size */
    bool durable, grew; /* by itself; it made the file longer */
    bool failed;        /* SYNC: it did not sync. Others: done in part */
};

/* Bytes of a file. What lies behind `filled` is zeroes. */
struct live_content {
    uint8_t *bytes;
    size_t filled, room;
    uint64_t size;
};

/* Begin with no files. */
void live_storage_begin(void);
void live_storage_end(void);
/* A file whose operations are logged, as it is now: the first is number 0. */
void live_storage_add(const char *path);
/* Forget the log and the files; what is added next is number 0 again. */
void live_storage_forget(void);

/* How many events there are. Any thread. */
unsigned live_storage_length(void);
const struct live_event *live_storage_event(unsigned i);
/* The events from `from` on as text: one line each. g_free. */
char *live_storage_describe(unsigned from, unsigned to);

/* ---- faults ---- */

/* The operation number `nth` (from 0) of these kinds from now on fails with `error`, and all that follow of
 * them, if `from_then_on`. A write: after half of its sectors, if `half`; a durable one fails as if the medium had, if
 * `medium`, else as if the file system were full. */
struct live_fault {
    unsigned kinds;
    unsigned nth;
    int error;
    bool from_then_on, half, medium;
};
void live_storage_fault(const struct live_fault *fault); /* NULL: none */
/* Operations of these kinds since the fault was set; reads too. */
unsigned live_storage_count(void);
/* Whether the fault has happened. */
bool live_storage_failed(void);

/* ---- crashes: live-crash.c ---- */

/* What becomes of an event that is not certain. */
enum live_fate {
    LIVE_LOST,
    LIVE_DONE,
    LIVE_SIZE_ONLY, /* of what grew the file; else as LOST */
    LIVE_TORN,      /* each sector, as the seed says */
    LIVE_FIRST_HALF,
    LIVE_SECOND_HALF,
};

#define LIVE_UNCERTAIN_MAX 2048

/* Crashes after the first `at` events. Places must not descend, until the log is forgotten. Returns how many
 * events are not certain. */
unsigned live_crash_at(unsigned at);
/* The number in the log of the uncertain event number i. */
unsigned live_crash_uncertain(unsigned i);
/* Make the files as they are with these fates, a fate for each uncertain event. */
void live_crash_make(const uint8_t *fates, uint64_t seed);
/* Content of a file that was made. It stays the rig's. */
const struct live_content *live_crash_content(unsigned file);
/* A number that tells it from other states. */
uint64_t live_crash_hash(void);
/* Have the files of that state in paths, one for each: changed where they differ from what was put there
 * before by this function. They are always the same paths, and nobody else changes them. */
void live_crash_put(const char *const *paths);
void live_crash_clear(void); /* with the log */
void live_crash_end(void);   /* and with the paths */

/* ---- content ---- */

void live_content_clear(struct live_content *c);
void live_content_copy(struct live_content *to, const struct live_content *from);
void live_content_write(struct live_content *c, const uint8_t *bytes, size_t length,
                        uint64_t offset); /* NULL: zeroes. Does not look at the size. */
void live_content_read(const struct live_content *c, uint8_t *bytes, size_t length,
                       uint64_t offset);
void live_content_put(const struct live_content *c, const char *path); /* make it a file */
void live_content_resize(struct live_content *c,
                         uint64_t size); /* what is cut off becomes zeroes */

/* For live-crash.c. */
const struct live_content *live_storage_base(unsigned file); /* as it was added */

#endif
