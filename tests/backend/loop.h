/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A loop device for a test alone. One call, LOOP_CONFIGURE, gives it its file and all else, or says
 * that somebody else was quicker; then the next free device is tried. (tests/lib/loop.py is the
 * same for Python.)
 *
 * Where the device has no node in /dev, one is made in the test's folder. The device ends when its
 * last descriptor is closed, so also when the test is aborted.
 */
#ifndef TESTS_BACKEND_LOOP_H
#define TESTS_BACKEND_LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct loop {
    char *path; /* of the device */
    int fd;     /* holds it */
};

/* Take a device with the data of the file `backing` and sectors of `sector` bytes. False, after
 * g_test_skip with the reason: there is none to be had here. */
bool loop_take(struct loop *l, const char *backing, uint32_t sector, bool readonly);
/* Call it when nobody has the device open any more. */
void loop_release(struct loop *l);

#endif
