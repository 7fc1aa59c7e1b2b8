/* SPDX-License-Identifier: BSD-3-Clause */
/* Is everything in a repository as the manifest says? One thread, which uses others for reading. */
#ifndef CLIENT_REPO_VERIFY_H
#define CLIENT_REPO_VERIFY_H

#include "client/repo/repository.h"

struct verify_options {
    bool deep;        /* read all; else only what is around the data */
    unsigned threads; /* that read one file at once */
};

/* A disk of a member that has been looked at. */
struct verify_result {
    const struct repo_member *member;
    const struct repo_disk *disk;
    const struct repo_disk *broken; /* what it stands on, where that is not good; else NULL */
    GPtrArray *wrong;               /* char *: what is wrong with its own file; none: nothing */
};

struct verify_ops {
    /* So many bytes are about to be read, for all. May be NULL. */
    void (*total)(void *opaque, uint64_t bytes);
    /* So many have been read; called some times a second. 0, or -1 and *err: the end. May be NULL. */
    int (*progress)(void *opaque, uint64_t done, GError **err);
    /* A disk has been looked at; the result is lent. 0, or -1 and *err: the end. */
    int (*disk)(void *opaque, const struct verify_result *result, GError **err);
};

/* Look at all members, or at one (NULL: all) and those that it stands on. What is wrong is told, and is no
 * error. 0, or -1 and *err. */
int verify_run(const struct repository *r, const struct repo_member *only,
               const struct verify_options *options, const struct verify_ops *ops, void *opaque,
               GError **err);

#endif
