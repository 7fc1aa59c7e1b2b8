/* SPDX-License-Identifier: BSD-3-Clause */
/* Disks and images that do not go together as they did when the folder was left. */
#include "common/util/bitmap-glib.h"
#include "tests/rigs/store-rig.h"

#include <string.h>

static void set_image(struct rig_disk *d, const char *image)
{
    g_free(d->image);
    d->image = g_strdup(image);
}

/* A bitmap with a bit, of the disk's present image. */
static void add_with_bit(struct rig_disk *d, const char *name)
{
    struct bitmap *bits[] = {NULL, NULL};

    bits[0] = rig_add(d, name);
    rig_change(d, bits, 0, 1);
}

static void again(struct store_rig *r, bool killed, unsigned n)
{
    if (killed)
        rig_kill(r);
    else
        rig_stop(r);
    rig_start(r, n);
}

/* Give the row of a disk another name, or, new_name NULL, remove it. */
static void change_row(struct store_rig *r, const char *name, const char *new_name)
{
    struct storage *storage;
    struct catalogue *c = rig_catalogue(r, &storage);
    g_autoptr(GArray) rows = catalogue_disks(c, NULL, NULL);
    bool found = false;

    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    for (unsigned i = 0; i < rows->len; i++) {
        struct catalogue_disk *row = &g_array_index(rows, struct catalogue_disk, i);

        if (!g_str_equal(row->name, name))
            continue;
        found = true;
        if (!new_name) {
            g_assert_cmpint(catalogue_remove_disk(c, row->id, NULL), ==, 0);
            continue;
        }
        g_free(row->name);
        row->name = g_strdup(new_name);
        row->adopted = true;
        g_assert_cmpint(catalogue_put_disk(c, row, NULL), ==, 0);
    }
    g_assert_true(found);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    rig_catalogue_close(c, storage);
}

/* What `fleecectl state adopt` does. */
static void adopt(struct store_rig *r, const char *name, const char *new_name)
{
    change_row(r, name, new_name);
}

/* What `fleecectl state forget` does. */
static void forget(struct store_rig *r, const char *name)
{
    change_row(r, name, NULL);
}

static bool has_row(struct store_rig *r, const char *name)
{
    struct storage *storage;
    struct catalogue *c = rig_catalogue(r, &storage);
    g_autoptr(GArray) rows = catalogue_disks(c, NULL, NULL);
    bool found = false;

    for (unsigned i = 0; i < rows->len; i++)
        found |= g_str_equal(g_array_index(rows, struct catalogue_disk, i).name, name);
    rig_catalogue_close(c, storage);
    return found;
}

/* A slip: the disk gets another image, to which its guest writes, and then its own again. */
static void slip(bool killed)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    add_with_bit(d, "b");
    again(r, killed, 1);
    for (unsigned i = 0; i < 2; i++) {
        g_autofree char *content = g_strdup(d->content);
        int64_t modified = d->modified;

        rig_stop(r);
        set_image(d, "file ino=77");
        rig_start(r, 1);
        rig_expect_inconsistent(d, "b",
                                "the image is another one: it was 'file ino=0' and is now "
                                "'file ino=77'");
        rig_expect_inconsistent(d, "b",
                                "keeps the bitmap of the former one as that of disk "
                                "disk0-replaced");
        g_assert_nonnull(strstr(d->recovered, "inconsistent: the image is another one"));
        g_assert_cmpuint(rig_bits_files(r), ==, 1);
        again(r, killed, 1); /* what it says stays */
        rig_expect_inconsistent(d, "b", "disk0-replaced");
        rig_stop(r);
        set_image(d, "file ino=0");
        g_free(d->content);
        d->content = g_steal_pointer(&content);
        d->modified = modified;
        rig_start(r, 1);
        g_assert_cmpuint(d->found->len, ==, 1);
        g_assert_cmpstr(d->recovered, ==, "exact");
        rig_expect(d, "b", 65536);
        rig_stop(r);
        g_assert_true(has_row(r, "disk0-replaced")); /* of the other image: see below */
        g_assert_false(has_row(r, "disk0-replaced-replaced"));
        rig_start(r, 1);
    }
    /* The folder knows that the guest has written to the other image. */
    rig_stop(r);
    adopt(r, "disk0", "disk0");
    set_image(d, "file ino=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the image is another one");
    rig_free(r);
}

static void test_slip(void)
{
    slip(false);
    slip(true);
}

/* Both images have good bitmaps, of different names, and each gets its own again. The image that comes
 * back is looked at as always. */
