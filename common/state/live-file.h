/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The files `live`: when each disk was changed last, by whom and whether a change is under way. There
 * are two of them, arrays of lines of 64 bytes.
 *
 * That of the memory folder (memory.h) is mapped while a server runs and survives the death of the
 * process. It has LIVE_LINES lines: the first is the head. Each one from LIVE_FIRST on belongs to one
 * client of one disk (whose counter nobody else writes), or to a disk itself, or is free.
 *
 * That of the state folder has a head and the lease. It is written with each new lease and synced;
 * it counts after a power loss, too.
 */
#ifndef COMMON_STATE_LIVE_FILE_H
#define COMMON_STATE_LIVE_FILE_H

#include "common/state/storage.h"

#include <stdatomic.h>

#define LIVE_MAGIC        UINT64_C(0x3165766c46444e4e)
#define LIVE_LINES        16384u /* 1 MiB; when all are taken, clients share lines */
#define LIVE_FIRST        2u     /* the first line that is neither head nor lease */
#define LIVE_LEASE        1u     /* the line of the lease */
#define LIVE_LEASE_LENGTH ((LIVE_LEASE + 1) * UINT64_C(64)) /* of the state folder's file */
#define LIVE_LEASE_NS     INT64_C(90000000000) /* a lease ends so long after it was given */

/* The first line. */
struct live_head {
    uint64_t magic;
    char boot_id[37]; /* what is in the file was written in this boot */
    uint8_t padding[3];
    _Atomic int64_t alive; /* clock, while a change is under way: see live_line */
};

/* The second line, in the state folder. The server syncs the file while it serves and before this time is over, as long
 * as the folder is in order: no change of an image that the folder can account for after a power
 * loss came later. */
struct live_lease {
    int64_t until; /* CLOCK_REALTIME, ns */
    int64_t check; /* ~until */
};

struct live_line {
    _Atomic int64_t disk;    /* catalogue_disk.id; 0: free */
    _Atomic int64_t changed; /* CLOCK_REALTIME_COARSE, ns: when a change last began or ended */
    /* Changes under way, by the phase of the cover when they began (server/state/cover.h). Two
     * clients that share a line both count here. */
    atomic_uint inside[2];
    uint8_t padding[40];
};

_Static_assert(sizeof(struct live_head) <= 64, "a line");
_Static_assert(sizeof(struct live_lease) <= 64, "a line");
_Static_assert(sizeof(struct live_line) == 64, "a line");

/* After a crash: what the lines say of a disk. */
struct live_last {
    int64_t changed; /* 0: it was not changed */
    bool under_way;  /* a change was: the image's mtime may be a little later than `changed` */
    int64_t alive;   /* the head's */
};
/* In the memory folder. False: the file is not there, is damaged, or is of another boot (`boot_id` is
 * the present one), or no line is the disk's. */
bool live_file_last(struct storage *memory, const char *boot_id, int64_t disk,
                    struct live_last *last);
/* In the state folder: the lease, of whatever boot. 0: not known. */
int64_t live_file_lease(struct storage *s);

#endif
