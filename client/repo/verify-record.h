/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What `fleecectl verify` has found last of each member: REPO/verify.json, for people and for reports.
 * Where it is missing, or is not understood, nothing has been verified. What it calls damaged is no base
 * of a backup, and is not restored unless somebody insists.
 */
#ifndef CLIENT_REPO_VERIFY_RECORD_H
#define CLIENT_REPO_VERIFY_RECORD_H

#include "client/repo/repository.h"

/* The last result of a disk of a member. */
struct verified {
    int64_t time; /* microseconds since 1970 */
    bool deep;
    GPtrArray *wrong; /* char *; none: it was good */
};

typedef struct verify_record verify_record; /* for g_autoptr */

/* Read what there is; there is always a record, perhaps an empty one. */
verify_record *verify_record_read(const struct repository *r);
void verify_record_free(verify_record *v);

/* Lent; NULL: it has not been verified. */
const struct verified *verify_record_get(const verify_record *v, const struct repo_member *m,
                                         const struct repo_disk *d);
/* Where something was wrong then: when, and with which file. The caller frees it. NULL: nothing was, or
 * it has not been verified. */
char *verify_record_fault(const verify_record *v, const struct repo_member *m,
                          const struct repo_disk *d);
/* Note a result of now. `wrong`, of char *, is copied. Where nothing is wrong, but the disk was not read,
 * what reading it has found before stands. */
void verify_record_set(verify_record *v, const struct repo_member *m, const struct repo_disk *d,
                       bool deep, const GPtrArray *wrong);
/* Write it, without what is about members that there are no more. 0, or -1 and *err. */
int verify_record_write(const verify_record *v, const struct repository *r, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(verify_record, verify_record_free)

#endif
