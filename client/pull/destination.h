/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Where a person wants a disk to be copied to: a raw file, a block device, a new qcow2 file, an NBD
 * URI, or "-". Opens it with the checks that keep people from destroying something, and gives it its
 * name when it is whole. One thread.
 */
#ifndef CLIENT_PULL_DESTINATION_H
#define CLIENT_PULL_DESTINATION_H

#include "common/copy/target.h"
#include "common/qcow2/q2-header.h"

#include <stdbool.h>

enum destination_format { DESTINATION_DEFAULT, DESTINATION_RAW, DESTINATION_QCOW2 };

enum destination_kind {
    DESTINATION_STREAM, /* standard output */
    DESTINATION_NBD,
    DESTINATION_DEVICE,
    DESTINATION_IN_PLACE, /* a raw file that is there, whose changes come */
    DESTINATION_NEW,      /* a new file, raw or qcow2, which replaces the old one at its end */
};

struct destination_options {
    const char *target;             /* a path, an NBD URI, or "-" */
    enum destination_format format; /* DEFAULT: qcow2 for "-", where the name ends so, or with a
                                       base; else raw */
    const char *base; /* backing file of a new qcow2: a path as the user gave it; NULL: none */
    enum destination_format base_format; /* DEFAULT: look (client/pull/base-file.h) */
    bool changes; /* only changes come: what exists (raw file, device, NBD export) is
                     updated in place, and must be there, with the same size */
    bool force;   /* also into what is there and not empty, or larger; a raw file grows */
    bool keep;    /* a new raw file that is not committed is kept as .partial */
    bool again;   /* go on with what was kept, in place or in the .partial; else it is an error if
                     that has what was discarded at its source (client/pull/position.h) */
    bool compress;
    enum q2_compression compression;
    int level;
    bool detect_zeroes;
    unsigned lanes, connections, retry; /* as in targets.h */
    struct copy_source *source;         /* what is to be copied, for a qcow2 stream, whose map comes
                                           first; lent, and used only while it is opened */
};

struct destination;

/* The format that DEFAULT means. */
enum destination_format destination_choose_format(const struct destination_options *o);
/* How large the image of a disk of `size` bytes is to who reads it: a qcow2's has whole sectors. */
uint64_t destination_image_size(enum destination_format format, uint64_t size);
/* The path of the target's file: where it is a link to something that is there, the path of that. The
 * caller frees it. */
char *destination_path(const char *target);
bool destination_is_uri(const char *target);

/* Open it for a disk of `size` bytes. Without `force` and `changes`: a file must not exist, or be
 * empty; a device or an export must be large enough and must not hold data, as far as a look at it
 * shows. NULL and *err. */
struct destination *destination_open(const struct destination_options *o, uint64_t size,
                                     GError **err);
struct copy_target *destination_target(struct destination *d); /* the destination's */
enum destination_kind destination_kind(const struct destination *d);
/* The file, -1 for an NBD export. */
int destination_fd(const struct destination *d);
/* After the copy has ended well: give it its name. 0, or -1 and *err. */
int destination_commit(struct destination *d, GError **err);
/* Close it; what is not committed is removed, where it was new (`keep`: is kept). NULL is fine. */
void destination_free(struct destination *d);

#endif
