/* SPDX-License-Identifier: BSD-3-Clause */
/* What QEMU's tools say of an image, compared with what common/qcow2 does. */
#ifndef TESTS_RIGS_QCOW2_ORACLE_H
#define TESTS_RIGS_QCOW2_ORACLE_H

#include "common/qcow2/q2-image.h"
#include "tests/rigs/qcow2-rig.h"

/* Open an image of the folder, by the name; it must succeed. */
struct q2_image *qcow2_open(const struct qcow2_rig *r, const char *name,
                            enum q2_references references);
/* It must fail, with this in its message. */
void qcow2_assert_refused(const struct qcow2_rig *r, const char *name,
                          enum q2_references references, const char *text);
/* Read, in a reader of its own; it must fail, with this in its message. */
void qcow2_assert_unreadable(const struct qcow2_rig *r, const char *name, uint64_t offset,
                             size_t length, const char *text);

/* The disk is the same as `qemu-img convert` makes of the image, in large and small reads; what kind
 * and how deep its ranges are is what `qemu-img map` says. */
void qcow2_assert_same(const struct qcow2_rig *r, const char *name);
/* The disk alone, which is these bytes. */
void qcow2_assert_disk(const struct qcow2_rig *r, const char *name, const uint8_t *disk,
                       size_t size);

/* q2_image_check and `qemu-img check` agree; the image is clean, or not. */
void qcow2_assert_clean(const struct qcow2_rig *r, const char *name);
void qcow2_assert_broken(const struct qcow2_rig *r, const char *name, uint64_t leaks,
                         uint64_t corruptions, const char *text);

#endif
