/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A live image of a folder in which QEMU's tools work, and a picture of its disk: what it has to be. All steps have to
 * succeed.
 */
#ifndef TESTS_RIGS_LIVE_PICTURE_H
#define TESTS_RIGS_LIVE_PICTURE_H

#include "common/live/live.h"
#include "tests/rigs/qcow2-rig.h"

struct live_picture {
    struct qcow2_rig rig;
    char *path; /* of the image, "i" */
    struct live_options options;
    struct live_image *image; /* NULL: closed */
    uint8_t *disk;
    size_t size; /* bytes */
};

/* Make the image by a command of /bin/sh, in a new folder; it is not opened yet. False, and the test is skipped, where
 * the tools are missing. */
bool live_picture_begin(struct live_picture *p, const char *format, ...) G_GNUC_PRINTF(2, 3);
void live_picture_end(struct live_picture *p);

void live_picture_open(struct live_picture *p);
/* Close. `qemu-img check` finds nothing, and qemu-img reads what the picture has. */
void live_picture_close(struct live_picture *p);
void live_picture_reopen(struct live_picture *p);

/* A write of one value; the others as in live.h. */
void live_picture_write(struct live_picture *p, uint64_t offset, size_t length, uint8_t value);
void live_picture_zero(struct live_picture *p, uint64_t offset, size_t length, unsigned flags);
/* Each byte is as it was, or zero. */
void live_picture_trim(struct live_picture *p, uint64_t offset, size_t length);
/* Read all of it, through the image. */
void live_picture_look(struct live_picture *p);

/* Bytes that the file has room for on its file system, and its length. */
uint64_t live_picture_room(const struct live_picture *p);
uint64_t live_picture_length(const struct live_picture *p);

#endif
