/* SPDX-License-Identifier: BSD-3-Clause */
/* A folder of images for tests of qcow2, and QEMU's tools, which make them and say what is right. */
#ifndef TESTS_RIGS_QCOW2_RIG_H
#define TESTS_RIGS_QCOW2_RIG_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct qcow2_rig {
    char *folder;
};

/* False, and the test is skipped, where the tools are missing. */
bool qcow2_rig_begin(struct qcow2_rig *r);
void qcow2_rig_end(struct qcow2_rig *r); /* remove the folder */

/* The path of a file of the folder. The caller frees it. */
char *qcow2_rig_path(const struct qcow2_rig *r, const char *name);

/* Run a command of /bin/sh in the folder, and return what it prints, which the caller frees. It has
 * to end with `status`. */
char *qcow2_rig_output(const struct qcow2_rig *r, int status, const char *format, ...)
    G_GNUC_PRINTF(3, 4);
/* The same, where nobody reads it, with status 0. */
void qcow2_rig_run(const struct qcow2_rig *r, const char *format, ...) G_GNUC_PRINTF(2, 3);

/* Let qemu-io write, zero and discard `n` random ranges of a qcow2 image of `size` bytes, in multiples of
 * 512. By GLib's random numbers, whose seed the test prints. */
void qcow2_rig_fill(const struct qcow2_rig *r, const char *name, uint64_t size, unsigned n);

/* The disk in an image, as qemu-img has it. g_free. */
uint8_t *qcow2_rig_disk(const struct qcow2_rig *r, const char *name, size_t *size);
/* The bytes of a file. g_free. */
uint8_t *qcow2_rig_bytes(const struct qcow2_rig *r, const char *name, size_t *size);

/* Look at, and change, bytes of a file; numbers are big-endian. */
uint64_t qcow2_rig_get(const struct qcow2_rig *r, const char *name, uint64_t offset,
                       unsigned width);
void qcow2_rig_put(const struct qcow2_rig *r, const char *name, uint64_t offset, unsigned width,
                   uint64_t value);
/* Where the file of an image has the entry for `cluster` in its first L2 table. */
uint64_t qcow2_rig_l2(const struct qcow2_rig *r, const char *name, unsigned cluster);

#endif
