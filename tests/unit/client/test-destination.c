/* SPDX-License-Identifier: BSD-3-Clause */
/* Where a copy goes: names of base files, formats, what is looked at before something is
 * overwritten. */
#include "client/base/error.h"
#include "client/pull/base-file.h"
#include "client/pull/destination.h"
#include "client/pull/emptiness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static void test_relative_names(void)
{
    static const struct {
        const char *file, *folder, *name;
    } cases[] = {
        {"/a/b/f", "/a/b", "f"},
        {"/a/b/c/f", "/a/b", "c/f"},
        {"/a/f", "/a/b", "../f"},
        {"/f", "/a/b", "../../f"},
        {"/x/y/f", "/a/b", "../../x/y/f"},
        {"/ab/f", "/a", "../ab/f"},
        {"/a/f", "/ab", "../a/f"},
        {"/a/f", "/", "a/f"},
        {"/f", "/", "f"},
        /* QEMU takes what stands before a colon for a protocol, unless a slash comes first. */
        {"/a/b/nbd:f", "/a/b", "./nbd:f"},
        {"/a/b/x:y/f", "/a/b", "./x:y/f"},
        {"/a/b/x/y:f", "/a/b", "x/y:f"},
        {"/a/nbd:f", "/a/b", "../nbd:f"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *name = base_file_relative(cases[i].file, cases[i].folder);

        g_assert_cmpstr(name, ==, cases[i].name);
    }
}

static void test_formats(void)
{
    static const struct {
        struct destination_options o;
        enum destination_format format;
    } cases[] = {
        {{.target = "a"}, DESTINATION_RAW},
        {{.target = "a.qcow2"}, DESTINATION_QCOW2},
        {{.target = "a.qcow2", .format = DESTINATION_RAW}, DESTINATION_RAW},
        {{.target = "a", .base = "b"}, DESTINATION_QCOW2},
        {{.target = "a", .format = DESTINATION_QCOW2}, DESTINATION_QCOW2},
        {{.target = "-"}, DESTINATION_QCOW2},
        {{.target = "-", .format = DESTINATION_RAW}, DESTINATION_RAW},
        {{.target = "nbd://host/a.qcow2"}, DESTINATION_RAW},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++)
        g_assert_cmpint(destination_choose_format(&cases[i].o), ==, cases[i].format);
}

/* ---- is there data? ---- */

struct fake_source {
    struct copy_source source;
    const struct copy_extent *extents;
    unsigned n;
    uint64_t data; /* one byte that is not zero is here; UINT64_MAX: none */
    unsigned reads;
    struct copy_piece asked;
};

static struct fake_source *fake_of(struct copy_source *s)
{
    return (struct fake_source *)(void *)s;
}

static int fake_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                        copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    const struct fake_source *f = fake_of(s);

    /* It stops early: at the end of each extent. */
    for (unsigned i = 0; i < f->n; i++) {
        const struct copy_extent *e = &f->extents[i];

        if (offset >= e->offset && offset < e->offset + e->length) {
            struct copy_extent part = {.offset = offset, .zero = e->zero};

            part.length = MIN(e->offset + e->length, offset + length) - offset;
            *end = offset + part.length;
            return sink(opaque, &part, err);
        }
    }
    g_assert_not_reached();
}

static int fake_read_start(struct copy_source *s, unsigned lane, const struct copy_piece *pieces,
                           size_t n, GError **err)
{
    struct fake_source *f = fake_of(s);

    g_assert_cmpuint(n, ==, 1);
    f->asked = *pieces;
    f->reads++;
    g_assert_cmpuint(pieces->offset % s->align, ==, 0);
    g_assert_cmpuint(pieces->offset + pieces->length, <=, s->size);
    return 0;
}

static int fake_read_wait(struct copy_source *s, unsigned lane, GError **err)
{
    const struct fake_source *f = fake_of(s);

    memset(f->asked.data, 0, f->asked.length);
    if (f->data >= f->asked.offset && f->data - f->asked.offset < f->asked.length)
        f->asked.data[f->data - f->asked.offset] = 1;
    return 0;
}

