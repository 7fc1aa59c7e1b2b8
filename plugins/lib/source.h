/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The file that a plugin serves, by one of these keys of its configuration:
 *   file=FILE               that file, whatever export is asked for;
 *   fd=N                    the file that descriptor N, which the server inherited, is open on;
 *   dir=FOLDER, dirfd=N     the file in that folder that has the export's name.
 *
 * A folder's files are its regular files and block devices, and symbolic links to these: whoever
 * may put a link there may as well put a file there. A name that a client gives is no path: it
 * cannot lead out of the folder.
 *
 * Configured by one thread before anything is opened, and not changed after that.
 */
#ifndef PLUGINS_LIB_SOURCE_H
#define PLUGINS_LIB_SOURCE_H

#include <stdbool.h>

enum source_kind { SOURCE_NONE, SOURCE_FILE, SOURCE_DESCRIPTOR, SOURCE_FOLDER };

struct source {
    enum source_kind kind;
    char *path; /* absolute, of the file or folder; NULL: it is `descriptor` */
    int descriptor;
};

#define SOURCE_INIT                                                                                \
    {                                                                                              \
        SOURCE_NONE, NULL, -1                                                                      \
    }

/* Take a key: 1; 0 if it is none of these; -1 after nbdkit_error. */
int source_config(struct source *s, const char *key, const char *value);
/* Does the configuration say what to serve, and can that be served? 0, or -1 after nbdkit_error. */
int source_check(const struct source *s);
void source_free(struct source *s);

/* The source's name in messages; for a folder, that of its file `name`. free() it. NULL after
 * nbdkit_error: no memory, or a name that no file of a folder can have. */
char *source_label(const struct source *s, const char *name);

/* Open the file once more. A descriptor, or -1 and errno; ENOTSUP: it is neither a regular file nor
 * a block device, and was not touched. */
int source_open(const struct source *s, const char *name, int flags);

/* Call `tell` with the name of each file of a folder, until it returns something but 0. 0, or what
 * `tell` returned, or -1 after nbdkit_error. */
int source_list(const struct source *s, int (*tell)(void *opaque, const char *name), void *opaque);

#endif
