/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Holes: making them, filling them, finding them.
 *
 * There are several ways to zero and to trim. When one turns out not to be supported by the file
 * system or device, it is not tried again, and the next one is. If none is left the answer is
 * ENOTSUP, and the server writes zeroes. No way changes the size.
 */
#include "plugins/lib/space.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <unistd.h>

/* Most extents of one answer: the server's lists take no more. */
#define MAP_MAX 131072u

static int unsupported(void)
{
    errno = ENOTSUP;
    return -1;
}

/* fallocate, unless it is known not to work. */
static int try_fallocate(struct image *im, int mode, uint32_t count, uint64_t offset,
                         atomic_bool *known_not_to_work)
{
    int r;

    if (atomic_load(known_not_to_work))
        return unsupported();
    do {
        r = fallocate(im->fd, mode, (off_t)offset, count);
    } while (r < 0 && errno == EINTR);
    if (r == 0)
        return 0;
    if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV) {
        atomic_store(known_not_to_work, true);
        return unsupported();
    }
    /* A block device that is busy with other users' pages cannot do it now. */
    if (im->block_device && (errno == EINVAL || errno == EBUSY))
        return unsupported();
    return -1;
}

static int punch(struct image *im, uint32_t count, uint64_t offset)
{
    return try_fallocate(im, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, count, offset,
                         &im->no_punch);
}

static int zero_range(struct image *im, uint32_t count, uint64_t offset)
{
    return try_fallocate(im, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, count, offset,
                         &im->no_zero_range);
}

/* For file systems that have holes but no ZERO_RANGE: make a hole, then allocate it again. Allocate
 * before that, too: it changes no data, and shows whether it can be done at all. */
static int punch_and_allocate(struct image *im, uint32_t count, uint64_t offset)
{
    if (try_fallocate(im, FALLOC_FL_KEEP_SIZE, count, offset, &im->no_allocate) < 0 ||
        punch(im, count, offset) < 0)
        return -1;
    return try_fallocate(im, FALLOC_FL_KEEP_SIZE, count, offset, &im->no_allocate);
}

/* ---- zero ---- */

static bool tried_in_vain(int r)
{
    return r < 0 && errno == ENOTSUP;
}

static int zero_file(struct image *im, uint32_t count, uint64_t offset, bool may_trim)
{
    int r = may_trim ? punch(im, count, offset) : -1;

    if (may_trim && !tried_in_vain(r))
        return r;
    r = zero_range(im, count, offset);
    if (tried_in_vain(r))
        r = punch_and_allocate(im, count, offset);
    return r;
}

/* On a device that cannot unmap, ZERO_RANGE works, too, but the kernel may write the zeroes. */
static int zero_device(struct image *im, uint32_t count, uint64_t offset, bool may_trim, bool fast)
{
    if ((offset | count) % im->sector)
        return unsupported();
    if (may_trim) {
        int r = punch(im, count, offset);
        if (!tried_in_vain(r))
            return r;
    }
    return fast ? unsupported() : zero_range(im, count, offset);
}

int image_zero(struct image *im, uint32_t count, uint64_t offset, bool may_trim, bool fast)
{
    return im->block_device ? zero_device(im, count, offset, may_trim, fast)
                            : zero_file(im, count, offset, may_trim);
}

/* ---- trim ---- */

/* Only whole sectors: trimming is advice, so the ends of the range may stay. */
static int discard(struct image *im, uint32_t count, uint64_t offset)
{
    uint64_t from = (offset + im->sector - 1) / im->sector * im->sector;
    uint64_t to = (offset + count) / im->sector * im->sector;
    uint64_t range[2] = {from, to - from};

    if (atomic_load(&im->no_discard))
        return unsupported();
    if (from >= to || ioctl(im->fd, BLKDISCARD, range) == 0)
        return 0;
    if (errno == EOPNOTSUPP || errno == ENOTTY) {
        atomic_store(&im->no_discard, true);
        return unsupported();
    }
    return -1;
}

int image_trim(struct image *im, uint32_t count, uint64_t offset)
{
    return im->block_device ? discard(im, count, offset) : punch(im, count, offset);
}

/* ---- map ---- */

bool image_knows_holes(const struct image *im)
{
    return !im->block_device && lseek(im->fd, 0, SEEK_HOLE) >= 0;
}

/* The extent at `at`; *end is behind it. `size` is the file's, and larger than `at`. While others
 * write to the file, the answer is what was true at some moment. *end is always above `at`. */
static int extent_at(struct image *im, uint64_t at, uint64_t size, uint64_t *end, bool *hole)
{
    off_t data = lseek(im->fd, (off_t)at, SEEK_DATA);

    *hole = true;
    *end = size;
    if (data < 0) /* ENXIO: no data from here to the end of the file */
        return errno == ENXIO ? 0 : -1;
    if ((uint64_t)data > at) {
        *end = (uint64_t)data;
        return 0;
    }
    off_t behind = lseek(im->fd, (off_t)at, SEEK_HOLE);
    if (behind < 0)
        return -1;
    *hole = false;
    if ((uint64_t)behind > at)
        *end = (uint64_t)behind; /* else it became a hole between the two questions: say "data" */
    return 0;
}

int image_map(struct image *im, uint32_t count, uint64_t offset, bool one,
              int (*tell)(void *opaque, uint64_t offset, uint64_t length, bool hole), void *opaque)
{
    const uint64_t limit = offset + count;
    const int64_t size = image_size(im);

    if (size < 0)
        return -1;
    /* If somebody has made the file shorter, the range that was asked for is told all the same. */
    const uint64_t end_of_file = (uint64_t)size > limit ? (uint64_t)size : limit;
    for (unsigned n = 0; offset < limit && n < MAP_MAX; n++) {
        uint64_t end;
        bool hole;

        if (extent_at(im, offset, end_of_file, &end, &hole) < 0)
            return -1;
        if (tell(opaque, offset, end - offset, hole) < 0)
            return -1;
        if (one)
            return 0;
        offset = end;
    }
    return 0;
}
