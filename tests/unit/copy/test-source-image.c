/* SPDX-License-Identifier: BSD-3-Clause */
/* What a source over a chain of images tells, and reads: the whole disk, or a part of the chain. */
#include "common/copy/source-image.h"
#include "tests/rigs/qcow2-oracle.h"

#include <limits.h>
#include <string.h>

#define SIZE (UINT64_C(6) << 20)

/* A disk that is put together of what a source tells. */
struct picture {
    struct copy_source *source;
    uint8_t *bytes;
    uint8_t *told; /* 0: nothing, 1: data, 2: zeroes; for each byte */
    uint64_t from, to;
    struct copy_extent last;
};

static int take(void *opaque, const struct copy_extent *e, GError **err)
{
    struct picture *p = opaque;
    struct copy_piece piece = {e->offset, e->length, p->bytes + e->offset};

    (void)err;
    g_assert_cmpuint(e->length, >, 0);
    g_assert_cmpuint(e->offset, >=, p->from);
    g_assert_cmpuint(e->offset + e->length, <=, p->to);
    /* Neighbours of one kind come as one. */
    g_assert_false(p->last.length && p->last.offset + p->last.length == e->offset &&
                   p->last.zero == e->zero);
    p->last = *e;
    p->from = e->offset + e->length;
    memset(p->told + e->offset, e->zero ? 2 : 1, e->length);
    if (e->zero)
        return 0;
    g_assert_cmpint(p->source->ops->read_start(p->source, 0, &piece, 1, NULL), ==, 0);
    g_assert_cmpint(p->source->ops->read_wait(p->source, 0, NULL), ==, 0);
    return 0;
}

/* Ask for the whole disk, in windows of random lengths. */
static void look(struct picture *p, struct q2_image *image, unsigned depth)
{
    uint64_t end;

    p->source = source_image_new(image, depth, 2, NULL);
    g_assert_nonnull(p->source);
    g_assert_cmpuint(p->source->size, ==, SIZE);
    p->bytes = g_malloc0(SIZE);
    p->told = g_malloc0(SIZE);
    for (uint64_t at = 0; at < SIZE; at = end) {
        uint64_t length = (uint64_t)g_test_rand_int_range(1, 1 << 20);

        length = MIN(length, SIZE - at);
        p->from = at;
        p->to = at + length;
        p->last.length = 0;
        g_assert_cmpint(p->source->ops->extents(p->source, 1, at, length, take, p, &end, NULL), ==,
                        0);
        g_assert_cmpuint(end, >, at);
        g_assert_cmpuint(end, <=, at + length);
    }
}

static void forget(struct picture *p)
{
    copy_source_free(p->source);
    g_free(p->bytes);
    g_free(p->told);
}

static void make_chain(const struct qcow2_rig *r)
{
    qcow2_rig_run(r,
                  "head -c 2000000 /dev/urandom > base.raw && "
                  "qemu-img create -q -f qcow2 -b base.raw -F raw 0.qcow2 %u && "
                  "qemu-img create -q -f qcow2 -b 0.qcow2 -F qcow2 1.qcow2 && "
                  "qemu-img create -q -f qcow2 -b 1.qcow2 -F qcow2 -o extended_l2=on 2.qcow2",
                  (unsigned)SIZE);
    qcow2_rig_fill(r, "0.qcow2", SIZE, 10);
    qcow2_rig_fill(r, "1.qcow2", SIZE, 10);
    qcow2_rig_fill(r, "2.qcow2", SIZE, 10);
}

