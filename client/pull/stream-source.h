/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A qcow2 image that comes through a pipe, as `fleecectl pull -o -` sends it (qcow2-pipe.h): the map
 * first, then the data, in order. As the source of a copy that has one lane.
 */
#ifndef CLIENT_PULL_STREAM_SOURCE_H
#define CLIENT_PULL_STREAM_SOURCE_H

#include "common/copy/source.h"

/* Read the map, which is kept in a temporary file; `fd` is lent, `name` is for errors. An image that
 * has data before the end of its map, is compressed, or has a backing file, is refused, the first two
 * perhaps only while it is read. NULL and *err. */
struct copy_source *stream_source_new(int fd, const char *name, GError **err);

#endif
