/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compressed clusters of one layer: what was decompressed last (at most 32 clusters and 16 MiB, but
 * one in any case), and contexts for as many threads as decompress at once. Two that want the same
 * cluster decompress it once.
 */
#ifndef COMMON_LIVE_LIVE_COMPRESSED_H
#define COMMON_LIVE_LIVE_COMPRESSED_H

#include "common/live/live-private.h"

/* 0 or a negative errno. */
int live_compressed_init(struct live_layer *l);
void live_compressed_clear(struct live_layer *l);

/* Read bytes [within, within + length) of the cluster that is compressed at `host` in at most
 * `bytes` bytes. 0; -EIO: it is damaged, and *why says how; or another negative errno. A cluster
 * is known in the cache by its host: once given up, that place is never used again. */
int live_compressed_read(struct live_layer *l, uint64_t host, uint32_t bytes, void *buffer,
                         size_t within, size_t length, const char **why);

#endif
