/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The set of host clusters that hold metadata. Looked up by any thread without a lock; added to and
 * removed from by any thread, under a lock of its own, which is a leaf.
 */
#ifndef COMMON_LIVE_LIVE_METADATA_H
#define COMMON_LIVE_LIVE_METADATA_H

#include "common/live/live-private.h"

#include <pthread.h>

struct live_metadata_table;

struct live_metadata {
    pthread_mutex_t lock;
    uint64_t multiplier;                         /* of the hash; chosen by chance */
    _Atomic(struct live_metadata_table *) table; /* replaced under the lock, read without it */
};

int live_metadata_init(struct live_metadata *m); /* 0 or a negative errno */
void live_metadata_clear(struct live_metadata *m);

/* 0; 1: it was in the set; or a negative errno. */
int live_metadata_add(struct live_metadata *m, uint64_t cluster);
void live_metadata_remove(struct live_metadata *m, uint64_t cluster);
bool live_metadata_has(const struct live_metadata *m, uint64_t cluster);

/* ---- live-metadata-find.c ---- */

/* Add `clusters` clusters from `offset` on, which `what` (a part of a sentence) has. -1 and *err: one of
 * them is in the set already, is not aligned, or does not lie inside of the file. */
int live_metadata_note(struct live_metadata *m, const struct live_image *image, uint64_t offset,
                       uint64_t clusters, const char *what, struct q2_error *err);
/* Add what the header and the L1 table lead to, but for the counts. -1 and *err. */
int live_metadata_find(struct live_metadata *m, struct live_image *image, struct q2_error *err);
/* Fail with a sentence on why the image is not written to. Returns -1. */
int live_metadata_refuse(const struct live_image *image, struct q2_error *err, const char *format,
                         ...) __attribute__((format(printf, 3, 4)));

#endif
