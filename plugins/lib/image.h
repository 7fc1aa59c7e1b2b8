/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The image behind the file plugin: one open file or block device, shared by all handles that were
 * opened alike.
 *
 * One open file description for all: its locks (qemu-locks.h) are the image's, and a failed
 * fdatasync is known to every handle. All functions may be called by several threads at once.
 * Data functions return 0, or -1 with errno set and nothing said; -1 with ENOTSUP from zero and
 * trim means that the file (or file system) cannot do this and nothing was changed.
 */
#ifndef PLUGINS_LIB_IMAGE_H
#define PLUGINS_LIB_IMAGE_H

#include "plugins/lib/source.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* evict.c: what cache=none has been written and not yet been dropped. `lock` is a leaf. */
#define EVICT_WINDOWS 8
struct evict {
    pthread_mutex_t lock;
    struct evict_window {
        uint64_t offset;
        uint32_t length; /* 0: none */
    } windows[EVICT_WINDOWS];
    unsigned next; /* the oldest */
};

struct image {
    char *path;     /* what messages call it */
    int fd;         /* through the page cache */
    int direct_fd;  /* O_DIRECT; -1: not asked for */
    uint32_t align; /* of offsets, lengths and memory for direct_fd; 1 without */
    /* The smallest range that clients may ask for: `align`, or 1. It stays, whatever becomes of the
     * size: users of one image must agree on it, or they rewrite each other's neighbours. */
    uint32_t min_block;
    bool writable;
    bool block_device;
    uint32_t sector; /* block device: its logical sector, bytes */

    atomic_int sync_error; /* errno of the fdatasync that failed; 0: none did */

    /* What turned out not to be supported is not tried again. */
    atomic_bool no_punch, no_zero_range, no_allocate, no_discard, no_dsync;

    /* Direct I/O: shared by aligned requests, exclusive for unaligned ones, which go through the
     * page cache and would write stale neighbours back over aligned writes of the same page. */
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

/* Open `s`, of a folder its file `name`; `writable` is a wish where the file may only be read.
 * Complains with nbdkit_error and returns -1. */
int image_open(struct image *im, const struct source *s, const char *name, bool writable,
               const struct image_options *o);
void image_close(struct image *im);

int64_t image_size(struct image *im); /* bytes, or -1 */
int image_resize(struct image *im, uint64_t size);
bool image_rotational(const struct image *im); /* of a block device, as the kernel has it */

int image_read(struct image *im, void *buf, uint32_t count, uint64_t offset);
/* fua: persistent before it returns. */
int image_write(struct image *im, const void *buf, uint32_t count, uint64_t offset, bool fua);
int image_flush(struct image *im);
/* A sync of this image has failed, by errno: every later flush fails. Returns -1; errno stays. */
int image_note_sync_error(struct image *im);

/* evict.c, all after the transfer went well: it left that in the page cache; all is flushed. */

void evict_init(struct evict *e);
void evict_free(struct evict *e);
void evict_read(struct image *im, uint32_t count, uint64_t offset);
void evict_written(struct image *im, uint32_t count, uint64_t offset, bool on_medium);
void evict_flushed(struct image *im);

/* space.c: what is allocated. */

int image_trim(struct image *im, uint32_t count, uint64_t offset);
/* may_trim: a hole is welcome, else the range stays (or becomes) allocated. fast: only if the file
 * system or device can do it without writing the zeroes. */
int image_zero(struct image *im, uint32_t count, uint64_t offset, bool may_trim, bool fast);
/* Can holes be found? */
bool image_knows_holes(const struct image *im);
/* Tell `tell` the extents from `offset` on in order, the first one only with `one`. The last one is
 * told as long as it is, so it may reach far beyond offset + count: a hole of any size is one
 * question. `tell` returns 0 to go on. -1 if it or the image failed. */
int image_map(struct image *im, uint32_t count, uint64_t offset, bool one,
              int (*tell)(void *opaque, uint64_t offset, uint64_t length, bool hole), void *opaque);

#endif