static void test_whole(void)
{
    g_autofree uint8_t *disk = NULL;
    struct q2_image *image;
    struct picture p = {0};
    struct qcow2_rig r;
    size_t size;

    if (!qcow2_rig_begin(&r))
        return;
    make_chain(&r);
    disk = qcow2_rig_disk(&r, "2.qcow2", &size);
    image = qcow2_open(&r, "2.qcow2", Q2_REFERENCES_FOLDER);
    look(&p, image, UINT_MAX);
    g_assert_cmpmem(p.bytes, SIZE, disk, size);
    g_assert_null(memchr(p.told, 0, SIZE));
    g_assert_nonnull(memchr(p.told, 2, SIZE));
    forget(&p);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* The two upper files, over the disk of the lower ones, are the whole. */
static void test_part(void)
{
    g_autofree uint8_t *disk = NULL, *below = NULL;
    struct q2_image *image;
    struct picture p = {0};
    struct qcow2_rig r;
    size_t size;

    if (!qcow2_rig_begin(&r))
        return;
    make_chain(&r);
    disk = qcow2_rig_disk(&r, "2.qcow2", &size);
    below = qcow2_rig_disk(&r, "0.qcow2", &size);
    image = qcow2_open(&r, "2.qcow2", Q2_REFERENCES_FOLDER);
    look(&p, image, 1);
    g_assert_nonnull(memchr(p.told, 0, SIZE));
    for (size_t i = 0; i < SIZE; i++)
        g_assert_cmpint(disk[i], ==, p.told[i] ? p.bytes[i] : below[i]);
    forget(&p);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* ---- lanes ---- */

struct lane {
    struct copy_source *source;
    const uint8_t *disk;
    unsigned number;
    uint32_t seed;
};

/* Two batches under way, of several pieces each; the older one is waited for. */
static gpointer read_much(gpointer opaque)
{
    const struct lane *l = opaque;
    struct copy_piece pieces[2][3];
    GRand *random = g_rand_new_with_seed(l->seed);

    for (unsigned i = 0; i < 60; i++) {
        struct copy_piece *batch = pieces[i % 2], *older = pieces[!(i % 2)];

        for (unsigned k = 0; k < 3; k++) {
            batch[k].offset = (uint64_t)g_rand_int_range(random, 0, SIZE - 200000);
            batch[k].length = (size_t)g_rand_int_range(random, 1, 200000);
            batch[k].data = g_malloc(batch[k].length);
        }
        g_assert_cmpint(l->source->ops->read_start(l->source, l->number, batch, 3, NULL), ==, 0);
        if (i == 0)
            continue;
        g_assert_cmpint(l->source->ops->read_wait(l->source, l->number, NULL), ==, 0);
        for (unsigned k = 0; k < 3; k++) {
            g_assert_cmpmem(older[k].data, older[k].length, l->disk + older[k].offset,
                            older[k].length);
            g_free(older[k].data);
        }
    }
    g_assert_cmpint(l->source->ops->read_wait(l->source, l->number, NULL), ==, 0);
    for (unsigned k = 0; k < 3; k++)
        g_free(pieces[1][k].data);
    g_rand_free(random);
    return NULL;
}

static void test_lanes(void)
{
    g_autofree uint8_t *disk = NULL;
    struct copy_source *source;
    struct q2_image *image;
    struct qcow2_rig r;
    struct lane lanes[4];
    GThread *threads[4];
    size_t size;

    if (!qcow2_rig_begin(&r))
        return;
    make_chain(&r);
    qcow2_rig_run(&r, "qemu-img convert -c -O qcow2 -o compression_type=zstd 0.qcow2 c && "
                      "mv c 0.qcow2");
    disk = qcow2_rig_disk(&r, "2.qcow2", &size);
    image = qcow2_open(&r, "2.qcow2", Q2_REFERENCES_FOLDER);
    source = source_image_new(image, UINT_MAX, 4, NULL);
    g_assert_cmpuint(source->lanes, ==, 4);
    for (unsigned i = 0; i < 4; i++) {
        lanes[i] = (struct lane){source, disk, i, (uint32_t)g_test_rand_int()};
        threads[i] = g_thread_new("lane", read_much, &lanes[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    copy_source_free(source);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* ---- errors ---- */

static int refuse(void *opaque, const struct copy_extent *e, GError **err)
{
    (void)opaque;
    (void)e;
    g_set_error_literal(err, G_FILE_ERROR, G_FILE_ERROR_NOSPC, "enough");
    return -1;
}

static int accept(void *opaque, const struct copy_extent *e, GError **err)
{
    (void)opaque;
    (void)e;
    (void)err;
    return 0;
}

static void test_errors(void)
{
    g_autoptr(GError) full = NULL, map = NULL, data = NULL, many = NULL;
    uint8_t byte;
    struct copy_piece piece = {0, 1, &byte};
    struct copy_source *s;
    struct q2_image *image;
    struct qcow2_rig r;
    uint64_t end;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 1M && "
                      "qemu-io -f qcow2 -c 'write -q 0 1M' i.qcow2");
    qcow2_rig_put(&r, "i.qcow2", qcow2_rig_l2(&r, "i.qcow2", 0), 8, UINT64_C(1) << 40);
    image = qcow2_open(&r, "i.qcow2", Q2_REFERENCES_FOLDER);
    s = source_image_new(image, UINT_MAX, 0, NULL);
    g_assert_cmpuint(s->lanes, ==, 1);
    g_assert_cmpint(s->ops->extents(s, 0, 65536, 65536, refuse, NULL, &end, &full), ==, -1);
    g_assert_error(full, G_FILE_ERROR, G_FILE_ERROR_NOSPC);
    g_assert_cmpint(s->ops->extents(s, 0, 0, 1 << 20, accept, NULL, &end, &map), ==, -1);
    g_assert_nonnull(strstr(map->message, "i.qcow2"));
    g_assert_cmpint(s->ops->read_start(s, 0, &piece, 1, NULL), ==, 0);
    g_assert_cmpint(s->ops->read_start(s, 0, &piece, 1, NULL), ==, 0);
    g_assert_cmpint(s->ops->read_start(s, 0, &piece, 1, &many), ==, -1);
    g_assert_cmpint(s->ops->read_wait(s, 0, &data), ==, -1);
    g_assert_nonnull(strstr(data->message, "behind the end"));
    copy_source_free(s);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/source-image/whole", test_whole);
    g_test_add_func("/source-image/part", test_part);
    g_test_add_func("/source-image/lanes", test_lanes);
    g_test_add_func("/source-image/errors", test_errors);
    return g_test_run();
}
