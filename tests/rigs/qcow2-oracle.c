/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/qcow2-oracle.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Reads of random ranges of an image. */
#define RANDOM_READS 300

struct q2_image *qcow2_open(const struct qcow2_rig *r, const char *name,
                            enum q2_references references)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    struct q2_error err = {0};
    struct q2_image *image = q2_image_open(path, references, &err);

    if (!image)
        g_error("%s is refused: %s", name, err.text);
    return image;
}

void qcow2_assert_refused(const struct qcow2_rig *r, const char *name,
                          enum q2_references references, const char *text)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    struct q2_error err = {0};

    if (q2_image_open(path, references, &err))
        g_error("%s is taken, in spite of \"%s\"", name, text);
    if (!strstr(err.text, text))
        g_error("%s is refused, but not for \"%s\": %s", name, text, err.text);
    g_assert_null(q2_image_open(path, references, NULL));
}

static struct q2_reader *reader_new(struct q2_image *image)
{
    struct q2_error err = {0};
    struct q2_reader *reader = q2_reader_new(image, &err);

    if (!reader)
        g_error("no reader: %s", err.text);
    return reader;
}

void qcow2_assert_unreadable(const struct qcow2_rig *r, const char *name, uint64_t offset,
                             size_t length, const char *text)
{
    struct q2_image *image = qcow2_open(r, name, Q2_REFERENCES_ANY);
    struct q2_reader *reader = reader_new(image);
    g_autofree uint8_t *bytes = g_malloc(length);
    struct q2_error err = {0};

    if (q2_image_pread(reader, bytes, length, offset, &err) == 0)
        g_error("%s is read, in spite of \"%s\"", name, text);
    if (!strstr(err.text, text) || !strstr(err.text, r->folder))
        g_error("%s is not read, but not for \"%s\": %s", name, text, err.text);
    /* And once more: what has failed is not kept as if it were good. */
    g_assert_cmpint(q2_image_pread(reader, bytes, length, offset, NULL), ==, -1);
    q2_reader_free(reader);
    q2_image_close(image);
}

/* ---- content ---- */

static void assert_read(struct q2_reader *reader, const uint8_t *disk, uint64_t offset,
                        size_t length)
{
    g_autofree uint8_t *bytes = g_malloc(length + 1);
    struct q2_error err = {0};

    if (q2_image_pread(reader, bytes, length, offset, &err) < 0)
        g_error("%" G_GUINT64_FORMAT "+%zu: %s", (guint64)offset, length, err.text);
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != disk[offset + i])
            g_error("%" G_GUINT64_FORMAT "+%zu: byte %" G_GUINT64_FORMAT " is %d and not %d",
                    (guint64)offset, length, (guint64)(offset + i), bytes[i], disk[offset + i]);
}

/* A range that begins at `at`, of at most `most` bytes. */
static size_t random_length(size_t size, size_t at, int32_t most)
{
    size_t length = (size_t)g_test_rand_int_range(1, most + 1);

    return MIN(length, size - at);
}

static void assert_reads(struct q2_image *image, const uint8_t *disk, size_t size)
{
    struct q2_reader *reader = reader_new(image);
    size_t length;

    g_assert_cmpuint(q2_image_size(image), ==, size);
    for (size_t at = 0; at < size; at += length) {
        length = random_length(size, at, 8 << 20);
        assert_read(reader, disk, at, length);
    }
    for (unsigned i = 0; size && i < RANDOM_READS; i++) {
        size_t at = (size_t)(g_test_rand_double() * (double)size);

        assert_read(reader, disk, at, random_length(size, at, 2 << g_test_rand_int_range(0, 19)));
    }
    q2_reader_free(reader);
}

void qcow2_assert_disk(const struct qcow2_rig *r, const char *name, const uint8_t *disk,
                       size_t size)
{
    struct q2_image *image = qcow2_open(r, name, Q2_REFERENCES_ANY);

    assert_reads(image, disk, size);
    q2_image_close(image);
}

/* ---- kinds ---- */

/* A line of `qemu-img map --output=json`. */
struct line {
    uint64_t start, length;
    unsigned depth;
    bool present, zero, data;
};

static const char *after(const char *line, const char *key)
{
    const char *at = strstr(line, key);

    if (!at)
        g_error("no %s in %s", key, line);
    return at + strlen(key);
}

static bool is_true(const char *line, const char *key)
{
    return g_str_has_prefix(after(line, key), "true");
}

