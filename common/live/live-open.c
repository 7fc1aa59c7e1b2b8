/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening and closing a live image: the chain is opened (q2-open.c), its files become layers, and
 * the parts of a writable image are begun in the order in which they need each other. At the
 * end, or where one of them fails, they are taken down the other way round.
 *
 * L1 tables are in memory once: layers take those of the chain, which cannot be read any more by a q2_reader.
 */
#include "common/live/live-commit.h"
#include "common/live/live-compressed.h"
#include "common/live/live-header.h"
#include "common/live/live-ops.h"
#include "common/live/live-policy.h"
#include "common/live/live-reserve.h"
#include "common/live/live-slices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define TABLE_MEMORY ((size_t)64 << 20) /* bytes of L2 tables of all layers */
#define PREFERRED    4096               /* bytes of a page */

/* ---- layers ---- */

static void set_file(struct live_file *f, const struct q2_file *opened,
                     const struct live_file_ops *ops, bool writable)
{
    f->ops = ops ? ops : &live_file_usual;
    f->path = opened->path;
    f->fd = opened->fd;
    f->writable = writable;
    f->device = opened->device;
    f->size = opened->size;
}

static void set_layer(struct live_layer *l, struct live_image *image, struct q2_image *opened)
{
    const struct live_file_ops *ops = image->options.ops;

    l->image = image;
    l->opened = opened;
    l->raw = opened->raw;
    l->writable = l->depth == 0 && image->options.writable;
    l->size = opened->size;
    set_file(&l->file, &opened->file, ops, l->writable);
    set_file(&l->data, &opened->data, ops, l->writable);
    if (l->raw)
        return;
    l->geometry = opened->geometry;
    l->cluster = UINT64_C(1) << l->geometry.cluster_bits;
    l->l1 = (_Atomic uint64_t *)opened->l1;
    l->l1_entries = l->l1_room = opened->l1_entries;
    l->l1_offset = opened->l1_offset;
    opened->l1 = NULL;
}

static int set_layers(struct live_image *image, struct q2_error *err)
{
    unsigned i = 0;

    for (struct q2_image *q = image->chain; q; q = q->backing)
        image->n_layers++;
    image->layers = calloc(image->n_layers, sizeof(*image->layers));
    if (!image->layers)
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s'", q2_image_path(image->chain));
    image->top = image->layers;
    for (struct q2_image *q = image->chain; q; q = q->backing, i++) {
        image->layers[i].depth = i;
        if (i)
            image->layers[i - 1].backing = &image->layers[i];
        set_layer(&image->layers[i], image, q);
    }
    return 0;
}

/* ---- memory of tables ---- */

/* Bytes of all L2 tables that a layer can have. */
static size_t most_tables(const struct live_layer *l)
{
    uint64_t n = 0;

    if (l->writable)
        return SIZE_MAX;
    for (uint64_t i = 0; i < l->l1_entries; i++)
        n += l->l1[i] != 0;
    return n > SIZE_MAX >> l->geometry.cluster_bits ? SIZE_MAX : n << l->geometry.cluster_bits;
}

/* Share `memory` out: who can have fewer tables than his share leaves the rest to the others. */
static size_t find_share(const size_t *most, unsigned n, size_t memory)
{
    size_t share = memory / n;

    for (unsigned round = 0; round < n; round++) {
        unsigned hungry = 0;
        size_t used = 0;

        for (unsigned i = 0; i < n; i++) {
            used += most[i] < share ? most[i] : share;
            hungry += most[i] > share;
        }
        if (!hungry || memory - used < hungry)
            break;
        share += (memory - used) / hungry;
    }
    return share;
}

static int init_tables(struct live_image *image, struct q2_error *err)
{
    size_t memory = image->options.table_memory, *most = calloc(image->n_layers, sizeof(*most));
    size_t share;
    int r = most ? 0 : -ENOMEM;

    for (unsigned i = 0; r == 0 && i < image->n_layers; i++)
        most[i] = most_tables(&image->layers[i]);
    share = r == 0 ? find_share(most, image->n_layers, memory ? memory : TABLE_MEMORY) : 0;
    for (unsigned i = 0; r == 0 && i < image->n_layers; i++) {
        struct live_layer *l = &image->layers[i];

        if (l->raw)
            continue;
        r = live_slices_init(l, most[i] < share ? most[i] : share);
        if (r == 0)
            r = live_compressed_init(l);
    }
    free(most);
    return r < 0 ? q2_fail_errno(err, -r, "Cannot open '%s'", q2_image_path(image->chain)) : 0;
}

