/* SPDX-License-Identifier: BSD-3-Clause */
/* What an open image is, for the files of common/qcow2 that open and read it. */
#ifndef COMMON_QCOW2_Q2_IMAGE_PRIVATE_H
#define COMMON_QCOW2_Q2_IMAGE_PRIVATE_H

#include "common/qcow2/q2-file.h"
#include "common/qcow2/q2-image.h"

/* Nothing of it changes once it is open. */
struct q2_image {
    struct q2_file file;
    struct q2_file data; /* where clusters of data lie, if that is another file; fd -1: none */
    bool raw;            /* `file` is the disk; there is no header, and no table */
    uint64_t size;       /* of the disk */
    struct q2_header header;
    struct q2_geometry geometry;
    uint64_t *l1; /* as many words as the disk needs */
    uint64_t l1_entries;
    uint64_t l1_offset; /* in the file: of the active table, or of the internal snapshot's */
    bool over;          /* it names a backing file, which may not be open */
    struct q2_image *backing;
};

/* The file that clusters of data are in. */
static inline const struct q2_file *q2_image_data(const struct q2_image *image)
{
    return image->data.fd >= 0 ? &image->data : &image->file;
}

#endif
