/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-reader.h"

/* Behind the end of a file. Where that has a backing file, which may be longer, it hides what is there;
 * else there is nothing. */
static void behind_end(const struct q2_image *image, unsigned file, struct q2_extent *e)
{
    e->kind = image->over ? Q2_ZERO : Q2_UNALLOCATED;
    e->depth = file;
}

static int check_range(const struct q2_image *image, uint64_t offset, uint64_t length,
                       struct q2_error *err)
{
    if (length == 0 || offset >= image->size)
        return q2_fail(err, "There are no %llu bytes at %llu of '%s', a disk of %llu bytes",
                       (unsigned long long)length, (unsigned long long)offset, image->file.path,
                       (unsigned long long)image->size);
    return 0;
}

int q2_image_extent(struct q2_reader *r, uint64_t offset, uint64_t length, unsigned depth,
                    struct q2_extent *extent, struct q2_error *err)
{
    const struct q2_image *image = r->maps[0].image;
    struct q2_run run;
    unsigned file = 0;

    if (check_range(image, offset, length, err) < 0)
        return -1;
    *extent = (struct q2_extent){.length = length, .kind = Q2_UNALLOCATED};
    for (; image; image = image->backing, file++) {
        if (offset >= image->size) {
            behind_end(image, file, extent);
            return 0;
        }
        if (extent->length > image->size - offset)
            extent->length = image->size - offset;
        if (q2_map_run(&r->maps[file], offset, offset + extent->length, &run, err) < 0)
            return -1;
        extent->length = run.end - offset;
        extent->depth = file;
        if (run.kind != Q2_UNALLOCATED) {
            extent->kind = run.kind;
            extent->host = run.host;
            return 0;
        }
        if (file == depth)
            break;
    }
    return 0;
}
