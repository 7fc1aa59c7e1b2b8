/* SPDX-License-Identifier: BSD-3-Clause */
/* How far a copy has come: what is written, and when it is not believed. */
#include "client/pull/position.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define MIB  (UINT64_C(1) << 20)
#define SIZE (99 * MIB + 512)

/* ---- a source that is dirty in some ranges ---- */

struct dirty {
    struct copy_source source;
    const uint64_t (*ranges)[2]; /* offset and end; the last one ends at 0 */
    uint64_t step;               /* extents are at most as long */
    bool zero;                   /* every second one is told as zero */
};

static int dirty_extents(struct copy_source *s, unsigned lane, uint64_t offset, uint64_t length,
                         copy_extent_sink sink, void *opaque, uint64_t *end, GError **err)
{
    const struct dirty *d = (const struct dirty *)(const void *)s;
    bool zero = false;

    *end = MIN(offset + length, (offset / d->step + 7) * d->step);
    for (const uint64_t(*r)[2] = d->ranges; (*r)[1] > 0; r++) {
        for (uint64_t at = MAX((*r)[0], offset); at < MIN((*r)[1], *end);) {
            struct copy_extent e = {.offset = at, .zero = d->zero && zero};

            e.length = MIN(MIN((*r)[1], *end) - at, d->step);
            if (sink(opaque, &e, err) < 0)
                return -1;
            at += e.length;
            zero = !zero;
        }
    }
    return 0;
}

static const struct copy_source_ops dirty_ops = {.extents = dirty_extents};

static const uint64_t some[][2] = {{0, 4096}, {MIB, 9 * MIB}, {SIZE - 512, SIZE}, {0, 0}};
static const uint64_t others[][2] = {{0, 4096}, {MIB, 9 * MIB + 512}, {SIZE - 512, SIZE}, {0, 0}};
static const uint64_t none[][2] = {{0, 0}};

static struct dirty source_of(const uint64_t (*ranges)[2], uint64_t step, bool zero)
{
    return (struct dirty){.source = {.ops = &dirty_ops, .size = SIZE, .lanes = 1, .align = 1},
                          .ranges = ranges,
                          .step = step,
                          .zero = zero};
}

/* ---- a folder ---- */

struct folder {
    char *path, *target, *file;
    int fd; /* of the target */
};

static void set_up(struct folder *f, gconstpointer data)
{
    f->path = g_dir_make_tmp("fleece-XXXXXX", NULL);
    f->target = g_build_filename(f->path, "disk", NULL);
    f->file = g_build_filename(f->path, "disk.pull", NULL);
    f->fd = g_open(f->target, O_RDWR | O_CREAT, 0600);
    g_assert_cmpint(f->fd, >=, 0);
}

static void tear_down(struct folder *f, gconstpointer data)
{
    close(f->fd);
    g_unlink(f->target);
    g_unlink(f->file);
    g_assert_cmpint(g_rmdir(f->path), ==, 0);
    g_free(f->path);
    g_free(f->target);
    g_free(f->file);
}

static struct position *make(const struct folder *f, const char *uri, const char *context,
                             struct dirty d)
{
    GError *error = NULL;
    struct position *p = position_new(f->target, uri, context, d.source.size);

    position_see_map(p, &d.source, &error);
    g_assert_no_error(error);
    return p;
}

static struct position *usual(const struct folder *f)
{
    return make(f, "nbd://host/vda?secret", "qemu:dirty-bitmap:b", source_of(some, 4096, false));
}

static void leave(const struct folder *f, uint64_t offset, bool discards)
{
    struct position *p = usual(f);

    p->discards = discards;
    g_assert_cmpint(position_set_file(p, f->fd, false, NULL), ==, 0);
    g_assert_cmpint(position_write(p, offset, NULL), ==, 0);
    position_free(p);
}

/* Read by one that is freed. The position, or why not. */
static char *read_by(struct position *p, uint64_t *offset)
{
    GError *error = NULL;
    char *why = NULL;
    bool found = false;

    if (position_read(p, &found, offset, &error) < 0) {
        g_assert_false(found);
        why = g_strdup(error->message);
        g_error_free(error);
    } else {
        g_assert_true(found);
    }
    position_free(p);
    return why;
}

/* ---- tests ---- */