static void test_two_images(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    rig_add(d, "a");
    for (unsigned i = 0; i < 3; i++) {
        rig_stop(r);
        set_image(d, "file ino=77");
        rig_start(r, 1);
        if (i == 0)
            bitmap_set(rig_add(d, "b"), 0, 1);
        else
            rig_expect(d, "b", 65536);
        rig_stop(r);
        set_image(d, "file ino=0");
        rig_start(r, 1);
        rig_expect(d, "a", 0);
    }
    rig_stop(r);
    set_image(d, "file ino=77");
    g_free(d->content);
    d->content = g_strdup("somebody else's");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was changed while it was not served");
    rig_free(r);
}

static void serve(struct store_rig *r, const char *image)
{
    rig_stop(r);
    set_image(&r->disks[0], image);
    rig_start(r, 1);
}

enum beginning { CLEARED, MADE_ANEW, TRANSIENT };

/* A bitmap "b" begins on the other image, where a marker has its name. */
static void begin_anew(struct rig_disk *d, enum beginning how)
{
    struct state_change c = {.disk = d->state.disk, .bitmap = "b", .persistent = true};

    if (how == MADE_ANEW)
        g_assert_cmpint(rig_commit(d->rig, &c, 1, NULL), ==, 0); /* the marker is removed */
    if (how != TRANSIENT) {
        rig_add(d, "b");
        return;
    }
    g_ptr_array_add(d->bits, bitmap_new(d->size, 65536, NULL));
    c = rig_say(d, "b", g_ptr_array_index(d->bits, d->bits->len - 1));
    c.persistent = false;
    g_assert_cmpint(rig_commit(d->rig, &c, 1, NULL), ==, 0);
}

/* Who has copied the other image since "b" began there does not take the former image's "b", which is
 * older, for that one. Another bitmap of the former image stays good. */
static void begun_anew(enum beginning how, bool killed)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    add_with_bit(d, "b");
    add_with_bit(d, "c");
    serve(r, "file ino=77");
    rig_expect_inconsistent(d, "b", "the image is another one");
    begin_anew(d, how);
    if (killed)
        again(r, true, 1);
    serve(r, "file ino=0");
    rig_expect(d, "c", 65536);
    rig_expect_inconsistent(d, "b",
                            "a bitmap of its name has begun anew on another image of disk disk0");
    /* Now it begins here. */
    rig_add(d, "b");
    serve(r, "file ino=77");
    if (how != TRANSIENT)
        rig_expect_inconsistent(d, "b", "");
    serve(r, "file ino=0");
    rig_expect(d, "b", 0);
    rig_free(r);
}

static void test_begun_anew(void)
{
    for (unsigned killed = 0; killed < 2; killed++) {
        begun_anew(CLEARED, killed);
        begun_anew(MADE_ANEW, killed);
        begun_anew(TRANSIENT, killed);
    }
}

static void set_content(struct rig_disk *d, const char *content, int64_t modified)
{
    g_free(d->content);
    d->content = g_strdup(content);
    d->modified = modified;
}

/* The rows of all former images are kept. */
static void test_three_images(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *content = NULL;
    int64_t modified;

    rig_start(r, 1);
    add_with_bit(d, "a");
    rig_stop(r);
    content = g_strdup(d->content);
    modified = d->modified;
    set_image(d, "file ino=77");
    rig_start(r, 1);
    add_with_bit(d, "b");
    rig_stop(r);
    set_image(d, "file ino=78");
    rig_start(r, 1);
    g_assert_cmpuint(d->found->len, ==, 2);
    rig_expect_inconsistent(d, "b", "disk0-replaced-replaced");
    rig_stop(r);
    set_image(d, "file ino=77");
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    g_assert_cmpuint(rig_bits_files(r), ==, 2);
    rig_stop(r);
    set_image(d, "file ino=0");
    set_content(d, content, modified);
    rig_start(r, 1);
    g_assert_cmpuint(d->found->len, ==, 1);
    rig_expect(d, "a", 65536);
    rig_free(r);
}

/* The disk that has another image is forgotten, and the former image is back: no start is refused. */
static void test_back_after_forget(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    add_with_bit(d, "b");
    rig_stop(r);
    set_image(d, "file ino=77");
    rig_start(r, 1);
    rig_stop(r);
    forget(r, "disk0");
    set_image(d, "file ino=0");
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_stop(r);
    g_assert_false(has_row(r, "disk0-replaced"));
    rig_free(r);
}

/* The name under which rows would go aside is another disk's, which is served or not. */
static void aside_name_taken(unsigned served)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = r->disks;

    g_free(d[1].name);
    d[1].name = g_strdup("disk0-replaced");
    rig_start(r, 2);
    rig_add(&d[0], "b");
    rig_add(&d[1], "other");
    rig_stop(r);
    set_image(&d[0], "file ino=77");
    rig_start(r, served);
    rig_expect_inconsistent(&d[0], "b", "that of disk disk0-replaced-replaced");
    rig_stop(r);
    set_image(&d[0], "file ino=0");
    rig_start(r, 2);
    rig_expect(&d[0], "b", 0);
    g_assert_cmpuint(d[1].found->len, ==, 1);
    rig_expect(&d[1], "other", 0);
    rig_free(r);
}

