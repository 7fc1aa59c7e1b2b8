/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Reading: what lies at one place, in one file, is read at once, though several entries lead there.
 */
#include "common/live/live-compressed.h"
#include "common/live/live-find.h"
#include "common/live/live-ops.h"

#include <errno.h>
#include <string.h>

/* Data of one file that are to be read. */
struct batch {
    struct live_layer *layer;
    struct live_file *file;
    uint8_t *to;
    uint64_t host;
    size_t length; /* 0: nothing */
};

static int read_file(struct live_layer *l, struct live_file *f, void *to, size_t length,
                     uint64_t host)
{
    int error = live_file_pread(f, to, length, host);

    if (error < 0 && live_first_told(l, LIVE_TOLD_UNREADABLE))
        live_tell(l->image, "%s: cannot read %zu bytes at %llu of the file: %s", f->path, length,
                  (unsigned long long)host, strerror(-error));
    return error;
}

static int read_batch(struct batch *b)
{
    size_t length = b->length;

    b->length = 0;
    return length ? read_file(b->layer, b->file, b->to, length, b->host) : 0;
}

/* Read now what cannot wait for its neighbours. */
static int read_compressed(const struct live_found *found, void *to, uint64_t offset)
{
    struct live_layer *l = found->layer;
    const struct live_run *run = &found->run;
    const char *why = NULL;
    int error = live_compressed_read(l, run->host, run->bytes, to, offset & (l->cluster - 1),
                                     (size_t)run->length, &why);

    /* What has been given up meanwhile may have been a hole already: nothing is wrong with that. */
    if (error < 0 && why && !live_found_may_go(found) && live_first_told(l, LIVE_TOLD_COMPRESSED))
        live_tell(l->image, "%s: cannot read at %llu of the disk (at %llu of the file): %s",
                  l->file.path, (unsigned long long)offset, (unsigned long long)run->host, why);
    return error;
}

static int read_found(const struct live_found *found, void *to, uint64_t offset)
{
    const struct live_run *run = &found->run;

    if (run->kind == Q2_COMPRESSED)
        return read_compressed(found, to, offset);
    return read_file(found->layer, live_layer_data(found->layer), to, (size_t)run->length,
                     run->host);
}

/* Whether a range is still what was found. No place is used twice, so what looks the same is. */
static bool is_still(const struct live_found *found, uint64_t offset)
{
    const struct live_run *run = &found->run;
    struct live_run now;

    return live_slices_run_wait(found->layer, offset, run->length, &now) == 0 &&
           now.kind == run->kind && now.host == run->host && now.own == run->own &&
           now.length == run->length;
}

/* Take a range into the batch, having read what was in it if the range does not follow that. */
static int add_data(struct batch *b, const struct live_found *found, uint8_t *to)
{
    struct live_file *f = live_layer_data(found->layer);
    int error = 0;

    if (b->length == 0 || b->file != f || b->host + b->length != found->run.host ||
        b->to + b->length != to) {
        error = read_batch(b);
        *b = (struct batch){found->layer, f, to, found->run.host, 0};
    }
    b->length += (size_t)found->run.length;
    return error;
}

/* Read what was found, or a part of the batch. 1: it changed meanwhile, and has to be looked for
 * again. */
static int read_one(struct batch *b, const struct live_found *found, uint8_t *to, uint64_t offset)
{
    int error;

    switch (found->run.kind) {
    case Q2_INVALID:
        return live_find_invalid(found->layer, offset, found->run.why);
    case Q2_DATA:
    case Q2_COMPRESSED:
        if (found->run.kind == Q2_DATA && !live_found_may_go(found))
            return add_data(b, found, to);
        error = read_found(found, to, offset);
        return live_found_may_go(found) && !is_still(found, offset) ? 1 : error;
    default:
        memset(to, 0, (size_t)found->run.length);
        return 0;
    }
}

int live_layer_pread(struct live_layer *l, void *buffer, size_t length, uint64_t offset)
{
    struct batch b = {.length = 0};
    uint8_t *to = buffer;

    while (length > 0) {
        struct live_found found;
        int error = live_find(l, offset, length, &found);

        if (error == 0)
            error = read_one(&b, &found, to, offset);
        if (error < 0)
            return error;
        if (error == 1)
            continue;
        to += found.run.length;
        offset += found.run.length;
        length -= (size_t)found.run.length;
    }
    return read_batch(&b);
}

int live_pread(struct live_image *image, void *buffer, size_t length, uint64_t offset)
{
    return live_layer_pread(image->top, buffer, length, offset);
}

/* Up to where what was found reads as zeroes, or 0. */
static uint64_t zeroes(const struct live_found *found)
{
    const struct live_run *run = &found->run;
    uint64_t end;
    bool hole;

    if (run->kind == Q2_UNALLOCATED || run->kind == Q2_ZERO)
        return run->length;
    if (run->kind != Q2_DATA || !found->layer->raw)
        return 0;
    end = live_find_hole(&found->layer->file, run->host, run->host + run->length, &hole);
    return hole ? end - run->host : 0;
}

int live_layer_is_zero(struct live_layer *l, uint64_t length, uint64_t offset)
{
    if (!l)
        return 1;
    while (length > 0) {
        struct live_found found;
        int error = live_find(l, offset, length, &found);
        uint64_t n = error == 0 ? zeroes(&found) : 0;

        if (error < 0 || n == 0)
            return error;
        offset += n;
        length -= n;
    }
    return 1;
}
