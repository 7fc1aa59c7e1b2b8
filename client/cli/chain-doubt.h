/* SPDX-License-Identifier: BSD-3-Clause */
/* What is known to be wrong with a backup that is about to be read. */
#ifndef CLIENT_CLI_CHAIN_DOUBT_H
#define CLIENT_CLI_CHAIN_DOUBT_H

#include "client/repo/repository.h"

/* Warn on standard error where the last verify has found a file of the disk's chain damaged. */
void tell_chain_doubt(const struct repository *r, const struct repo_member *m, const char *disk);

#endif
