/* SPDX-License-Identifier: BSD-3-Clause */
/* The backing file that a new qcow2 file is made on: what it is, and by which name. One thread. */
#ifndef CLIENT_PULL_BASE_FILE_H
#define CLIENT_PULL_BASE_FILE_H

#include <glib.h>

/*
 * Look at `base`, a path as a person gave it, for a new image `image` (NULL: a stream, which has no
 * folder). `stated`: "raw", "qcow2", or NULL to find out. A guest decides what a raw disk begins
 * with, so the first bytes alone do not make a qcow2 image of it, unless its name ends so, too: it
 * is an error if name and bytes differ, and nothing is stated. It is also an error if the image
 * would replace a file of its own chain.
 *
 * *name is how the image names it: an absolute path as it was given; a relative one, which the user
 * gave from the current folder, from the image's folder (a stream: as it was given). The caller
 * frees it. *format is a constant. 0, or -1 and *err.
 */
int base_file_look(const char *base, const char *stated, const char *image, char **name,
                   const char **format, GError **err);

/* `file` as it is named from `folder`, both absolute paths without "." and "..", so that QEMU does
 * not take a part of it for a protocol. Pure. The caller frees it. */
char *base_file_relative(const char *file, const char *folder);

#endif
