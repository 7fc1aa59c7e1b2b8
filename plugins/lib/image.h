/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image behind a plugin: one open file or block device, shared by all handles that were opened
 * alike.
 *
 * All handles have one open file description: its locks (common/base/qemu-locks.h) are the image's, and every
 * handle knows of a failed fdatasync. All functions may be called by several threads at once, but
 * for opening and closing. Data functions return 0, or -1 with errno set and nothing said.
 */
#ifndef PLUGINS_LIB_IMAGE_H
#define PLUGINS_LIB_IMAGE_H

#include "plugins/lib/evict.h"
#include "plugins/lib/source.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct image {
    char *path;     /* what messages call it */
    int fd;         /* through the page cache */
    int direct_fd;  /* O_DIRECT; -1: not asked for */
    uint32_t align; /* of offsets, lengths and memory for direct_fd; 1 without */
    /* The smallest range that clients may ask for: `align`, or 1. It does not change when the size
     * does: all users of an image must have the same, or one rewrites what another has written
     * beside it. */
    uint32_t min_block;
    bool writable;
    bool block_device;
    uint32_t sector; /* block device: its logical sector, bytes */

    atomic_int sync_error; /* errno of the fdatasync that failed; 0: none did */

    /* What has turned out not to be supported is not tried again. */
    atomic_bool no_punch, no_zero_range, no_allocate, no_discard, no_dsync;

    /* Direct I/O: aligned requests share it; an unaligned one has it alone. That goes through the
     * page cache, and would write old data of the same page back over aligned writes. */
    pthread_rwlock_t direct_lock;

    bool evicts; /* cache=none, and not direct I/O, which leaves nothing behind */
    struct evict evict;
};

struct image_options {
    bool direct;
    bool lock;  /* QEMU's image locks */
    bool evict; /* cache=none */
    int advice; /* POSIX_FADV_... */
};

/* Open `s`, or if it is a folder, the file `name` in it. `writable` is a wish: where the file may
 * only be read it is opened read-only. 0, or -1 after nbdkit_error. */
int image_open(struct image *im, const struct source *s, const char *name, bool writable,
               const struct image_options *o);
void image_close(struct image *im);

int64_t image_size(struct image *im); /* bytes, or -1 */
int image_resize(struct image *im, uint64_t size);
bool image_rotational(const struct image *im); /* as the kernel knows it of a block device */

int image_read(struct image *im, void *buf, uint32_t count, uint64_t offset);
/* fua: persistent before it returns. */
int image_write(struct image *im, const void *buf, uint32_t count, uint64_t offset, bool fua);
int image_flush(struct image *im);

#endif
