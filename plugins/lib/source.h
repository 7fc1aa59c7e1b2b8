/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the file plugin serves, as it was configured (one of):
 *   file=FILE               that file, whatever export is asked for;
 *   fd=N                    the file that descriptor N, which the server inherited, is open on;
 *   dir=FOLDER, dirfd=N     the file in that folder that has the export's name.
 *
 * A folder's files are its regular files and block devices, those behind symbolic links too: who
 * may put a link there may as well put a file there. A client's name is a name and no path: it
 * leads nowhere else.
 *
 * Configured by one thread before anything is opened, and not changed after that.
 */
#ifndef PLUGINS_LIB_SOURCE_H
#define PLUGINS_LIB_SOURCE_H

#include <stdbool.h>

enum source_kind { SOURCE_NONE, SOURCE_FILE, SOURCE_DESCRIPTOR, SOURCE_FOLDER };

struct source {
    enum source_kind kind;
    char *path; /* absolute, of the file or folder; NULL: `descriptor` is it */
    int descriptor;
};

#define SOURCE_INIT                                                                                \
    {                                                                                              \
        SOURCE_NONE, NULL, -1                                                                      \
    }

/* Take a key: 1; 0: it is none of these; -1 after nbdkit_error. */
int source_config(struct source *s, const char *key, const char *value);
/* Is it known what is to be served, and can it be? 0, or -1 after nbdkit_error. */
int source_check(const struct source *s);
void source_free(struct source *s);

/* What messages call the source, or the file `name` of a folder (else ignored). free() it; NULL
 * after nbdkit_error: no memory, or a name that no file of a folder can have. */
char *source_label(const struct source *s, const char *name);

/* Open the file anew; for a descriptor too, with an offset and flags of its own. A descriptor, or
 * -1 and errno; ENOTSUP: it is neither a regular file nor a block device, and was not touched. */
int source_open(const struct source *s, const char *name, int flags);

/* Tell `tell` the name of each file of a folder. It returns 0 to go on. 0, or -1 after nbdkit_error
 * (or tell's own). */
int source_list(const struct source *s, int (*tell)(void *opaque, const char *name), void *opaque);

#endif
