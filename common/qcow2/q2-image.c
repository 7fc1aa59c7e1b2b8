/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An open image. How reading is put together:
 *
 *   q2-file      a file, and the paths that an image may name
 *   q2-header-parse, q2-entry     bytes into values; pure
 *   q2-open, q2-snapshots    headers and L1 tables of the whole chain, when it is opened
 *   q2-image     this file: what is open
 *   q2-slices, q2-map     L2 tables of one file, in pieces, as they are needed: runs of one kind
 *   q2-reader, q2-extent, q2-read, q2-codec     the chain from top to bottom, and the bytes
 *   q2-check*    all tables and counts of one file
 *
 * What is open does not change: struct q2_image has no locks. All that reading changes (tables, the
 * last run of each file, compressed bytes, contexts) is in a reader, which one thread has.
 *
 * Nothing in a file is believed:
 * - Names are paths and nothing else, and are opened in one place (q2_file_open), which asks the
 *   kernel where the opened file lies, and not the name. Formats are stated, never guessed. A file
 *   is in a chain once, by device and inode.
 * - Memory follows from what a file holds: of an L1 table the pages that are not zero, of L2 tables a
 *   cache of a fixed size, of a check's counts what is used. A frame of zstd cannot ask for a window.
 * - Each entry is decoded by q2-entry, and is looked at once more when it is used: aligned, inside of the file,
 *   without bits that contradict each other. An entry that breaks a rule is an error for who reads
 *   that place, and for nobody else.
 * - A table, or the beginning of a cluster, that lies behind the end of its file is an error, where
 *   QEMU reads zeroes: a backup that was cut must not pass for one with zeroes. Only the last cluster
 *   of a file may be there in part: QEMU leaves such files.
 * - There is no recursion, and no loop without a bound by the sizes of files.
 *
 * Speed: runs are coalesced over entries and tables, and read in one pread into the caller's buffer.
 * Each file of a chain remembers its last run, so that the entries of fifty files are looked at once
 * each while the disk is read from its beginning to its end; absent tables are passed over in one step.
 */
#include "common/qcow2/q2-image.h"

#include "common/qcow2/q2-image-private.h"

#include <stdlib.h>

void q2_image_close(struct q2_image *image)
{
    while (image) {
        struct q2_image *below = image->backing;

        q2_file_close(&image->file);
        q2_file_close(&image->data);
        free(image->l1);
        free(image);
        image = below;
    }
}

/* ---- what it is ---- */

uint64_t q2_image_size(const struct q2_image *image)
{
    return image->size;
}

const char *q2_image_path(const struct q2_image *image)
{
    return image->file.path;
}

bool q2_image_has_file(const struct q2_image *image, const struct q2_file *f)
{
    for (const struct q2_image *i = image; i; i = i->backing)
        if ((f != &i->file && q2_file_same(&i->file, f)) ||
            (f != &i->data && i->data.fd >= 0 && q2_file_same(&i->data, f)))
            return true;
    return false;
}

const struct q2_header *q2_image_header(const struct q2_image *image)
{
    return image->raw ? NULL : &image->header;
}

struct q2_image *q2_image_backing(const struct q2_image *image)
{
    return image->backing;
}

int q2_image_fd(const struct q2_image *image)
{
    return image->file.fd;
}

int q2_image_data_fd(const struct q2_image *image)
{
    return image->data.fd;
}
