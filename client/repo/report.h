/* SPDX-License-Identifier: BSD-3-Clause */
/* What a report shows of a repository: gathered from its manifest, its files and the last verify. */
#ifndef CLIENT_REPO_REPORT_H
#define CLIENT_REPO_REPORT_H

#include "client/map/map.h"
#include "client/repo/member-status.h"
#include "client/repo/repository.h"
#include "client/repo/verify-record.h"

/* A disk of a member. */
struct report_row {
    const struct repo_member *member;
    const struct repo_disk *disk;
    const struct verified *verified; /* NULL: it has not been */
    const char *status;              /* as list says it */
    map *heat;                       /* what the file has of the disk; NULL: it cannot be read */
    char *why;                       /* then: why */
};

/* A disk, in all members that have it. */
struct report_disk {
    const char *name;
    uint64_t size; /* the largest that it had, bytes */
    uint64_t bytes, read;
    GPtrArray *rows; /* struct report_row *, by ID */
};

typedef struct report {
    const struct repository *r;
    GPtrArray *disks; /* struct report_disk *, by name */
    uint64_t bytes;   /* of all files */
    guint files, bad, verified, deep;
    int64_t checked; /* time of the newest result of a verify, 0: there is none */
    member_status *status;
    verify_record *record;
} report;

/* Columns of the picture of what a file has, at most. */
#define REPORT_COLUMNS 128

/* Gather it; the tables of all files are read. The repository outlives the report. */
report *report_take(const struct repository *r);
void report_free(report *p);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(report, report_free)

#endif
