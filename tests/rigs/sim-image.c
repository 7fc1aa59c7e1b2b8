/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-image.h"
#include "tests/rigs/sim-threads.h"

#include <string.h>

struct image_backend {
    struct backend backend;
    struct sim_image *image;
    sim_changed changed;
    void *opaque;
};

static struct sim_image *image_of(struct backend_handle *h)
{
    return ((struct image_backend *)h->backend)->image;
}

static int image_open(struct backend *b, bool readonly, const struct backend_client *client,
                      struct backend_handle **handle, GError **err)
{
    struct backend_handle *h = g_new0(struct backend_handle, 1);

    *h = (struct backend_handle){
        .backend = b,
        .size = ((struct image_backend *)b)->image->size,
        .min_block = 1,
        .pref_block = SIM_BLOCK,
        .max_block = 64 << 20,
        .can_write = true,
        .can_flush = true,
        .can_trim = true,
        .can_zero = true,
        .can_multi_conn = true,
        .fd = -1,
    };
    *handle = h;
    return 0;
}

static void image_close(struct backend_handle *h)
{
    g_free(h);
}

static int image_pread(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset)
{
    for (uint32_t at = 0; at < length; at += SIM_BLOCK)
        memset((char *)buf + at, image_of(h)->blocks[(offset + at) / SIM_BLOCK],
               MIN(SIM_BLOCK, length - at));
    return 0;
}

static int change(struct backend_handle *h, uint8_t byte, uint64_t length, uint64_t offset)
{
    struct image_backend *b = (struct image_backend *)h->backend;

    b->changed(b->opaque, b->image, offset, length);
    memset(b->image->blocks + offset / SIM_BLOCK, byte, length / SIM_BLOCK);
    b->image->modified = sim_clock();
    return 0;
}

static int image_pwrite(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset,
                        uint32_t flags)
{
    return change(h, *(const uint8_t *)buf, length, offset);
}

static int image_zero(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags)
{
    return change(h, 0, length, offset);
}

static int image_flush(struct backend_handle *h)
{
    image_of(h)->flushed = image_of(h)->size;
    return 0;
}

static int image_cache(struct backend_handle *h, uint64_t length, uint64_t offset)
{
    return 0;
}

static int image_extents(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                         struct extents *extents)
{
    return extents_add(extents, length, 0);
}

static void set_size(struct sim_image *i, uint64_t size)
{
    if (size < i->size)
        memset(i->blocks + size / SIM_BLOCK, 0, (i->size - size) / SIM_BLOCK);
    i->size = size;
}

static int image_resize(struct backend_handle *h, uint64_t size, GError **err)
{
    struct sim_image *i = image_of(h);

    set_size(i, size);
    i->modified = sim_clock();
    return 0;
}

void sim_image_lose_power(struct sim_image *i, bool lose)
{
    if (lose)
        set_size(i, i->flushed);
    i->flushed = i->size;
}

static void image_free(struct backend *b)
{
    g_free(b);
}

static const struct backend_ops ops = {
    .open = image_open,
    .close = image_close,
    .pread = image_pread,
    .pwrite = image_pwrite,
    .zero = image_zero,
    .trim = image_zero,
    .flush = image_flush,
    .cache = image_cache,
    .extents = image_extents,
    .resize = image_resize,
    .free = image_free,
};

struct backend *sim_image_backend(struct sim_image *i, sim_changed changed, void *opaque)
{
    struct image_backend *b = g_new0(struct image_backend, 1);

    b->backend.ops = &ops;
    b->backend.driver = "simulated";
    b->backend.filename = "";
    b->image = i;
    b->changed = changed;
    b->opaque = opaque;
    return &b->backend;
}
