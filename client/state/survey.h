/* SPDX-License-Identifier: BSD-3-Clause */
/* What is in a state folder: its disks, their bitmaps with counts, and what its records say. */
#ifndef CLIENT_STATE_SURVEY_H
#define CLIENT_STATE_SURVEY_H

#include "client/state/offline.h"
#include "client/state/surveyed-record.h"
#include "common/state/bits-read.h"

struct surveyed_bitmap {
    struct catalogue_bitmap row; /* inconsistent also where its file turned out to be damaged */
    bool counted;                /* else `dirty` is not known */
    uint64_t dirty;              /* bytes */
};

typedef struct survey {
    GArray *disks;      /* of struct catalogue_disk */
    GPtrArray *bitmaps; /* of struct surveyed_bitmap, in order of creation */
    GPtrArray *records; /* of struct surveyed_record, in order of creation */
    GPtrArray *damaged; /* sentences about rows that cannot be read */
} survey;

/* The folder was recovered. NULL and *err. */
survey *survey_take(const offline *o, GError **err);
void survey_free(survey *s);

/* The bitmap of this name; NULL: the disk has none, or is not there. */
const struct surveyed_bitmap *survey_bitmap(const survey *s, const char *disk, const char *name);

/* NULL and *err, which names those that there are. */
const struct catalogue_disk *survey_find_disk(const survey *s, const char *name, GError **err);
const struct surveyed_bitmap *survey_find_bitmap(const survey *s, const struct catalogue_disk *d,
                                                 const char *name, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(survey, survey_free)

#endif
