/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A loop device of one's own, taken in one step: LOOP_CONFIGURE gives it its file and all else, or
 * says that somebody else was quicker, and then the next free one is asked for. (tests/lib/loop.py
 * is the same for Python.)
 *
 * The device is known to the test by a node of its own in the test's folder where there is none in
 * /dev. It ends with the last descriptor of it, so also when a test is aborted.
 */
#ifndef TESTS_BACKEND_LOOP_H
#define TESTS_BACKEND_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop {
    char *path; /* of the device */
    int fd;     /* holds it */
};

/* Take one whose data are those of the file `backing`, with sectors of `sector` bytes. False, after
 * g_test_skip with the reason: there are none to be had here. */
bool loop_take(struct loop *l, const char *backing, uint32_t sector, bool readonly);
/* Nobody has it open any more. */
void loop_release(struct loop *l);

#endif
