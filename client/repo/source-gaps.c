/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/source-gaps.h"

struct source_gaps {
    struct copy_source base;
    struct copy_source *inner;
    uint64_t from;
};

static struct source_gaps *self_of(struct copy_source *s)
{
    return (struct source_gaps *)s;
}

/* ---- extents ---- */

/* What passes the extents on. */
struct filler {
    copy_extent_sink sink;
    void *opaque;
    uint64_t position; /* up to here all is told, or need not be */
};

/* Tell the gap that ends here. */
static int fill(struct filler *f, uint64_t end, GError **err)
{
    struct copy_extent gap = {.offset = f->position, .length = end - f->position, .zero = true};

    if (end <= f->position)
        return 0;
    f->position = end;
    return f->sink(f->opaque, &gap, err);
}

static int pass_on(void *opaque, const struct copy_extent *extent, GError **err)
{
    struct filler *f = opaque;

    if (fill(f, extent->offset, err) < 0)
        return -1;
    f->position = MAX(f->position, extent->offset + extent->length);
    return f->sink(f->opaque, extent, err);
}

static int extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                   copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct source_gaps *g = self_of(s);
    struct filler f = {.sink = sink, .opaque = opaque, .position = MAX(offset, g->from)};

    if (g->inner->ops->extents(g->inner, lane, offset, length, pass_on, &f, end, err) < 0)
        return -1;
    return fill(&f, *end, err);
}

/* ---- the rest is the inner one's ---- */

static int read_start(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                      size_t n, GError **err)
{
    struct copy_source *inner = self_of(s)->inner;

    return inner->ops->read_start(inner, lane, pieces, n, err);
}

static int read_wait(struct copy_source *s, unsigned lane, GError **err)
{
    struct copy_source *inner = self_of(s)->inner;

    return inner->ops->read_wait(inner, lane, err);
}

static void cancel(struct copy_source *s)
{
    struct copy_source *inner = self_of(s)->inner;

    if (inner->ops->cancel)
        inner->ops->cancel(inner);
}

static void free_both(struct copy_source *s)
{
    copy_source_free(self_of(s)->inner);
    g_free(s);
}

struct copy_source *source_gaps_new(struct copy_source *inner, uint64_t from)
{
    static const struct copy_source_ops ops = {
        .extents = extents,
        .read_start = read_start,
        .read_wait = read_wait,
        .cancel = cancel,
        .free = free_both,
    };
    struct source_gaps *g = g_new0(struct source_gaps, 1);

    g->base = *inner;
    g->base.ops = &ops;
    g->inner = inner;
    g->from = from;
    return &g->base;
}
