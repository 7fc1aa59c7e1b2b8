/* SPDX-License-Identifier: BSD-3-Clause */
/* State folders as bytes in memory, so that they can be damaged. What fails aborts. */
#ifndef TESTS_RIGS_FOLDER_IMAGE_H
#define TESTS_RIGS_FOLDER_IMAGE_H

#include <glib.h>

typedef struct folder_image {
    GPtrArray *names; /* of the files: "live", "bits/UUID" */
    GPtrArray *bytes; /* what is in them: of GByteArray */
} folder_image;

folder_image *folder_image_read(const char *path);
void folder_image_free(folder_image *i);
/* The folder `path`, which is made, becomes what the image has. */
void folder_image_write(const folder_image *i, const char *path);
/* What is in one file. */
GByteArray *folder_image_file(const folder_image *i, const char *name);

void folder_remove(const char *path); /* with all that is in it */

G_DEFINE_AUTOPTR_CLEANUP_FUNC(folder_image, folder_image_free)

#endif
