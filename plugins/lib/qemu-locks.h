/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * QEMU's image locks, so that QEMU and its tools keep off a file that is being served, and we keep
 * off a file that they use.
 *
 * Facts (from qemu-img(1), and from observing the locks of QEMU 7.2): QEMU gives each of its
 * permissions on an image a bit: consistent read 0, write 1, write unchanged 2, resize 3. A process
 * that uses permission i holds a shared OFD lock on byte 100 + i of the file. A process that denies
 * it to others holds one on byte 200 + i. To find out whether another process does, one asks with
 * F_OFD_GETLK for an exclusive lock, which nobody ever takes. OFD locks belong to the open file
 * description: they end when its last descriptor is closed, and survive a fork.
 */
#ifndef PLUGINS_LIB_QEMU_LOCKS_H
#define PLUGINS_LIB_QEMU_LOCKS_H

#include <stdbool.h>

/* Take the locks of a reader, or of a writer that resizes too; others may do nothing but read
 * meanwhile. 0, or -1 after nbdkit_error: somebody uses the image in a way that does not go with
 * that. Where the file system has no locks: 0, after a debug message. */
int qemu_locks_take(int fd, bool writable, const char *path);

#endif
