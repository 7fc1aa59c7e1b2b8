/* SPDX-License-Identifier: BSD-3-Clause */
/* How the disks of a repository are, as far as a look at their files, and the last verify, show. */
#ifndef CLIENT_REPO_MEMBER_STATUS_H
#define CLIENT_REPO_MEMBER_STATUS_H

#include "client/repo/repository.h"

typedef struct member_status member_status; /* for g_autoptr */

member_status *member_status_take(const struct repository *r);
void member_status_free(member_status *s);

/* "ok", "missing", "wrong size", "damaged", or "broken chain": a file that it stands on is not ok. */
const char *member_status_word(const member_status *s, const struct repo_disk *d);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(member_status, member_status_free)

#endif