/* The same blocks have the same sum, however a server tells them; others have another. */
static void test_sums(struct folder *f, gconstpointer data)
{
    struct position *first = usual(f);
    static const uint64_t steps[] = {512, 4096, 65536, 300 * MIB};

    for (unsigned i = 0; i < 2 * G_N_ELEMENTS(steps); i++) {
        struct position *same = make(f, "u", "c", source_of(some, steps[i / 2], i % 2 != 0));
        struct position *other = make(f, "u", "c", source_of(others, steps[i / 2], i % 2 != 0));

        g_assert_cmpstr(same->dirty, ==, first->dirty);
        g_assert_cmpstr(other->dirty, !=, first->dirty);
        position_free(same);
        position_free(other);
    }
    position_free(first);
}

static void test_round_trip(struct folder *f, gconstpointer data)
{
    g_autofree char *text = NULL;
    uint64_t offset = 1;

    leave(f, 7 * MIB + 512, false);
    g_assert_null(read_by(usual(f), &offset));
    g_assert_cmpuint(offset, ==, 6 * MIB); /* where a copy may start */
    g_assert_true(g_file_get_contents(f->file, &text, NULL, NULL));
    g_assert_null(strstr(text, "secret"));
    leave(f, SIZE, true);
    g_assert_null(read_by(usual(f), &offset));
    g_assert_cmpuint(offset, ==, SIZE);
}

static void test_others(struct folder *f, gconstpointer data)
{
    const char *uri = "nbd://host/vda?secret", *context = "qemu:dirty-bitmap:b";
    struct dirty larger = source_of(some, 4096, false);
    uint64_t offset;

    leave(f, 8 * MIB, false);
    larger.source.size += 512;
    const struct {
        struct position *p;
        const char *why;
    } cases[] = {
        {make(f, "nbd://host/vdb", context, source_of(some, 4096, false)), "another source"},
        {make(f, uri, "qemu:dirty-bitmap:c", source_of(some, 4096, false)), "another context"},
        {make(f, uri, NULL, source_of(some, 4096, false)), "another context"},
        {make(f, uri, context, larger), "another size"},
        {make(f, uri, context, source_of(others, 4096, false)), "another instant"},
        {make(f, uri, context, source_of(none, 4096, false)), "another instant"},
    };

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *why = read_by(cases[i].p, &offset);

        g_assert_nonnull(why);
        g_assert_nonnull(strstr(why, cases[i].why));
    }
}

static void test_damaged(struct folder *f, gconstpointer data)
{
    static const struct {
        const char *from, *to, *why;
    } cases[] = {
        {"{", "[", "damaged"},
        {"\"version\" : 1", "\"version\" : 2", "another version"},
        {"\"position\" : 8388608", "\"position\" : 1048576000", "beyond the end"},
        {"\"position\"", "\"place\"", "how far"},
        {"\"position\" : 8388608", "\"position\" : \"0\"", "how far"},
        {"\"position\" : 8388608", "\"position\" : -1", "how far"},
        {"\"discards\"", "\"keeps\"", "how far"},
    };
    uint64_t offset;

    for (gsize i = 0; i < G_N_ELEMENTS(cases); i++) {
        g_autofree char *text = NULL;
        g_autofree char *why = NULL;
        g_auto(GStrv) parts = NULL;
        g_autofree char *changed = NULL;

        leave(f, 8 * MIB, false);
        g_assert_true(g_file_get_contents(f->file, &text, NULL, NULL));
        parts = g_strsplit(text, cases[i].from, 2);
        g_assert_nonnull(parts[1]);
        changed = g_strjoinv(cases[i].to, parts);
        g_assert_true(g_file_set_contents(f->file, changed, -1, NULL));
        why = read_by(usual(f), &offset);
        g_assert_nonnull(why);
        g_assert_nonnull(strstr(why, cases[i].why));
    }
}

static void test_another_file(struct folder *f, gconstpointer data)
{
    struct position *p = usual(f);
    g_autoptr(GError) error = NULL;
    uint64_t offset;
    bool found;
    int other;

    leave(f, 8 * MIB, false);
    g_assert_cmpint(position_read(p, &found, &offset, NULL), ==, 0);
    g_assert_cmpint(position_set_file(p, f->fd, true, NULL), ==, 0);
    other = open(f->path, O_RDONLY | O_DIRECTORY);
    g_assert_cmpint(position_set_file(p, other, true, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, "is not there any more"));
    close(other);
    position_free(p);
}