static void test_aside_name_taken(void)
{
    aside_name_taken(1);
    aside_name_taken(2);
}

static void expect_refused(struct store_rig *r, unsigned n, const char *text)
{
    g_autoptr(GError) error = NULL;

    rig_open(r);
    for (unsigned i = 0; i < n; i++)
        rig_attach(&r->disks[i]);
    g_assert_cmpint(store_start(r->store, &error), <, 0);
    if (!strstr(error->message, text))
        g_error("'%s' is not in '%s'", text, error->message);
    rig_stop(r);
}

static void exchange(struct store_rig *r)
{
    char *image = r->disks[0].image;

    r->disks[0].image = r->disks[1].image;
    r->disks[1].image = image;
}

/* Two disks exchange their names, or their images: what is meant is not known. */
static void test_exchanged(void)
{
    struct store_rig *r = rig_new();

    rig_start(r, 2);
    add_with_bit(&r->disks[0], "b");
    rig_stop(r);
    exchange(r);
    expect_refused(r, 2, "disk disk1: its image is that of disk disk0, whose bitmaps ");
    exchange(r);
    rig_start(r, 2);
    rig_expect(&r->disks[0], "b", 65536);
    rig_add(&r->disks[1], "b");
    rig_stop(r);
    exchange(r);
    expect_refused(r, 2, "adopt");
    /* The wrong way to adopt. */
    adopt(r, "disk0", "disk0");
    adopt(r, "disk1", "disk1");
    expect_refused(r, 2, "adopt");
    exchange(r);
    rig_start(r, 2);
    rig_expect(&r->disks[0], "b", 65536);
    rig_expect(&r->disks[1], "b", 0);
    rig_stop(r);
    /* The right one. */
    adopt(r, "disk0", "tmp");
    adopt(r, "disk1", "disk0");
    adopt(r, "tmp", "disk1");
    exchange(r);
    rig_start(r, 2);
    rig_expect(&r->disks[0], "b", 0);
    rig_expect(&r->disks[1], "b", 65536);
    rig_free(r);
}

/* A disk is not adopted with an image that was written to as another disk's. */
static void test_adopted_with_anothers(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 2);
    rig_add(d, "b");
    rig_stop(r);
    adopt(r, "disk0", "disk0");
    set_image(d, r->disks[1].image);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the image is another one");
    rig_stop(r);
    set_image(d, "file ino=0");
    rig_start(r, 1);
    rig_expect(d, "b", 0);
    rig_free(r);
}

/* An image that cannot be the one that was moved: the bitmaps stay, and can be adopted again. */
static void adopted_with_wrong(bool transient)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    uint64_t size = d->size;

    rig_start(r, 1);
    add_with_bit(d, "b");
    rig_stop(r);
    adopt(r, "disk0", "disk0");
    set_image(d, "file ino=77");
    if (transient)
        d->transient = true;
    else
        d->size = size / 2;
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "that of disk disk0-replaced");
    rig_stop(r);
    d->transient = false;
    d->size = size;
    adopt(r, "disk0", "elsewhere");
    adopt(r, "disk0-replaced", "disk0");
    set_image(d, "file ino=78");
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_free(r);
}

static void test_adopted_with_wrong(void)
{
    adopted_with_wrong(false);
    adopted_with_wrong(true);
}

/* A name that the folder knows, and whose bitmaps are of no use any more. */
static void test_nothing_to_lose(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    g_free(d->content);
    d->content = g_strdup("somebody else's");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was changed");
    rig_stop(r);
    set_image(d, "file ino=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was changed");
    rig_stop(r);
    g_assert_false(has_row(r, "disk0-replaced"));
    rig_free(r);
}

/* A name to which nothing can be appended: the bitmaps are inconsistent, and all works. */
static void test_long_name(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    g_free(d->name);
    d->name = g_strnfill(1020, 'n');
    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    set_image(d, "file ino=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the image is another one");
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-names/slip", test_slip);
    g_test_add_func("/store-names/two-images", test_two_images);
    g_test_add_func("/store-names/begun-anew", test_begun_anew);
    g_test_add_func("/store-names/three-images", test_three_images);
    g_test_add_func("/store-names/back-after-forget", test_back_after_forget);
    g_test_add_func("/store-names/aside-name-taken", test_aside_name_taken);
    g_test_add_func("/store-names/exchanged", test_exchanged);
    g_test_add_func("/store-names/adopted-with-anothers", test_adopted_with_anothers);
    g_test_add_func("/store-names/adopted-with-wrong", test_adopted_with_wrong);
    g_test_add_func("/store-names/nothing-to-lose", test_nothing_to_lose);
    g_test_add_func("/store-names/long-name", test_long_name);
    return g_test_run();
}
