/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine against a model: what comes into the target, and what it refuses to copy. */
#include "tests/rigs/copy-rig.h"

#include "common/util/error.h"

#include <string.h>

#define MiB (UINT64_C(1) << 20)
#define GiB (UINT64_C(1) << 30)

static void copy_well(const struct rig_options *o, guint32 seed)
{
    struct copy_rig *r = rig_new(o, seed);
    struct copy_progress p;
    GError *err;

    rig_start(r);
    err = rig_end(r, &p);
    g_assert_no_error(err);
    rig_check(r, &p);
    rig_free(r);
}

/* Disks, extents, alignments, lanes and options, as they come. */
static void test_random(void)
{
    const char *sanitizer = g_getenv("SANITIZER");
    unsigned runs = g_getenv("FLEECE_LONG")                     ? 3000
                    : sanitizer && strcmp(sanitizer, "no") != 0 ? 20
                                                                : 100;

    for (unsigned i = 0; i < runs; i++) {
        guint32 seed = (guint32)g_test_rand_int();
        g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
        struct rig_options o = rig_options_random(rand);

        g_test_message("seed %u", seed);
        copy_well(&o, seed);
    }
}

/* A disk of nothing; of one byte; all data; nothing to be copied; all zero. */
static void test_simple(void)
{
    static const uint64_t sizes[] = {0, 1, 511, 512, 513, 2 * MiB, 2 * MiB + 1};
    static const unsigned shares[][2] = {{100, 0}, {100, 100}, {0, 0}, {100, 50}};

    for (gsize i = 0; i < G_N_ELEMENTS(sizes); i++) {
        for (gsize k = 0; k < G_N_ELEMENTS(shares); k++) {
            struct rig_options o = rig_options_usual();

            o.size = sizes[i];
            o.told = shares[k][0];
            o.zero = shares[k][1];
            copy_well(&o, 1);
            o.ordered = true;
            copy_well(&o, 1);
        }
    }
}

/* Zero ranges that end within blocks, next to data, to nothing and to zero ranges. */
static void test_edges(void)
{
    static const struct copy_extent extents[] = {
        {100, 412, true},    /* part of a block, alone */
        {4096, 4096, true},  /* a whole one... */
        {8192, 100, true},   /* ...that goes on into the next: one of both kinds */
        {8292, 10, false},   /* */
        {12288, 1000, true}, /* several that cover a block together */
        {13288, 3096, true}, {16484, 50, false}, /* two in a block, with something between them */
        {16584, 50, false},  {20480 + 4000, 4192, true}, /* begins late: its first block is read */
        {28672, 100, false},                             /* data, then zeroes */
        {28772, 3996, true}, {32768, 1, false},          /* the last one, which is not whole */
    };
    static const uint8_t kinds[] = {RIG_DATA, RIG_ZEROED, RIG_DATA, RIG_ZEROED, RIG_DATA,
                                    RIG_DATA, RIG_ZEROED, RIG_DATA, RIG_DATA};
    struct rig_options o = rig_options_usual();

    for (unsigned early = 0; early < 2; early++) {
        struct copy_rig *r;
        struct copy_progress p;
        GError *err;

        o.size = 32768 + 77;
        o.target_align = 4096;
        o.told = 0;
        o.short_ends = early;
        r = rig_new(&o, 1);
        g_array_append_vals(r->extents, extents, G_N_ELEMENTS(extents));
        for (gsize i = 0; i < o.size; i++)
            r->expected[i] = kinds[i / 4096];
        for (gsize i = 0; i < G_N_ELEMENTS(extents); i++) {
            if (extents[i].zero)
                memset(r->disk + extents[i].offset, 0, extents[i].length);
        }
        rig_start(r);
        err = rig_end(r, &p);
        g_assert_no_error(err);
        rig_check(r, &p);
        rig_free(r);
    }
}

/* Zeroes that were read are found, as far as whole blocks go, also in the last one of the disk. */
static void test_detect(void)
{
    struct rig_options o = rig_options_usual();
    struct copy_rig *r;
    struct copy_progress p;
    GError *err;

    o.size = 10 * 4096 + 100;
    o.told = 100;
    o.zero = o.zero_content = 0;
    o.target_align = 4096;
    o.copy.detect_zeroes = true;
    for (o.ordered = false;; o.ordered = true) {
        r = rig_new(&o, 1);
        memset(r->disk + 4096, 0, 4096);
        memset(r->disk + 3 * 4096 + 1, 0, 2 * 4096 - 1);
        memset(r->disk + 9 * 4096, 0, 4096 + 100);
        rig_start(r);
        err = rig_end(r, &p);
        g_assert_no_error(err);
        rig_check(r, &p);
        g_assert_cmpuint(p.zero, ==, 4096 + 4096 + 4096 + 100);
        g_assert_cmpuint(p.read, ==, o.size);
        rig_free(r);
        if (o.ordered)
            break;
    }
}

static void refuse(struct rig_options o, uint64_t target_size, const char *why)
{
    struct copy_rig *r = rig_new(&o, 1);
    GError *err = NULL;

    r->target.size = target_size;
    g_assert_null(copy_start(&r->source, &r->target, &r->o.copy, &err));
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(err->message, why));
    g_error_free(err);
    rig_free(r);
}