/* Parse a line of the file; false for the end of the list. */
static bool parse_line(const char *text, struct line *l)
{
    if (!strstr(text, "\"start\": "))
        return false;
    l->start = strtoull(after(text, "\"start\": "), NULL, 10);
    l->length = strtoull(after(text, "\"length\": "), NULL, 10);
    l->depth = (unsigned)strtoul(after(text, "\"depth\": "), NULL, 10);
    l->present = is_true(text, "\"present\": ");
    l->zero = is_true(text, "\"zero\": ");
    l->data = is_true(text, "\"data\": ");
    return true;
}

/* Whether a place lies behind the end of a file of the chain. */
static bool is_behind(struct q2_image *image, unsigned depth, uint64_t at)
{
    while (depth-- > 0)
        image = q2_image_backing(image);
    return at >= q2_image_size(image);
}

static void assert_kind(struct q2_image *image, const struct line *l, uint64_t at,
                        const struct q2_extent *e)
{
    bool good = false;

    switch (e->kind) {
    case Q2_UNALLOCATED:
        good = !l->present;
        break;
    case Q2_ZERO:
        good = is_behind(image, e->depth, at)
                   ? !l->present
                   : l->present && !l->data && l->zero && e->depth == l->depth;
        break;
    default:
        good = l->present && l->data && e->depth == l->depth;
        break;
    }
    if (!good)
        g_error("%" G_GUINT64_FORMAT " is of kind %d in file %u, but: %s, %s, %s, in file %u",
                (guint64)at, e->kind, e->depth, l->present ? "present" : "absent",
                l->zero ? "zero" : "not zero", l->data ? "data" : "no data", l->depth);
}

static void assert_line(struct q2_image *image, struct q2_reader *reader, const struct line *l)
{
    uint64_t at = l->start, end = l->start + l->length;

    while (at < end) {
        struct q2_error err = {0};
        struct q2_extent e;

        if (q2_image_extent(reader, at, end - at, UINT_MAX, &e, &err) < 0)
            g_error("%" G_GUINT64_FORMAT ": %s", (guint64)at, err.text);
        g_assert_cmpuint(e.length, >, 0);
        g_assert_cmpuint(e.length, <=, end - at);
        assert_kind(image, l, at, &e);
        at += e.length;
    }
}

static void assert_map(const struct qcow2_rig *r, const char *name, struct q2_image *image)
{
    g_autofree char *map = qcow2_rig_output(r, 0, "qemu-img map -f qcow2 --output=json %s", name);
    g_auto(GStrv) lines = g_strsplit(map, "\n", -1);
    struct q2_reader *reader = reader_new(image);
    uint64_t end = 0;
    struct line l;

    for (unsigned i = 0; lines[i] && parse_line(lines[i], &l); i++) {
        g_assert_cmpuint(l.start, ==, end);
        end = l.start + l.length;
        assert_line(image, reader, &l);
    }
    g_assert_cmpuint(end, ==, q2_image_size(image));
    q2_reader_free(reader);
}

void qcow2_assert_same(const struct qcow2_rig *r, const char *name)
{
    struct q2_image *image = qcow2_open(r, name, Q2_REFERENCES_FOLDER);
    size_t size;
    g_autofree uint8_t *disk = qcow2_rig_disk(r, name, &size);

    assert_reads(image, disk, size);
    assert_map(r, name, image);
    q2_image_close(image);
}

/* ---- checks ---- */

static void check(const struct qcow2_rig *r, const char *name, uint64_t *leaks,
                  uint64_t *corruptions, struct q2_error *err)
{
    struct q2_image *image = qcow2_open(r, name, Q2_REFERENCES_FOLDER);

    if (q2_image_check(image, leaks, corruptions, err) < 0)
        g_error("%s cannot be checked: %s", name, err->text);
    g_assert_true(!err->text[0] == !*corruptions);
    q2_image_close(image);
}

void qcow2_assert_clean(const struct qcow2_rig *r, const char *name)
{
    qcow2_rig_run(r, "qemu-img check -f qcow2 %s", name);
    qcow2_assert_broken(r, name, 0, 0, "");
}

void qcow2_assert_broken(const struct qcow2_rig *r, const char *name, uint64_t leaks,
                         uint64_t corruptions, const char *text)
{
    int status = corruptions ? 2 : leaks ? 3 : 0;
    struct q2_error err = {0};
    uint64_t l, c;

    check(r, name, &l, &c, &err);
    if (l != leaks || c != corruptions || !strstr(err.text, text))
        g_error("%s: %d leaks, %d corruptions, and not %d, %d, with \"%s\": %s", name, (int)l,
                (int)c, (int)leaks, (int)corruptions, text, err.text);
    g_free(qcow2_rig_output(r, status, "qemu-img check -f qcow2 %s", name));
}
