/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image of a disk, as it is now: the ground on which views and nodes stand. Each call uses the
 * quickest way that the handle offers, a file's descriptor or the backend's operation, and nothing
 * of views, bitmaps or the gate. Where the bytes lie elsewhere in files than in the image
 * (backend_handle.map), a range goes piece by piece, each in the way that it can. What changes the image is called from inside the gate (change.h).
 *
 * All take whole blocks of the image (min_block). They return 0 or a negative errno; the failure of
 * a transfer has been logged, be it by the plugin. Any thread.
 */
#ifndef DISK_IMAGE_IO_H
#define DISK_IMAGE_IO_H

#include "common/base/file-io.h"
#include "server/disk/disk-private.h"

/* Log the failure of a transfer by the descriptor, as a plugin's callback would; returns it. */
int image_read_failed(struct disk *d, uint32_t length, uint64_t offset, int error);
int image_write_failed(struct disk *d, uint32_t length, uint64_t offset, int error);

/* May data go by a descriptor, not by the backend's operations? */
static inline bool image_has_file(const struct backend_handle *h)
{
    return h->fd >= 0 || h->map;
}

/* By way of the map. */
int image_read_mapped(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset);
int image_write_mapped(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset);

static inline int image_read(struct disk *d, struct backend_handle *h, void *buf, uint32_t length,
                             uint64_t offset)
{
    if (h->fd < 0)
        return h->map ? image_read_mapped(h, buf, length, offset)
                      : h->backend->ops->pread(h, buf, length, offset);
    int error = pread_all(h->fd, buf, length, offset);
    return __builtin_expect(error < 0, 0) ? image_read_failed(d, length, offset, error) : 0;
}

/* Read what is in the page cache, without blocking. NODE_WOULD_BLOCK: a part of it is not.
 * -EAGAIN: it cannot be said. */
int image_read_now(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset);

/* The descriptor that has all of the range in one piece, which begins at *host there. -1: none has. */
int image_file_of(struct backend_handle *h, uint32_t length, uint64_t offset, uint64_t *host);

/* `flags`: BACKEND_FUA. */
static inline int image_write(struct disk *d, struct backend_handle *h, const void *buf,
                              uint32_t length, uint64_t offset, uint32_t flags)
{
    if (h->fd < 0 && h->map && !(flags & BACKEND_FUA))
        return image_write_mapped(h, buf, length, offset);
    if (h->fd < 0 || (flags & BACKEND_FUA))
        return h->backend->ops->pwrite(h, buf, length, offset, flags);
    int error = pwrite_all(h->fd, buf, length, offset);
    return __builtin_expect(error < 0, 0) ? image_write_failed(d, length, offset, error) : 0;
}

/* Zeroing and trimming. `flags` are the backend's. */
typedef int image_clear(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);
image_clear image_zero, image_trim;

/* A long range that is cleared is worked off in pieces of at most so many bytes, which begin at
 * multiples of it; and its holes, however long they are. */
#define IMAGE_PIECE VIEW_TOUCHED_UNIT

/* How much of [offset, offset + length) is a hole from `offset` on: all of the range, or up to
 * a multiple of IMAGE_PIECE, or 0. */
uint64_t image_hole_at(struct backend_handle *h, uint64_t offset, uint64_t length);

#endif
