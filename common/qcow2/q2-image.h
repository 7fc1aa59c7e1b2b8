/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading qcow2 images and the chains of their backing files: all of versions 2 and 3 that can be
 * read without a key (compressed clusters, extended L2, external data files). Nothing in an image
 * is believed: every offset is checked, memory is taken by what the file holds, not by what the
 * header says.
 *
 * An open image is not changed by reading: any thread may read it, with a reader of its own.
 */
#ifndef COMMON_QCOW2_Q2_IMAGE_H
#define COMMON_QCOW2_Q2_IMAGE_H

#include "common/qcow2/q2-entry.h"
#include "common/qcow2/q2-error.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct q2_file;
struct q2_image;  /* a file, and the chain below it */
struct q2_reader; /* what one thread needs for reading: buffers, a cache of tables */

/* Most files of a chain. */
#define Q2_CHAIN_MAX 1024

/* Which files an image may name. */
enum q2_references {
    Q2_REFERENCES_FOLDER, /* in the folder of the image that is opened, or below it */
    Q2_REFERENCES_ANY,
    Q2_REFERENCES_NONE, /* the image alone: its backing file is not opened, what is not allocated
                           is told as Q2_UNALLOCATED and reads as zeroes; an image that has its
                           data in another file is refused */
};

/*
 * Open a file and the chain below it, for reading. Names in an image are paths, relative to the
 * folder of the file that has them, never URLs; the format of a backing file must be stated, raw or
 * qcow2. Regular files and block devices only; loops are found. NULL and *err, which names the
 * file that is at fault.
 */
struct q2_image *q2_image_open(const char *path, enum q2_references references,
                               struct q2_error *err);

/* What else an image is opened by. All zeroes is what q2_image_open does. */
struct q2_open_options {
    enum q2_references references;
    /* FOLDER: further folders that files may lie in, or below; ends with NULL. NULL: none. */
    const char *const *allow;
    bool alone;    /* its backing file is not opened: as with NONE, but its data file is */
    bool writable; /* the image and its data file are opened for writing, too */
    bool locking;  /* QEMU's locks are taken on every file, before it is read; err->number is EBUSY
                      where somebody has them */
    /* What stands in for the names in the image (not in its backing files): paths as the caller sees
     * them, which may lie anywhere, whatever `references` says. NULL: as the image says. Where FOLDER holds, what this
     * backing file names lies in its own folder, or below it. `backing_format`: "raw" or "qcow2". */
    const char *backing, *backing_format, *data_file;
    /* The disk as it was in this internal snapshot: an ID, else a name. Not with `writable`. NULL: now. */
    const char *snapshot;
    unsigned files; /* the most that the chain may have; 0: Q2_CHAIN_MAX */
    /* `locking`: called, once, with a sentence about the first file that lies where there are no locks. NULL: nobody
     * is told. */
    void (*tell)(void *opaque, const char *sentence);
    void *opaque;
};
struct q2_image *q2_image_open_with(const char *path, const struct q2_open_options *options,
                                    struct q2_error *err);
/* The same of a file that has the beginning of an image only: its header and all its tables. What
 * they refer to is checked as if the file had `size` bytes; what is not there cannot be read. It may
 * name no files, as with Q2_REFERENCES_NONE. */
struct q2_image *q2_image_open_head(const char *path, uint64_t size, struct q2_error *err);
void q2_image_close(struct q2_image *image); /* NULL is fine */

uint64_t q2_image_size(const struct q2_image *image); /* of the disk: bytes */
const char *q2_image_path(const struct q2_image *image);
/* Whether the chain has this file: as an image of it, or as its data. `f` may be one of its own, which is then
 * looked for in the others. */
bool q2_image_has_file(const struct q2_image *image, const struct q2_file *f);
/* The header; NULL for a raw file at the end of a chain. */
const struct q2_header *q2_image_header(const struct q2_image *image);
/* The backing file; NULL: none, or not opened. It is the image's. */
struct q2_image *q2_image_backing(const struct q2_image *image);
/* The descriptor of the file itself, and of its data file (-1: it has none), for identity and the like.
 * They stay the image's. */
int q2_image_fd(const struct q2_image *image);
int q2_image_data_fd(const struct q2_image *image);

struct q2_reader *q2_reader_new(struct q2_image *image, struct q2_error *err);
void q2_reader_free(struct q2_reader *r); /* NULL is fine */

/* What a range is. */
struct q2_extent {
    uint64_t length;   /* bytes, at least 1 */
    enum q2_kind kind; /* UNALLOCATED: in no file of those that were asked */
    unsigned depth;    /* in which file: 0 the image itself, 1 its backing file... */
    uint64_t host;     /* Q2_DATA: where in that file */
};

/*
 * The extent at `offset`, at most `length` bytes long, looked for in the image and in `depth` files
 * below it (UINT_MAX: the whole chain). Neighbours of the same kind and depth (and with following
 * hosts) come as one where that costs nothing. A hole of a raw file is Q2_ZERO there. What an entry
 * that breaks a rule says is never told: that is an error. 0, or -1 and *err.
 *
 * Behind the end of a shorter backing file the disk reads as zeroes. Where that file itself has a
 * backing file, it hides what a longer one has there: Q2_ZERO, at its depth. Else it is unallocated.
 */
int q2_image_extent(struct q2_reader *r, uint64_t offset, uint64_t length, unsigned depth,
                    struct q2_extent *extent, struct q2_error *err);

/* Read from the image and the whole chain. The range is inside of the disk. 0, or -1 and *err, which
 * names the file and the place. */
int q2_image_pread(struct q2_reader *r, void *buffer, size_t length, uint64_t offset,
                   struct q2_error *err);

/*
 * Check the file itself (not the chain): every table, entry and count, of the disk, of internal
 * snapshots and of bitmaps, as `qemu-img check` does. *leaks counts clusters that are counted more
 * often than they are used; *corruptions counts what breaks a rule, cluster by cluster and entry by
 * entry, and the first of them is described in *err, which is empty if there is none. 0, or -1 and
 * *err where it could not be read.
 */
int q2_image_check(struct q2_image *image, uint64_t *leaks, uint64_t *corruptions,
                   struct q2_error *err);
/* The same; `watch`, which may be NULL, is called for each table. It ends the check where it returns
 * anything but 0: -1 and *err. */
int q2_image_check_watched(struct q2_image *image, int (*watch)(void *opaque), void *opaque,
                           uint64_t *leaks, uint64_t *corruptions, struct q2_error *err);

#endif
