/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A source that tells as zeroes what another one does not tell. A file of a disk that was shorter for a
 * while hides what is below it, from its end on, without having anything there; who takes such a file
 * out of a chain has to write those zeroes.
 */
#ifndef CLIENT_REPO_SOURCE_GAPS_H
#define CLIENT_REPO_SOURCE_GAPS_H

#include "common/copy/source.h"

/* All of `inner`, and zeroes for what it does not tell from `from` on (bytes of the disk). Takes over
 * `inner`. */
struct copy_source *source_gaps_new(struct copy_source *inner, uint64_t from);

#endif
