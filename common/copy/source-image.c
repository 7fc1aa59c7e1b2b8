/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/source-image.h"

#include "common/util/error.h"

#include <errno.h>
#include <limits.h>

/* Longest read; clusters of a file that follow each other are read in one. */
#define MAX_READ (64U << 20)

/* Batches that a lane may have under way. */
#define BATCHES 2

struct batch {
    const struct copy_piece *pieces;
    size_t n;
};

struct lane {
    struct q2_reader *reader;
    struct batch batches[BATCHES]; /* the oldest first */
    unsigned n;
};

struct source_image {
    struct copy_source source;
    unsigned depth;
    struct q2_reader *map; /* for extents, one lane at a time: its runs and tables serve the next */
    struct lane *lanes;
};

static struct source_image *of(struct copy_source *s)
{
    return (struct source_image *)s;
}

static int fail_q2(GError **err, const struct q2_error *why)
{
    return fail(err, "%s", why->text);
}

/* Neighbours that are copied in the same way are told as one. */
struct teller {
    struct copy_extent next; /* length 0: none */
    copy_extent_sink sink;
    void *opaque;
};

static int tell_next(struct teller *t, GError **err)
{
    int r = t->next.length ? t->sink(t->opaque, &t->next, err) : 0;

    t->next.length = 0;
    return r;
}

static int tell(struct teller *t, uint64_t offset, uint64_t length, bool zero, GError **err)
{
    if (t->next.length && t->next.zero == zero && t->next.offset + t->next.length == offset) {
        t->next.length += length;
        return 0;
    }
    if (tell_next(t, err) < 0)
        return -1;
    t->next = (struct copy_extent){offset, length, zero};
    return 0;
}

static int source_image_extents(struct copy_source *s, unsigned lane, uint64_t offset,
                                uint64_t length, copy_extent_sink sink, void *opaque, uint64_t *end,
                                GError **err)
{
    struct source_image *i = of(s);
    struct teller t = {.sink = sink, .opaque = opaque};
    uint64_t stop = offset + length;
    struct q2_extent e;
    struct q2_error why;

    (void)lane;
    for (; offset < stop; offset += e.length) {
        bool zero;

        if (q2_image_extent(i->map, offset, stop - offset, i->depth, &e, &why) < 0)
            return fail_q2(err, &why);
        if (e.kind == Q2_UNALLOCATED && i->depth != UINT_MAX)
            continue;
        zero = e.kind == Q2_UNALLOCATED || e.kind == Q2_ZERO;
        if (tell(&t, offset, e.length, zero, err) < 0)
            return -1;
    }
    *end = stop;
    return tell_next(&t, err);
}

static int source_image_read_start(struct copy_source *s, unsigned lane,
                                   const struct copy_piece *pieces, size_t n, GError **err)
{
    struct lane *l = &of(s)->lanes[lane];

    if (l->n == BATCHES)
        return fail_errno(err, EBUSY, "Cannot read more than %d batches of an image at once",
                          BATCHES);
    l->batches[l->n++] = (struct batch){pieces, n};
    return 0;
}

static int source_image_read_wait(struct copy_source *s, unsigned lane, GError **err)
{
    struct lane *l = &of(s)->lanes[lane];
    struct batch b = l->batches[0];
    struct q2_error why;

    if (l->n == 0)
        return 0;
    l->batches[0] = l->batches[1];
    l->n--;
    for (size_t i = 0; i < b.n; i++)
        if (q2_image_pread(l->reader, b.pieces[i].data, b.pieces[i].length, b.pieces[i].offset,
                           &why) < 0)
            return fail_q2(err, &why);
    return 0;
}

static void source_image_free(struct copy_source *s)
{
    struct source_image *i = of(s);

    for (unsigned l = 0; l < s->lanes; l++)
        q2_reader_free(i->lanes[l].reader);
    q2_reader_free(i->map);
    g_free(i->lanes);
    g_free(i);
}

static const struct copy_source_ops ops = {
    .extents = source_image_extents,
    .read_start = source_image_read_start,
    .read_wait = source_image_read_wait,
    .free = source_image_free,
};

struct copy_source *source_image_new(struct q2_image *image, unsigned depth, unsigned lanes,
                                     GError **err)
{
    struct source_image *i = g_new0(struct source_image, 1);
    struct q2_error why;

    i->source = (struct copy_source){
        .ops = &ops,
        .size = q2_image_size(image),
        .lanes = MAX(lanes, 1),
        .align = 1,
        .max_read = MAX_READ,
    };
    i->depth = depth;
    i->lanes = g_new0(struct lane, i->source.lanes);
    i->map = q2_reader_new(image, &why);
    for (unsigned l = 0; i->map && l < i->source.lanes; l++) {
        i->lanes[l].reader = q2_reader_new(image, &why);
        if (!i->lanes[l].reader)
            break;
    }
    if (i->map && i->lanes[i->source.lanes - 1].reader)
        return &i->source;
    fail_q2(err, &why);
    source_image_free(&i->source);
    return NULL;
}
