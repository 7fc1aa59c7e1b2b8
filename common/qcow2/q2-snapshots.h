/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The internal snapshots of an image, as its table of them lists them: none is opened. Source: QEMU's
 * docs/interop/qcow2.rst. Nothing in the table is believed. One thread.
 */
#ifndef COMMON_QCOW2_Q2_SNAPSHOTS_H
#define COMMON_QCOW2_Q2_SNAPSHOTS_H

#include "common/qcow2/q2-file.h"
#include "common/qcow2/q2-header.h"

#include <stdint.h>

struct q2_snapshot {
    const char *id, *name; /* of the list; any bytes but NUL */
    uint64_t l1_offset;    /* inside of the file, if l1_entries is not 0 */
    uint32_t l1_entries;   /* enough for `size` */
    uint64_t size;         /* of the disk then: bytes */
    uint64_t vm_state_size;
    uint32_t date_sec, date_nsec; /* since 1970 */
    uint64_t vm_clock_nsec;
    uint64_t icount; /* UINT64_MAX: not known */
};

struct q2_snapshots {
    struct q2_snapshot *at;
    uint32_t n;
    uint64_t bytes; /* of the table in the file */
};

/* Read the list; `h` is the header of the file. 0, or -1 and *err, which names the file: the table
 * cannot be read, or breaks a rule. The list is to be cleared in any case. */
int q2_snapshots_read(struct q2_snapshots *list, const struct q2_file *file,
                      const struct q2_header *h, struct q2_error *err);
void q2_snapshots_clear(struct q2_snapshots *list);

/* The snapshot whose ID is `name`, else the first one that has this name; NULL: none. */
const struct q2_snapshot *q2_snapshots_find(const struct q2_snapshots *list, const char *name);

#endif
