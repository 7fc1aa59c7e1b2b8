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
#ifndef COMMON_BASE_QEMU_LOCKS_H
#define COMMON_BASE_QEMU_LOCKS_H

#include <stddef.h>

/* Who opens a file, and what others may do with it meanwhile. */
enum qemu_locks {
    QEMU_LOCKS_NONE, /* no locks */
    QEMU_LOCKS_READ, /* a reader; others may read */
    QEMU_LOCKS_BASE, /* a reader of a backing file; others may read, or write what is there already,
                        as QEMU does below its own overlays */
    QEMU_LOCKS_WRITE /* a writer that resizes, too; others may read, if they bear that */
};

/*
 * Take the locks, which last until the file's description is closed. 0. -1: somebody uses the file in
 * a way that does not go with that; `why` is a sentence about `path`. 1: there are no locks there (the
 * file system has none), and `why` says so.
 */
int qemu_locks_take(int fd, enum qemu_locks who, const char *path, char *why, size_t room);

#endif
