/* SPDX-License-Identifier: BSD-3-Clause */
/* What one thread needs for reading a chain, for the files of common/qcow2 that do it. */
#ifndef COMMON_QCOW2_Q2_READER_H
#define COMMON_QCOW2_Q2_READER_H

#include "common/qcow2/q2-codec.h"
#include "common/qcow2/q2-image.h"
#include "common/qcow2/q2-map.h"

struct q2_reader {
    unsigned files;      /* of the chain */
    struct q2_map *maps; /* one each, the image itself first */
    struct q2_codec *codec;

    /* Compressed bytes of a file, read ahead. */
    unsigned window_file;
    uint64_t window_start;
    size_t window_length, window_room;
    uint8_t *window;

    /* The cluster that was decompressed last for a request that wanted a part of it. */
    unsigned cluster_file;
    uint64_t cluster_start; /* on the disk */
    size_t cluster_length;  /* 0: none */
    size_t cluster_room;
    uint8_t *cluster;
};

#endif
