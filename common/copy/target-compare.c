/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/target-compare.h"

#include "common/copy/zeroes.h"
#include "common/util/error.h"

#include <limits.h>
#include <pthread.h>
#include <string.h>

/* So much is compared at once, bytes. */
#define PIECE (UINT32_C(1) << 20)

struct lane {
    struct q2_reader *reader;
    uint8_t *buffer; /* PIECE bytes of the image */
};

struct target_compare {
    struct copy_target base;
    uint64_t image_size;
    struct lane *lanes;
    compare_sink sink;
    void *opaque;
    pthread_mutex_t lock; /* held while the sink is called */
    gint cancelled;       /* atomic */
};

static struct target_compare *of(struct copy_target *t)
{
    return (struct target_compare *)t;
}

static int tell(struct target_compare *c, uint64_t offset, uint64_t length, GError **err)
{
    int result;

    if (length == 0)
        return 0;
    pthread_mutex_lock(&c->lock);
    result = c->sink(c->opaque, offset, length, err);
    pthread_mutex_unlock(&c->lock);
    return result;
}

/* The image's bytes, with zeroes behind its end. */
static int read_image(struct target_compare *c, struct lane *l, uint64_t offset, size_t length,
                      GError **err)
{
    size_t inside = offset < c->image_size ? MIN(length, c->image_size - offset) : 0;
    struct q2_error why;

    memset(l->buffer + inside, 0, length - inside);
    if (inside > 0 && q2_image_pread(l->reader, l->buffer, inside, offset, &why) < 0)
        return fail(err, "%s", why.text);
    return 0;
}

/* Compare at most PIECE bytes. `data`: NULL: zeroes. */
static int compare(struct target_compare *c, struct lane *l, uint64_t offset, size_t length,
                   const uint8_t *data, GError **err)
{
    size_t differing = 0; /* units that differ, up to here: bytes */

    if (read_image(c, l, offset, length, err) < 0)
        return -1;
    if (data ? memcmp(l->buffer, data, length) == 0 : all_zeroes(l->buffer, length))
        return 0;
    for (size_t done = 0; done < length;) {
        size_t n = MIN(COMPARE_UNIT, length - done);
        bool same =
            data ? memcmp(l->buffer + done, data + done, n) == 0 : all_zeroes(l->buffer + done, n);

        if (same && tell(c, offset + done - differing, differing, err) < 0)
            return -1;
        differing = same ? 0 : differing + n;
        done += n;
    }
    return tell(c, offset + length - differing, differing, err);
}

static int compare_pieces(struct copy_target *t, unsigned lane, const struct copy_piece *pieces,
                          size_t n, GError **err)
{
    struct target_compare *c = of(t);

    for (size_t i = 0; i < n; i++) {
        if (compare(c, &c->lanes[lane], pieces[i].offset, pieces[i].length, pieces[i].data, err) <
            0)
            return -1;
    }
    return 0;
}

/* What the image has as zeroes, or does not have, needs no reading. *length: of the extent, at
 * most a piece where it is to be read. */
static int is_zero_in_image(struct target_compare *c, struct lane *l, uint64_t offset,
                            uint64_t *length, bool *zero, GError **err)
{
    struct q2_extent e;
    struct q2_error why;

    *zero = offset >= c->image_size;
    if (*zero)
        return 0;
    if (q2_image_extent(l->reader, offset, MIN(*length, c->image_size - offset), UINT_MAX, &e,
                        &why) < 0)
        return fail(err, "%s", why.text);
    *zero = e.kind == Q2_ZERO || e.kind == Q2_UNALLOCATED;
    *length = *zero ? e.length : MIN(e.length, PIECE);
    return 0;
}

static int compare_zeroes(struct copy_target *t, unsigned lane, uint64_t offset, uint64_t length,
                          GError **err)
{
    struct target_compare *c = of(t);
    struct lane *l = &c->lanes[lane];

    while (length > 0) {
        uint64_t n = length;
        bool zero;

        if (g_atomic_int_get(&c->cancelled))
            return fail(err, "The comparison was cancelled");
        if (is_zero_in_image(c, l, offset, &n, &zero, err) < 0 ||
            (!zero && compare(c, l, offset, n, NULL, err) < 0))
            return -1;
        offset += n;
        length -= n;
    }
    return 0;
}

static int finish(struct copy_target *t, GError **err)
{
    (void)t, (void)err;
    return 0;
}

static void cancel(struct copy_target *t)
{
    g_atomic_int_set(&of(t)->cancelled, 1);
}

static void free_compare(struct copy_target *t)
{
    struct target_compare *c = of(t);

    for (unsigned i = 0; i < t->lanes; i++) {
        q2_reader_free(c->lanes[i].reader);
        g_free(c->lanes[i].buffer);
    }
    g_free(c->lanes);
    pthread_mutex_destroy(&c->lock);
    g_free(c);
}

struct copy_target *target_compare_new(struct q2_image *image, uint64_t size, unsigned lanes,
                                       compare_sink sink, void *opaque, GError **err)
{
    static const struct copy_target_ops ops = {.write = compare_pieces,
                                               .zero = compare_zeroes,
                                               .finish = finish,
                                               .cancel = cancel,
                                               .free = free_compare};
    struct target_compare *c = g_new0(struct target_compare, 1);
    struct q2_error why;

    c->base = (struct copy_target){
        .ops = &ops, .size = size, .lanes = lanes, .align = COMPARE_UNIT, .max_write = PIECE};
    c->image_size = q2_image_size(image);
    c->lanes = g_new0(struct lane, lanes);
    c->sink = sink;
    c->opaque = opaque;
    pthread_mutex_init(&c->lock, NULL);
    for (unsigned i = 0; i < lanes; i++) {
        c->lanes[i].buffer = g_malloc(PIECE);
        c->lanes[i].reader = q2_reader_new(image, &why);
        if (!c->lanes[i].reader) {
            fail(err, "%s", why.text);
            free_compare(&c->base);
            return NULL;
        }
    }
    return &c->base;
}
