/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The chain of a disk of a member: its file, the file that this stands on, down to a full one; as the
 * manifest has it, and as it is.
 */
#ifndef CLIENT_REPO_CHAIN_H
#define CLIENT_REPO_CHAIN_H

#include "client/repo/repository.h"
#include "common/qcow2/q2-image.h"

/* What a file of a repository may stand on: one rule for who restores and who verifies. */
#define REPO_CHAIN_REFERENCES Q2_REFERENCES_FOLDER

/* struct repo_disk *, lent: that of the member first, the full one last. NULL and *err where the
 * manifest does not lead to a full one, or the member has no such disk. */
GPtrArray *repo_chain(const struct repository *r, const struct repo_member *m, const char *disk,
                      GError **err);

/* Open the first file of `chain`, and what it stands on, for reading. Each file is looked at
 * (client/repo/disk-file.h); what is in it is not. NULL and *err, which names the file that is at
 * fault. */
struct q2_image *repo_chain_open(const struct repository *r, const GPtrArray *chain, GError **err);

/* What the last `fleecectl verify` found of a file of the disk's chain, from the member's on: one sentence,
 * which the caller frees. NULL: nothing that is wrong. */
char *repo_chain_doubt(const struct repository *r, const struct repo_member *m, const char *disk);

/* Read the first `n` files of a chain, and compare their checksums: `threads` at once. A
 * signal (client/base/interrupt.h) ends it, too. 0, or -1 and *err. */
int repo_chain_verify(const struct repository *r, const GPtrArray *chain, guint n, unsigned threads,
                      GError **err);

#endif