/* ---- the parts of a writable image ---- */

static int begin_writing(struct live_image *image, struct q2_error *err)
{
    int r;

    if (!image->options.writable)
        return 0;
    if (live_header_begin(image, err) < 0 || live_reserve_init(image, err) < 0)
        return -1;
    r = live_commit_init(image);
    if (r == 0)
        r = live_ranges_init(image);
    if (r < 0)
        return q2_fail_errno(err, -r, "Cannot open '%s'", q2_image_path(image->chain));
    if (live_header_clear_unknown(image, err) < 0)
        return -1;
    image->begun = true;
    return 0;
}

/* Make all durable, and give back what was not used. */
static int end_writing(struct live_image *image, struct q2_error *err)
{
    const char *path = q2_image_path(image->chain);
    int r = live_commit(image);

    if (r < 0)
        return q2_fail_errno(err, -r, "What was written to '%s' last is not durable", path);
    r = live_reserve_return(image);
    if (r < 0)
        return q2_fail_errno(err, -r, "'%s' is durable, but could not be made shorter", path);
    return 0;
}

/* Take down what there is, of an image that is open or was being opened. Nothing is written. */
static void clear(struct live_image *image)
{
    live_ranges_clear(image);
    live_commit_clear(image);
    live_reserve_clear(image);
    live_header_end(image);
    for (unsigned i = 0; image->layers && i < image->n_layers; i++) {
        struct live_layer *l = &image->layers[i];

        live_compressed_clear(l);
        live_slices_clear(l);
        live_slices_free_l1(l);
    }
    free(image->layers);
    q2_image_close(image->chain);
    free(image);
}

/* ---- opening and closing ---- */

static int open_chain(struct live_image *image, const char *path, struct q2_error *err)
{
    struct q2_open_options *o = &image->options.open;

    o->writable = image->options.writable;
    o->locking = image->options.locking;
    o->tell = image->options.tell;
    o->opaque = image->options.opaque;
    if (!o->files)
        o->files = LIVE_CHAIN_MOST;
    image->chain = q2_image_open_with(path, o, err);
    /* What it points to is the caller's. */
    memset(o, 0, sizeof(*o));
    return image->chain ? live_policy_check(image->chain, image->options.writable, err) : -1;
}

struct live_image *live_open(const char *path, const struct live_options *options,
                             struct q2_error *err)
{
    struct live_image *image = calloc(1, sizeof(*image));

    if (!image) {
        q2_fail_errno(err, ENOMEM, "Cannot open '%s'", path);
        return NULL;
    }
    image->options = *options;
    if (open_chain(image, path, err) == 0 && set_layers(image, err) == 0 &&
        init_tables(image, err) == 0 && begin_writing(image, err) == 0) {
        live_policy_tell(image);
        return image;
    }
    clear(image);
    return NULL;
}

int live_start(struct live_image *image, struct q2_error *err)
{
    int r;

    if (!image->begun)
        return 0;
    r = live_worker_start(image);
    return r < 0 ? q2_fail_errno(err, -r, "Cannot start a thread for '%s'",
                                 q2_image_path(image->chain))
                 : 0;
}

int live_close(struct live_image *image, struct q2_error *err)
{
    int r = 0;

    if (!image)
        return 0;
    live_worker_stop(image);
    if (image->begun)
        r = end_writing(image, err);
    clear(image);
    return r;
}

/* ---- what it is ---- */

uint64_t live_size(const struct live_image *image)
{
    return image->top->size;
}

bool live_writable(const struct live_image *image)
{
    return image->top->writable;
}

const struct q2_image *live_chain(const struct live_image *image)
{
    return image->chain;
}

int live_fd(const struct live_image *image)
{
    return image->top->file.fd;
}

uint32_t live_preferred(const struct live_image *image)
{
    const struct live_layer *top = image->top;
    uint32_t unit = top->raw ? 0 : UINT32_C(1) << q2_unit_bits(&top->geometry);

    return top->backing && unit > PREFERRED ? unit : PREFERRED;
}
