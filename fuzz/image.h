/* SPDX-License-Identifier: BSD-3-Clause */
/* Image files of inputs, in a folder of this process's own, for the targets that open files. */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include "fuzz/fuzz.h"

#define FUZZ_SECTOR 512U

/* The path of the image, "i", in a folder that also has a raw file "b" of 5000 bytes and a data file
 * "d" of 64 KiB, which it may name. The folder is removed at the end of the process. */
const char *fuzz_image_path(void);
/* The path of another file of the folder. g_free. */
char *fuzz_image_file(const char *name);

/* Make the image, out of an input: its size in sectors (2 bytes), and at most `pieces`: the sector (2 bytes), a
 * length (2 bytes), and as many bytes. */
void fuzz_image_make(struct supply *s, unsigned pieces);

#endif
