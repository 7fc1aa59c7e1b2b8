/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QEMU's image locks, so that QEMU and its tools keep off a file that is being served, and we keep
 * off one that they use.
 *
 * Facts (qemu-img(1) and observation of locks held by QEMU 7.2): QEMU gives each of its permissions
 * on an image a bit: consistent read 0, write 1, write unchanged 2, resize 3. Somebody who has
 * permission i open holds a shared OFD lock on byte 100 + i of the file; somebody who will not let
 * others have it holds one on byte 200 + i. Whether anybody else does is asked with F_OFD_GETLK for
 * an exclusive lock, which nobody ever takes. OFD locks belong to the open file description: they
 * end when its last descriptor is closed, and survive a fork.
 */
#ifndef PLUGINS_LIB_QEMU_LOCKS_H
#define PLUGINS_LIB_QEMU_LOCKS_H

#include <stdbool.h>

/* Take the locks of a reader or of a writer that resizes, both sharing nothing but reading. 0; -1
 * after a complaint with nbdkit_error: QEMU uses the image in a way that does not go with it. Where
 * the file system has no locks: 0, after a debug message. */
int qemu_locks_take(int fd, bool writable, const char *path);

#endif
