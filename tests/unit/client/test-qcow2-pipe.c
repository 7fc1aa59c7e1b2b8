/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 stream of a source whose map is made at random: what a reader of the image finds is what the
 * source had. */
#include "client/pull/qcow2-pipe.h"
#include "common/copy/copy.h"
#include "common/qcow2/q2-image.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CLUSTER UINT64_C(65536)

/* ---- a source in memory ---- */

struct memory {
    struct copy_source source;
    uint8_t *bytes;
    GArray *extents; /* struct copy_extent */
    struct copy_piece asked[2][64];
    size_t n[2];
    unsigned first, count; /* batches under way */
};

static struct memory *memory_of(struct copy_source *s)
{
    return (struct memory *)(void *)s;
}

static int memory_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                          copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    const struct memory *m = memory_of(s);

    for (guint i = 0; i < m->extents->len; i++) {
        struct copy_extent e = g_array_index(m->extents, struct copy_extent, i);
        uint64_t from = MAX(e.offset, offset), to = MIN(e.offset + e.length, offset + length);

        if (from >= to)
            continue;
        e.offset = from;
        e.length = to - from;
        if (sink(opaque, &e, err) < 0)
            return -1;
    }
    *end = offset + length;
    return 0;
}

static int memory_read_start(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                             size_t n, GError **err)
{
    struct memory *m = memory_of(s);
    unsigned batch = (m->first + m->count++) % 2;

    g_assert_cmpuint(n, <=, G_N_ELEMENTS(m->asked[0]));
    memcpy(m->asked[batch], pieces, n * sizeof *pieces);
    m->n[batch] = n;
    return 0;
}

static int memory_read_wait(struct copy_source *s, unsigned lane, GError **err)
{
    struct memory *m = memory_of(s);

    for (size_t i = 0; i < m->n[m->first]; i++) {
        const struct copy_piece *p = &m->asked[m->first][i];

        memcpy(p->data, m->bytes + p->offset, p->length);
    }
    m->first = (m->first + 1) % 2;
    m->count--;
    return 0;
}

static void memory_free(struct copy_source *s)
{
    struct memory *m = memory_of(s);

    g_array_unref(m->extents);
    g_free(m->bytes);
    g_free(m);
}

static const struct copy_source_ops memory_ops = {
    .extents = memory_extents,
    .read_start = memory_read_start,
    .read_wait = memory_read_wait,
    .free = memory_free,
};

/* Extents of random lengths, half of them aligned to something. What is in none is not asked for, but
 * has bytes, too. */
static struct memory *make_source(GRand *rand, uint64_t size)
{
    struct memory *m = g_new0(struct memory, 1);

    m->source = (struct copy_source){
        .ops = &memory_ops, .size = size, .lanes = 1, .align = 1, .max_read = 1 << 20};
    m->bytes = g_malloc0(size + 1);
    m->extents = g_array_new(FALSE, FALSE, sizeof(struct copy_extent));
    for (uint64_t at = 0; at < size;) {
        uint64_t align = (uint64_t[]){1, 512, 4096, CLUSTER}[g_rand_int_range(rand, 0, 4)];
        uint64_t length = align * (uint64_t)g_rand_int_range(rand, 1, 40);
        uint64_t end = MIN(at + length, size);
        int kind = g_rand_int_range(rand, 0, 3);
        struct copy_extent e = {.offset = at, .length = end - at, .zero = kind == 1};

        if (kind < 2)
            g_array_append_val(m->extents, e);
        for (uint64_t i = at; kind != 1 && i < end; i++)
            m->bytes[i] = (uint8_t)g_rand_int_range(rand, 0, 256);
        at = end;
    }
    return m;
}

/* ---- copying ---- */

static struct copy_target *open_pipe(struct memory *m, int fd, const char *backing)
{
    const struct qcow2_pipe_options o = {.fd = fd,
                                         .name = "stream",
                                         .size = m->source.size,
                                         .source = &m->source,
                                         .backing = backing,
                                         .backing_format = backing ? "raw" : NULL};
    GError *error = NULL;
    struct copy_target *t = qcow2_pipe_new(&o, &error);

    g_assert_no_error(error);
    return t;
}

static void copy_into(struct memory *m, struct copy_target *t, bool detect_zeroes, GError **err)
{
    const struct copy_options o = {.lanes = 1, .detect_zeroes = detect_zeroes};
    struct copy *c = copy_start(&m->source, t, &o, err);

    if (c)
        copy_end(c, NULL, err);
}

static void assert_image(const char *path, const struct memory *m)
{
    struct q2_error why;
    struct q2_image *image = q2_image_open(path, Q2_REFERENCES_NONE, &why);
    g_autofree uint8_t *found = g_malloc(m->source.size + 1);
    uint64_t leaks, corruptions;
    struct q2_reader *r;

    if (!image)
        g_error("%s", why.text);
    g_assert_cmpint(q2_image_check(image, &leaks, &corruptions, &why), ==, 0);
    g_assert_cmpuint(leaks + corruptions, ==, 0);
    r = q2_reader_new(image, &why);
    g_assert_cmpint(q2_image_pread(r, found, m->source.size, 0, &why), ==, 0);
    for (guint i = 0; i < m->extents->len; i++) {
        const struct copy_extent *e = &g_array_index(m->extents, struct copy_extent, i);

        g_assert_cmpint(memcmp(found + e->offset, m->bytes + e->offset, e->length), ==, 0);
    }
    q2_reader_free(r);
    q2_image_close(image);
}