static const struct copy_source_ops fake_ops = {
    .extents = fake_extents, .read_start = fake_read_start, .read_wait = fake_read_wait};

static struct fake_source fake(uint64_t size, const struct copy_extent *extents, unsigned n,
                               uint64_t data)
{
    return (struct fake_source){
        .source = {.ops = &fake_ops, .size = size, .lanes = 1, .align = 512, .max_read = 1 << 20},
        .extents = extents,
        .n = n,
        .data = data,
    };
}

static enum emptiness look(struct fake_source *f)
{
    enum emptiness found;
    GError *error = NULL;
    int result = emptiness_of_source(&f->source, &found, &error);

    g_assert_no_error(error);
    g_assert_cmpint(result, ==, 0);
    g_assert_cmpuint(f->reads, <=, 512);
    return found;
}

static void test_empty_source(void)
{
    static const struct copy_extent zero[] = {{0, 100 * MIB, true}, {100 * MIB, 512, true}};
    static const struct copy_extent data[] = {
        {0, 40 * MIB, true}, {40 * MIB, 4096, false}, {40 * MIB + 4096, 60 * MIB - 3584, true}};
    struct fake_source f = fake(100 * MIB + 512, zero, 2, UINT64_MAX);

    g_assert_cmpint(look(&f), ==, EMPTINESS_ZERO);
    g_assert_cmpuint(f.reads, ==, 0);
    f = fake(100 * MIB + 512, data, 3, UINT64_MAX);
    g_assert_cmpint(look(&f), ==, EMPTINESS_NONE_FOUND);
    /* What a map calls data in one place is found there. */
    f = fake(100 * MIB + 512, data, 3, 40 * MIB + 4095);
    g_assert_cmpint(look(&f), ==, EMPTINESS_DATA);
    f = fake(0, NULL, 0, UINT64_MAX);
    g_assert_cmpint(look(&f), ==, EMPTINESS_ZERO);
}

/* A server without a map: the beginning and the end are looked at. */
static void test_source_without_map(void)
{
    static const uint64_t places[] = {0, 511, 1000 * MIB + 511};
    static const struct copy_extent all[] = {{0, 1000 * MIB + 512, false}};

    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        struct fake_source f = fake(1000 * MIB + 512, all, 1, places[i]);

        g_assert_cmpint(look(&f), ==, EMPTINESS_DATA);
    }
}

static void test_empty_device(void)
{
    static const uint64_t places[] = {0, 512, MIB - 1, 40 * MIB - 1, UINT64_MAX};
    g_autofree char *path = NULL;
    int fd = g_file_open_tmp("fleece-XXXXXX", &path, NULL);

    g_assert_cmpint(fd, >=, 0);
    for (gsize i = 0; i < G_N_ELEMENTS(places); i++) {
        enum emptiness found;

        g_assert_cmpint(ftruncate(fd, 0), ==, 0);
        g_assert_cmpint(ftruncate(fd, 40 * (off_t)MIB), ==, 0);
        if (places[i] != UINT64_MAX)
            g_assert_cmpint(pwrite(fd, "x", 1, (off_t)places[i]), ==, 1);
        g_assert_cmpint(emptiness_of_device(fd, path, 40 * MIB, &found, NULL), ==, 0);
        g_assert_cmpint(found, ==, places[i] == UINT64_MAX ? EMPTINESS_NONE_FOUND : EMPTINESS_DATA);
    }
    close(fd);
    g_unlink(path);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/destination/relative-names", test_relative_names);
    g_test_add_func("/destination/formats", test_formats);
    g_test_add_func("/destination/empty-source", test_empty_source);
    g_test_add_func("/destination/source-without-map", test_source_without_map);
    g_test_add_func("/destination/empty-device", test_empty_device);
    return g_test_run();
}