static void test_refused(void)
{
    struct rig_options o = rig_options_usual();

    refuse(o, o.size - 1, "takes only");
    o.copy.start = 8 * MiB;
    refuse(o, o.size, "from 8388608 on");
    o.copy.start = 100;
    refuse(o, o.size, "from 100 on");
    o.copy.start = 0;
    o.target_align = 4 << 20;
    refuse(o, o.size, "Blocks of");
    o.target_align = 512;
    o.max_write = 256;
    refuse(o, o.size, "target's blocks");
    o.max_write = 0;
    o.source_align = 1024;
    o.max_read = 512;
    refuse(o, o.size, "source's blocks");
}

/* A source that tells what it was not asked for fails the copy, and nothing of it is believed. */
struct nonsense {
    uint64_t offset, length; /* of its second extent; the first one is of 4096 bytes at 4096 */
    uint64_t end;
};

static const struct nonsense *nonsense;

static int nonsense_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                            copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct copy_extent first = {4096, 4096, false},
                       second = {nonsense->offset, nonsense->length, false};

    (void)s, (void)lane, (void)offset, (void)length;
    *end = nonsense->end;
    return sink(opaque, &first, err) < 0 || sink(opaque, &second, err) < 0 ? -1 : 0;
}

static void test_nonsense(void)
{
    static const struct nonsense all[] = {
        {8191, 10, 65536},         /* it overlaps the first one */
        {0, 4096, 65536},          /* it goes back */
        {8192, 0, 65536},          /* it is empty */
        {65536 - 1, 2, 65536},     /* it goes beyond the question */
        {65536 + 1, 1, 65536},     /* it is beyond it */
        {8192, UINT64_MAX, 65536}, /* its end wraps */
        {8192, 10, 65537},         /* the end is beyond the question */
        {8192, 10, 0},             /* nothing was told of */
        {8192, 10, 8200},          /* more was told of than there is */
    };

    for (gsize i = 0; i < G_N_ELEMENTS(all); i++) {
        struct rig_options o = rig_options_usual();
        struct copy_source_ops ops = rig_source_ops;
        struct copy_rig *r;
        g_autoptr(GError) err = NULL;

        o.size = 65536;
        r = rig_new(&o, 1);
        nonsense = &all[i];
        ops.extents = nonsense_extents;
        r->source.ops = &ops;
        rig_start(r);
        err = rig_end(r, NULL);
        g_assert_nonnull(err);
        g_assert_cmpuint(r->calls[RIG_WRITE], ==, 0);
        rig_check_failed(r);
        rig_free(r);
    }
}

/* ---- memory ---- */

/* A disk of 32 GiB whose every second page is dirty, of which nothing is really read. */
struct virtual_disk {
    struct copy_source source;
    gint told, read, most; /* extents; atomic */
};

static int virtual_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                           copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    struct virtual_disk *v = (struct virtual_disk *)s;
    gint waiting;

    (void)lane;
    for (uint64_t o = offset; o < offset + length; o += 8192) {
        struct copy_extent e = {o, 4096, false};

        if (sink(opaque, &e, err) < 0)
            return -1;
        g_atomic_int_inc(&v->told);
    }
    waiting = g_atomic_int_get(&v->told) - g_atomic_int_get(&v->read);
    if (waiting > g_atomic_int_get(&v->most))
        g_atomic_int_set(&v->most, waiting);
    *end = offset + length;
    return 0;
}

static int virtual_start(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                         size_t n, GError **err)
{
    struct virtual_disk *v = (struct virtual_disk *)s;

    (void)lane, (void)pieces, (void)err;
    g_atomic_int_add(&v->read, (gint)n);
    return 0;
}

static int virtual_wait(struct copy_source *s, unsigned lane, GError **err)
{
    (void)s, (void)lane, (void)err;
    return 0;
}

static int take(struct copy_target *t, unsigned lane, const struct copy_piece *pieces, size_t n,
                GError **err)
{
    (void)t, (void)lane, (void)pieces, (void)n, (void)err;
    return 0;
}

static int finish(struct copy_target *t, GError **err)
{
    (void)t, (void)err;
    return 0;
}

/* What waits to be read does not grow with the disk. */
static void test_many_extents(void)
{
    static const struct copy_source_ops source_ops = {
        .extents = virtual_extents, .read_start = virtual_start, .read_wait = virtual_wait};
    static const struct copy_target_ops target_ops = {.write = take, .finish = finish};
    struct virtual_disk v = {
        .source = {.ops = &source_ops, .size = 32 * GiB, .lanes = 4, .align = 1}};
    struct copy_target t = {.ops = &target_ops, .size = 32 * GiB, .align = 4096};
    struct copy_options o = {.lanes = 4};
    struct copy_progress p;
    GError *err = NULL;
    struct copy *c = copy_start(&v.source, &t, &o, &err);

    g_assert_no_error(err);
    g_assert_cmpint(copy_end(c, &p, &err), ==, 0);
    g_assert_no_error(err);
    g_assert_cmpuint(p.read, ==, 16 * GiB);
    g_assert_cmpint(v.read, ==, 4 << 20);
    g_assert_cmpint(v.most, <, 200000);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy/simple", test_simple);
    g_test_add_func("/copy/edges", test_edges);
    g_test_add_func("/copy/detect", test_detect);
    g_test_add_func("/copy/refused", test_refused);
    g_test_add_func("/copy/nonsense", test_nonsense);
    g_test_add_func("/copy/many-extents", test_many_extents);
    g_test_add_func("/copy/random", test_random);
    return g_test_run();
}
