/* SPDX-License-Identifier: BSD-3-Clause */
/* Verifying what is in the file of a disk, for verify.c. */
#ifndef CLIENT_REPO_VERIFY_DATA_H
#define CLIENT_REPO_VERIFY_DATA_H

#include "client/repo/repository.h"

struct verify_data {
    const struct repository *r;
    bool deep;
    unsigned threads;
    int (*progress)(void *opaque, uint64_t done, GError **err); /* may be NULL */
    void *opaque;
    uint64_t done;   /* bytes read, of the files before */
    GError *stopped; /* why progress has ended it; NULL: it has not */
};

/* The file's checksums are those of the manifest; with `deep` the file has them. 0, or -1 and *err:
 * what is wrong. Where progress has ended it, `stopped` is set beside. */
int verify_sums(struct verify_data *v, const struct repo_disk *d, GError **err);

/* The file is a sound qcow2 file, of which all that it has can be read. With `chain` it is opened together with
 * what it stands on. 0, or -1 and *err: what is wrong. Where progress has ended it, `stopped` is set
 * beside. */
int verify_image(struct verify_data *v, const struct repo_disk *d, bool chain, GError **err);

#endif