static void test_random(void)
{
    const char *given = getenv("FLEECE_SEED");
    guint32 seed = given ? (guint32)strtoul(given, NULL, 10) : g_random_int();
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);

    g_test_message("FLEECE_SEED=%u", seed);
    for (unsigned i = 0; i < 60; i++) {
        uint64_t size = (uint64_t)g_rand_int_range(rand, 1, 4000) * 1024;
        struct memory *m = make_source(rand, size);
        g_autofree char *path = NULL;
        int fd = g_file_open_tmp("fleece-XXXXXX", &path, NULL);
        struct copy_target *t = open_pipe(m, fd, NULL);
        GError *error = NULL;

        copy_into(m, t, i % 2 == 0, &error);
        g_assert_no_error(error);
        copy_target_free(t);
        close(fd);
        assert_image(path, m);
        g_unlink(path);
        copy_source_free(&m->source);
    }
}

/* The disk is written to between its map and its data. */
static void test_changes_meanwhile(void)
{
    static const struct copy_extent all = {.offset = 0, .length = 4 * CLUSTER};
    static const struct copy_extent zero = {.offset = 0, .length = 4 * CLUSTER, .zero = true};
    static const struct {
        const char *backing;
        const struct copy_extent *before, *after; /* NULL: nothing */
        uint8_t byte;                             /* what is read */
        bool fits;
    } cases[] = {
        {NULL, &zero, &all, 0, true},
        {NULL, &zero, &all, 1, false},
        {NULL, NULL, &all, 0, true},
        {NULL, NULL, &all, 1, false},
        {NULL, NULL, &zero, 0, true},
        {NULL, &all, &zero, 0, true},
        {"base", &zero, &all, 0, true},
        {"base", &zero, &all, 1, false},
        {"base", NULL, &all, 1, false},
        {"base", &all, &zero, 0, true},
        {NULL, &all, NULL, 1, false},
        /* Here the base would show through. */
        {"base", NULL, &all, 0, false},
        {"base", NULL, &zero, 0, false},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autoptr(GRand) rand = g_rand_new_with_seed(1);
        struct memory *m = make_source(rand, 4 * CLUSTER);
        g_autoptr(GError) error = NULL;
        g_autofree char *path = NULL;
        int fd = g_file_open_tmp("fleece-XXXXXX", &path, NULL);
        struct copy_target *t;

        memset(m->bytes, 0, m->source.size);
        g_array_set_size(m->extents, 0);
        if (cases[i].before)
            g_array_append_val(m->extents, *cases[i].before);
        t = open_pipe(m, fd, cases[i].backing);
        g_array_set_size(m->extents, 0);
        if (cases[i].after)
            g_array_append_val(m->extents, *cases[i].after);
        m->bytes[3 * CLUSTER + 5] = cases[i].byte;
        copy_into(m, t, false, &error);
        if (cases[i].fits)
            g_assert_no_error(error);
        else
            g_assert_nonnull(error && strstr(error->message, "changes meanwhile") ? error : NULL);
        copy_target_free(t);
        copy_source_free(&m->source);
        close(fd);
        g_unlink(path);
    }
}

/* A map that has no end is refused before it takes the memory; so is a disk that no image can hold, before
 * its map is read. */
static int endless_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                           copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    for (uint64_t at = offset; at < offset + length; at += 2 * CLUSTER) {
        struct copy_extent e = {.offset = at, .length = CLUSTER};

        if (sink(opaque, &e, err) < 0)
            return -1;
    }
    *end = offset + length;
    return 0;
}

static void test_endless(void)
{
    static const struct copy_source_ops ops = {.extents = endless_extents};
    static const struct {
        uint64_t size;
        const char *why;
    } cases[] = {
        {UINT64_C(1) << 40, "too many ranges for a stream"},
        {UINT64_C(1) << 62, "larger than qcow2 takes"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        struct copy_source s = {.ops = &ops, .size = cases[i].size, .lanes = 1, .align = 1};
        const struct qcow2_pipe_options o = {
            .fd = -1, .name = "stream", .size = s.size, .source = &s};
        g_autoptr(GError) error = NULL;

        g_assert_null(qcow2_pipe_new(&o, &error));
        g_assert_nonnull(error);
        g_test_message("%s", error->message);
        g_assert_nonnull(strstr(error->message, cases[i].why));
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/qcow2-pipe/random", test_random);
    g_test_add_func("/qcow2-pipe/changes-meanwhile", test_changes_meanwhile);
    g_test_add_func("/qcow2-pipe/endless", test_endless);
    return g_test_run();
}
