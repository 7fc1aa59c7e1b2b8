/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks of copy-rig.h, and what is to come of them. */
#include "tests/rigs/copy-rig.h"

#include <poll.h>
#include <string.h>

#define MiB (UINT64_C(1) << 20)
/* What the target holds before. */
#define POISON 0xa5
/* Zeroes are looked for in blocks of it at least. */
#define ZERO_BLOCK 4096

/* ---- the disk and the model ---- */

static void make_content(struct copy_rig *r)
{
    for (uint64_t i = 0; i < r->o.size; i += ZERO_BLOCK) {
        uint64_t n = MIN(ZERO_BLOCK, r->o.size - i);

        if (g_rand_double(r->rand) * 100 < r->o.zero_content)
            continue;
        for (uint64_t k = 0; k < n; k++)
            r->disk[i + k] = (uint8_t)((i + k) * 37 + (i >> 9) + 1) | 1;
    }
}

static void make_extents(struct copy_rig *r)
{
    uint64_t offset = 0;

    while (offset < r->o.size) {
        uint64_t most = MAX(r->o.longest / r->o.grain, 1);
        uint64_t n = (1 + (uint64_t)(g_rand_double(r->rand) * (double)most)) * r->o.grain;
        struct copy_extent e = {offset, MIN(n, r->o.size - offset),
                                g_rand_double(r->rand) * 100 < r->o.zero};

        if (g_rand_double(r->rand) * 100 < r->o.told) {
            g_array_append_val(r->extents, e);
            if (e.zero)
                memset(r->disk + e.offset, 0, e.length);
        }
        offset += e.length;
    }
}

/* What comes of the block, by what its bytes are. */
static uint8_t block_kind(const uint8_t *bytes, uint64_t n)
{
    uint8_t kind = RIG_UNTOUCHED;

    for (uint64_t i = 0; i < n; i++) {
        if (bytes[i] == RIG_DATA)
            return RIG_DATA;
        if (bytes[i] == RIG_ZEROED)
            kind = RIG_ZEROED;
    }
    return kind == RIG_ZEROED && memchr(bytes, RIG_UNTOUCHED, n) ? RIG_DATA : kind;
}

static void make_model(struct copy_rig *r)
{
    uint32_t align = MAX(r->o.source_align, r->o.target_align);

    for (guint i = 0; i < r->extents->len; i++) {
        const struct copy_extent *e = &g_array_index(r->extents, struct copy_extent, i);

        if (e->offset + e->length > r->o.copy.start) {
            uint64_t from = MAX(e->offset, r->o.copy.start);

            memset(r->expected + from, e->zero ? RIG_ZEROED : RIG_DATA,
                   e->offset + e->length - from);
        }
    }
    for (uint64_t i = 0; i < r->o.size; i += align) {
        uint64_t n = MIN(align, r->o.size - i);

        memset(r->expected + i, block_kind(r->expected + i, n), n);
    }
}

/* ---- the rig ---- */

struct rig_options rig_options_usual(void)
{
    return (struct rig_options){.size = 4 * MiB + 1234,
                                .source_align = 1,
                                .target_align = 512,
                                .max_read = 1 << 20,
                                .source_lanes = 4,
                                .told = 60,
                                .zero = 30,
                                .zero_content = 10,
                                .longest = 64 << 10,
                                .grain = 1,
                                .mark = true,
                                .copy = {.memory = 512 << 10, .sync_bytes = 1, .sync_ms = 1}};
}

static uint32_t power(GRand *rand, int least, int most)
{
    return UINT32_C(1) << g_rand_int_range(rand, least, most + 1);
}

struct rig_options rig_options_random(GRand *rand)
{
    static const uint64_t longest[] = {1000, 5000, 70000, MiB, 8 * MiB};
    struct rig_options o = rig_options_usual();
    uint32_t align;

    o.source_align = power(rand, 0, 12);
    o.target_align = power(rand, 0, 16);
    align = MAX(o.source_align, o.target_align);
    o.size = (uint64_t)g_rand_int_range(rand, 0, 6 * MiB);
    if (g_rand_boolean(rand))
        o.size = o.size / align * align;
    o.max_read = power(rand, 12, 21); /* no align is longer */
    o.max_write = g_rand_boolean(rand) ? 0 : power(rand, 16, 22);
    o.source_lanes = (unsigned)g_rand_int_range(rand, 1, 7);
    o.target_lanes = g_rand_boolean(rand) ? 0 : (unsigned)g_rand_int_range(rand, 1, 7);
    o.ordered = g_rand_int_range(rand, 0, 4) == 0;
    o.short_ends = g_rand_boolean(rand);
    o.told = (unsigned)g_rand_int_range(rand, 0, 5) * 25;
    o.zero = (unsigned)g_rand_int_range(rand, 0, 5) * 25;
    o.zero_content = (unsigned)g_rand_int_range(rand, 0, 3) * 25;
    o.longest = longest[g_rand_int_range(rand, 0, G_N_ELEMENTS(longest))];
    o.grain = power(rand, 0, 14);
    o.mark = g_rand_boolean(rand);
    o.copy.lanes = (unsigned)g_rand_int_range(rand, 0, 7);
    o.copy.memory = (size_t)g_rand_int_range(rand, 1, 2 << 20);
    o.copy.detect_zeroes = g_rand_boolean(rand);
    o.copy.trim = g_rand_boolean(rand);
    if (g_rand_boolean(rand))
        o.copy.start = o.size / (2 * MiB) * (2 * MiB);
    return o;
}