/* Is the file `name` of the folder the whole copy, by a position of this context and offset? */
static bool is_named(const struct folder *f, const char *context, uint64_t at, const char *name)
{
    struct position *p = make(f, "u", context, source_of(some, 4096, false));
    g_autofree char *path = g_build_filename(f->path, name, NULL);
    uint64_t offset;
    bool found, result;

    g_assert_cmpint(position_set_file(p, f->fd, false, NULL), ==, 0);
    g_assert_cmpint(position_write(p, at, NULL), ==, 0);
    g_assert_cmpint(position_read(p, &found, &offset, NULL), ==, 0);
    result = position_is_named(p, offset, path);
    position_free(p);
    return result;
}

/* What is left of a run that was cut when its file had its name: only that very file, and whole. */
static void test_named(struct folder *f, gconstpointer data)
{
    g_autofree char *other = g_build_filename(f->path, "other", NULL);

    g_assert_false(is_named(f, NULL, SIZE, "disk")); /* it is empty */
    g_assert_cmpint(ftruncate(f->fd, (off_t)SIZE), ==, 0);
    g_assert_true(is_named(f, NULL, SIZE, "disk"));
    g_assert_false(is_named(f, NULL, SIZE, "none"));
    g_assert_false(is_named(f, NULL, 98 * MIB, "disk"));
    g_assert_false(is_named(f, "c", SIZE, "disk")); /* changes: it always had its name */
    g_assert_true(g_file_set_contents(other, "", -1, NULL));
    g_assert_cmpint(truncate(other, (off_t)SIZE), ==, 0);
    g_assert_false(is_named(f, NULL, SIZE, "other"));
    g_unlink(other);
}

static void assert_refused(const struct folder *f, const char *why)
{
    g_autoptr(GError) error = NULL;

    g_assert_cmpint(position_check_anew(f->target, &error), ==, -1);
    g_assert_nonnull(strstr(error->message, f->file));
    g_assert_nonnull(strstr(error->message, why));
}

static void test_anew(struct folder *f, gconstpointer data)
{
    struct position *p = usual(f);

    g_assert_cmpint(position_check_anew(f->target, NULL), ==, 0); /* there is none */
    g_assert_cmpint(position_remove(p, NULL), ==, 0);
    leave(f, 8 * MIB, false);
    g_assert_cmpint(position_check_anew(f->target, NULL), ==, 0);
    leave(f, MIB, true); /* nothing has been discarded */
    g_assert_cmpint(position_check_anew(f->target, NULL), ==, 0);
    leave(f, 8 * MIB, true);
    assert_refused(f, "has discarded");
    leave(f, SIZE, true);
    assert_refused(f, "has discarded");
    g_assert_cmpint(position_remove(p, NULL), ==, 0);
    g_assert_cmpint(g_access(f->file, F_OK), ==, -1);
    position_free(p);
}

/* What cannot be understood may be of a run that has discarded. */
static void test_anew_unreadable(struct folder *f, gconstpointer data)
{
    static const char *const texts[] = {"",
                                        "{",
                                        "[]",
                                        "{}",
                                        "{\"version\": 2, \"discards\": false, \"position\": 0}",
                                        "{\"version\": 1, \"position\": 0}",
                                        "{\"version\": 1, \"discards\": true}",
                                        "{\"version\": 1, \"discards\": true, \"position\": \"9\"}",
                                        "{\"version\": 1, \"discards\": 0, \"position\": 9}"};

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_assert_true(g_file_set_contents(f->file, texts[i], -1, NULL));
        assert_refused(f, "discarded");
    }
    g_unlink(f->file);
    g_assert_cmpint(g_mkdir(f->file, 0700), ==, 0);
    assert_refused(f, "may have discarded");
    g_assert_cmpint(g_rmdir(f->file), ==, 0);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function)                                                                        \
    g_test_add("/position/" name, struct folder, NULL, set_up, function, tear_down)
    ADD("sums", test_sums);
    ADD("round-trip", test_round_trip);
    ADD("others", test_others);
    ADD("damaged", test_damaged);
    ADD("another-file", test_another_file);
    ADD("named", test_named);
    ADD("anew", test_anew);
    ADD("anew-unreadable", test_anew_unreadable);
#undef ADD
    return g_test_run();
}
