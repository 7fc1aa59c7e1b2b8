/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How far a copy into a raw file has come, in a file beside it, TARGET.pull, so that another run can
 * go on. It says what is copied, into which file, and up to where all of that is durable; it is
 * replaced as a whole. A position that is too low costs time; one that is too high would cost data,
 * so it is only written once the data are durable, and is believed only where all else fits.
 */
#ifndef CLIENT_PULL_POSITION_H
#define CLIENT_PULL_POSITION_H

#include "common/copy/source.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* What a position is of. */
struct position {
    char *path;    /* of the file TARGET.pull */
    char *source;  /* SHA-256 of the URI, which may hold what others should not see */
    char *context; /* "": all that is allocated */
    char *dirty;   /* SHA-256 of what the context calls dirty; "" without a context */
    uint64_t size; /* of the disk */
    struct position_file {
        uint64_t device, inode; /* of the target's file */
        uint64_t born; /* nanoseconds since 1970, because inodes are used again; 0: the file
                                   system does not tell */
    } file;
    bool discards; /* what is below the position may be discarded at the source */
};

/* Of a copy of a disk of `size` bytes, of which `context` (NULL: none) says what is dirty, into the
 * file `target`. */
struct position *position_new(const char *target, const char *uri, const char *context,
                              uint64_t size);
/* Read from the source what is dirty, where there is a context: before a position is read or written. 0,
 * or -1 and *err. */
int position_see_map(struct position *p, struct copy_source *s, GError **err);
void position_free(struct position *p); /* NULL is fine */

/* Look for one that is left: *found, and *offset, which is durable in the file that p->file tells
 * then. It is an error if it is of another source, context, size or instant. 0, or -1 and
 * *err. */
int position_read(struct position *p, bool *found, uint64_t *offset, GError **err);
/* Is `target` the whole copy that a position which was read, with this offset, is of? So it is where the
 * run that made it was cut after the file had its name, and before the position was removed. */
bool position_is_named(const struct position *p, uint64_t offset, const char *target);
/* May a copy into the file `target` begin anew? Not where another run, of whatever source, has discarded
 * there what it had, which is only in its file then; nor where it cannot be read whether one has. 0, or
 * -1 and *err. */
int position_check_anew(const char *target, GError **err);
/* Set the file that it is of, the one behind fd. If one that was `found` is of another file, it is an
 * error. 0, or -1 and *err. */
int position_set_file(struct position *p, int fd, bool found, GError **err);
/* Write it, durably, rounded down to where a copy may start, which is also its end. Any thread, one at a
 * time. 0, or -1 and *err. */
int position_write(const struct position *p, uint64_t offset, GError **err);
/* Remove it, durably; it need not be there. 0, or -1 and *err. */
int position_remove(const struct position *p, GError **err);

#endif
