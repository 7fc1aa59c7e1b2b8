/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The dirty bitmaps in an image, as their directory lists them: no bits are read. Source: QEMU's
 * docs/interop/qcow2.rst. Nothing in the directory is believed. One thread.
 */
#ifndef COMMON_QCOW2_Q2_BITMAPS_H
#define COMMON_QCOW2_Q2_BITMAPS_H

#include "common/qcow2/q2-file.h"
#include "common/qcow2/q2-header.h"

#include <stdint.h>

enum {
    Q2_BITMAP_IN_USE = 1 << 0, /* somebody has not stored it: its bits say nothing */
    Q2_BITMAP_AUTO = 1 << 1,   /* records what is written */
};

struct q2_bitmap {
    const char *name; /* of the list; any bytes but NUL */
    uint32_t flags;
    unsigned granularity_bits; /* 9..31 */
    uint64_t table_offset;     /* aligned, inside of the file */
    uint32_t table_entries;    /* at least 1; the table need not be inside of the file */
};

struct q2_bitmaps {
    struct q2_bitmap *at;
    uint32_t n;
};

/* Read the list; `h` is the header of the file. 0, or -1 and *err, which names the file: the
 * directory cannot be read, or breaks a rule. The list is to be cleared in any case. */
int q2_bitmaps_read(struct q2_bitmaps *list, const struct q2_file *file, const struct q2_header *h,
                    struct q2_error *err);
void q2_bitmaps_clear(struct q2_bitmaps *list);

#endif