struct copy_rig *rig_new(const struct rig_options *o, guint32 seed)
{
    struct copy_rig *r = g_new0(struct copy_rig, 1);
    unsigned lanes = MAX(o->source_lanes, o->target_lanes);

    r->o = *o;
    r->rand = g_rand_new_with_seed(seed);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->disk = g_malloc0(o->size + 1);
    r->extents = g_array_new(FALSE, FALSE, sizeof(struct copy_extent));
    r->expected = g_malloc0(o->size + 1);
    r->image = g_malloc(o->size + 1);
    memset(r->image, POISON, o->size);
    r->done = g_malloc0(o->size + 1);
    r->durable = g_malloc0(o->size + 1);
    r->trimmed = g_malloc0(o->size + 1);
    r->was_read = g_malloc0(o->size + 1);
    r->below = r->marked = o->copy.start;
    r->source_lanes = g_new0(struct rig_lane, lanes);
    r->target_lanes = g_new0(struct rig_lane, lanes);
    r->source = (struct copy_source){.ops = &rig_source_ops,
                                     .size = o->size,
                                     .lanes = o->source_lanes,
                                     .align = o->source_align,
                                     .max_read = o->max_read};
    r->target = (struct copy_target){.ops = &rig_target_ops,
                                     .size = o->size,
                                     .lanes = o->target_lanes,
                                     .align = o->target_align,
                                     .max_write = o->max_write,
                                     .ordered = o->ordered};
    if (o->mark)
        r->o.copy.mark = rig_mark;
    r->o.copy.opaque = r;
    make_content(r);
    make_extents(r);
    make_model(r);
    return r;
}

void rig_free(struct copy_rig *r)
{
    g_free(r->disk);
    g_array_free(r->extents, TRUE);
    g_free(r->expected);
    g_free(r->image);
    g_free(r->done);
    g_free(r->durable);
    g_free(r->trimmed);
    g_free(r->was_read);
    g_free(r->source_lanes);
    g_free(r->target_lanes);
    g_rand_free(r->rand);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    g_free(r);
}

void rig_start(struct copy_rig *r)
{
    GError *err = NULL;
    struct copy *c = copy_start(&r->source, &r->target, &r->o.copy, &err);

    g_assert_no_error(err);
    pthread_mutex_lock(&r->lock);
    r->copy = c;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

GError *rig_end(struct copy_rig *r, struct copy_progress *p)
{
    struct pollfd fd = {.fd = copy_fd(r->copy), .events = POLLIN};
    GError *err = NULL;
    int result;

    g_assert_cmpint(poll(&fd, 1, RIG_SOON_MS), ==, 1);
    result = copy_end(r->copy, p, &err);
    g_assert_cmpint(result, ==, err ? -1 : 0);
    return err;
}

void rig_check(struct copy_rig *r, const struct copy_progress *p)
{
    uint64_t read = 0, copied = 0, zeroed = 0;
    bool exact = !r->o.copy.detect_zeroes;

    for (uint64_t i = 0; i < r->o.size; i++) {
        if (r->expected[i] == RIG_UNTOUCHED) {
            g_assert_cmphex(r->image[i], ==, POISON);
            g_assert_false(r->was_read[i]);
        } else {
            g_assert_cmphex(r->image[i], ==, r->disk[i]);
            g_assert_cmpuint(r->was_read[i], ==, r->expected[i] == RIG_DATA);
        }
        if (exact || r->expected[i] != RIG_DATA)
            g_assert_cmpuint(r->done[i], ==, r->expected[i]);
        if (r->o.copy.trim)
            g_assert_cmpuint(r->trimmed[i], ==, r->done[i] != RIG_UNTOUCHED);
        read += r->was_read[i];
        copied += r->done[i] == RIG_DATA;
        zeroed += r->done[i] == RIG_ZEROED;
    }
    g_assert_true(r->finished);
    g_assert_cmpuint(r->cancels, ==, 0);
    g_assert_cmpuint(p->position, ==, r->o.size);
    g_assert_cmpuint(p->read, ==, read);
    g_assert_cmpuint(p->written, ==, copied);
    g_assert_cmpuint(p->zero, ==, zeroed);
}

void rig_check_failed(struct copy_rig *r)
{
    g_assert_cmpuint(r->under_way, ==, 0);
    g_assert_cmpint(r->finished, ==, r->end_unmarked);
    g_assert_cmpuint(r->cancels, ==, 2);
}
