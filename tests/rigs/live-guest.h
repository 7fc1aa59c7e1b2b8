/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest of a live image, which knows what its disk may be: now, and after a crash. It does one thing at
 * a time, and gives each write bytes of its own.
 */
#ifndef TESTS_RIGS_LIVE_GUEST_H
#define TESTS_RIGS_LIVE_GUEST_H

#include "common/live/live.h"

#include <glib.h>

enum live_step_kind {
    LIVE_STEP_WRITE,
    LIVE_STEP_ZERO,
    LIVE_STEP_TRIM,
    LIVE_STEP_FLUSH,
    LIVE_STEP_RESIZE,     /* to length more */
    LIVE_STEP_WRITE_BACK, /* what the image's thread does now and then */
    LIVE_STEP_REOPEN,
};

struct live_step {
    enum live_step_kind kind;
    unsigned flags; /* of live.h */
    uint64_t offset, length;
};

struct live_guest {
    char *path;
    struct live_options options;       /* of the first opening and of those that follow */
    struct live_image *image;          /* NULL: it could not be opened once more */
    uint64_t size;                     /* bytes */
    uint64_t size_before, size_failed; /* as it may be after a crash, too; 0: it may not */
    uint8_t *disk;                     /* as it is now */
    GArray **sectors;                  /* of struct live_version: what each may be after a crash */
    unsigned step;
    /* Of the step that is under way: */
    uint64_t touched, touched_end;
};

/* Open an image whose disk is this. */
void live_guest_begin(struct live_guest *g, const char *path, const struct live_options *options,
                      const uint8_t *disk, uint64_t size);
/* Close the image, if it is open; 0 or -1 as live_close. What the disk may be stays known. */
int live_guest_close(struct live_guest *g);
void live_guest_end(struct live_guest *g); /* it is closed */

/* Do a step: 0, or a negative errno of what failed. What a crash may leave during the step is allowed then; what has
 * been promised by its end is not yet asked for. The disk is read, and has to be as it should. */
int live_guest_do(struct live_guest *g, const struct live_step *step);
/* The step has returned `result`, which promises something. An image that could not be closed is not opened again. */
void live_guest_done(struct live_guest *g, const struct live_step *step, int result);

/* May the disk be so after a crash? NULL, or what is wrong. g_free. */
char *live_guest_judge(const struct live_guest *g, const uint8_t *disk, uint64_t size);
/* The disk is read, in whole, through the image: an error if it is not what it should be. */
void live_guest_read(struct live_guest *g);

char *live_step_describe(const struct live_step *step); /* g_free */

#endif
