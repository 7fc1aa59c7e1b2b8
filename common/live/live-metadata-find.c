/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/cursor.h"
#include "common/live/live-metadata.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#define PIECE 65536 /* bytes of a table that are read at once */

int live_metadata_refuse(const struct live_image *image, struct q2_error *err, const char *format,
                         ...)
{
    char why[512];
    va_list args;

    va_start(args, format);
    vsnprintf(why, sizeof(why), format, args);
    va_end(args);
    return q2_fail(err,
                   "Cannot open '%s' for writing: %s. `fleecectl image check` and `qemu-img check` "
                   "tell more",
                   image->top->file.path, why);
}

int live_metadata_note(struct live_metadata *m, const struct live_image *image, uint64_t offset,
                       uint64_t clusters, const char *what, struct q2_error *err)
{
    const struct live_layer *top = image->top;
    uint64_t first = offset / top->cluster, size = top->file.size;

    if (offset % top->cluster || offset >= size || clusters > (size - 1) / top->cluster + 1 - first)
        return live_metadata_refuse(image, err, "%s is at %llu, where none can be", what,
                                    (unsigned long long)offset);
    for (uint64_t i = 0; i < clusters; i++) {
        int r = live_metadata_add(m, first + i);

        if (r < 0)
            return q2_fail_errno(err, -r, "Cannot open '%s' for writing", top->file.path);
        if (r > 0)
            return live_metadata_refuse(image, err, "%s is at %llu, where other tables are", what,
                                        (unsigned long long)offset);
    }
    return 0;
}

/* Clusters of a table of so many bytes. */
static uint64_t clusters_of(const struct live_image *image, uint64_t bytes)
{
    return (bytes + image->top->cluster - 1) / image->top->cluster;
}

/* A table that other entries may lead to, too, would have to be copied before it is written: that is
 * what an image with internal snapshots has, and those are refused. */
static int note_l2(struct live_metadata *m, struct live_image *image, uint64_t word, uint64_t index,
                   struct q2_error *err)
{
    const struct live_layer *top = image->top;
    uint64_t host = word & Q2_ENTRY_OFFSET;
    char what[64];

    if (!host)
        return 0;
    snprintf(what, sizeof(what), "the L2 table for %llu of the disk",
             (unsigned long long)(index * q2_table_span(&top->geometry)));
    if (host >= top->file.size || top->file.size - host < top->cluster)
        return live_metadata_refuse(image, err, "%s is at %llu, where none can be", what,
                                    (unsigned long long)host);
    if (!(word & Q2_ENTRY_COPIED))
        return live_metadata_refuse(image, err, "%s is shared, and there is no snapshot", what);
    return live_metadata_note(m, image, host, 1, what, err);
}

static int note_l2s(struct live_metadata *m, struct live_image *image, struct q2_error *err)
{
    uint64_t bytes = (uint64_t)image->header.l1_size * 8;
    uint8_t piece[PIECE];

    for (uint64_t at = 0; at < bytes; at += PIECE) {
        size_t length = bytes - at < PIECE ? (size_t)(bytes - at) : PIECE;
        int r = live_file_pread(&image->top->file, piece, length, image->header.l1_offset + at);

        if (r < 0)
            return q2_fail_errno(err, -r, "Cannot read the L1 table of '%s'",
                                 image->top->file.path);
        for (size_t i = 0; i < length; i += 8)
            if (note_l2(m, image, load_be64(piece + i), (at + i) / 8, err) < 0)
                return -1;
    }
    return 0;
}

int live_metadata_find(struct live_metadata *m, struct live_image *image, struct q2_error *err)
{
    const struct q2_header *h = &image->header;

    if (live_metadata_note(m, image, 0, 1, "the header", err) < 0)
        return -1;
    if (h->l1_size == 0)
        return 0;
    if (live_metadata_note(m, image, h->l1_offset, clusters_of(image, (uint64_t)h->l1_size * 8),
                           "the L1 table", err) < 0)
        return -1;
    return note_l2s(m, image, err);
}
