/* SPDX-License-Identifier: BSD-3-Clause */
/* What takes room in the chain, and what reads as zeroes. */
#include "common/live/live-find.h"

#include <errno.h>
#include <fcntl.h>

/* Neighbours that are looked at for the sake of one longer extent. */
#define NEIGHBOURS 256

/* Clusters shorter than this are not asked for holes: a system call each. */
#define HOLE_MIN (64u << 10)

struct extent {
    uint64_t length;
    bool hole, zero;
};

/* Data of a file: a hole where the file has one. */
static void of_data(const struct live_found *found, struct extent *e)
{
    const struct live_run *run = &found->run;
    bool hole = false;

    /* The place of what may be given up meanwhile may be a hole by now. */
    if (found->layer->raw || (run->length >= HOLE_MIN && !live_found_may_go(found)))
        e->length = live_find_hole(live_layer_data(found->layer), run->host,
                                   run->host + run->length, &hole) -
                    run->host;
    e->hole = e->zero = hole;
}

/* The extent at `offset`: 0 or a negative errno. */
static int extent_at(struct live_image *image, uint64_t length, uint64_t offset, struct extent *e)
{
    struct live_found found;
    int error = live_find(image->top, offset, length, &found);

    if (error < 0)
        return error;
    *e = (struct extent){.length = found.run.length};
    switch (found.run.kind) {
    case Q2_INVALID:
        return live_find_invalid(found.layer, offset, found.run.why);
    case Q2_DATA:
        of_data(&found, e);
        return 0;
    case Q2_COMPRESSED:
        return 0;
    case Q2_ZERO:
        e->hole = !found.run.own && found.run.host == 0;
        e->zero = true;
        return 0;
    default:
        e->hole = e->zero = true;
        return 0;
    }
}

int live_extent(struct live_image *image, uint64_t length, uint64_t offset, uint64_t *run,
                bool *hole, bool *zero)
{
    struct extent first, next;
    int error = extent_at(image, length, offset, &first);

    if (error < 0)
        return error;
    /* What cannot be read ends the extent, and is told to who asks for it. */
    for (unsigned i = 0; i < NEIGHBOURS && first.length < length; i++) {
        if (extent_at(image, length - first.length, offset + first.length, &next) < 0 ||
            next.hole != first.hole || next.zero != first.zero)
            break;
        first.length += next.length;
    }
    *run = first.length;
    *hole = first.hole;
    *zero = first.zero;
    return 0;
}

int live_cache(struct live_image *image, uint64_t length, uint64_t offset)
{
    while (length > 0) {
        struct live_found found;
        const struct live_run *run = &found.run;
        int error = live_find(image->top, offset, length, &found);

        if (error < 0)
            return error;
        if (run->kind == Q2_INVALID)
            return live_find_invalid(found.layer, offset, run->why);
        /* Advice: nothing is lost where it is not taken. */
        if (run->kind == Q2_DATA)
            posix_fadvise(live_layer_data(found.layer)->fd, (off_t)run->host, (off_t)run->length,
                          POSIX_FADV_WILLNEED);
        else if (run->kind == Q2_COMPRESSED)
            posix_fadvise(found.layer->file.fd, (off_t)run->host, (off_t)run->bytes,
                          POSIX_FADV_WILLNEED);
        offset += run->length;
        length -= run->length;
    }
    return 0;
}
