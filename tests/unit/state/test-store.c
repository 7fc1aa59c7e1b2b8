/* SPDX-License-Identifier: BSD-3-Clause */
/* What a store keeps over a stop in order and the death of the server. */
#include "tests/rigs/store-rig.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void test_stop(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL}, *still;
    struct state_change c;

    rig_start(r, 1);
    g_assert_cmpstr(d->recovered, ==, "new");
    g_assert_cmpuint(d->found->len, ==, 0);
    bits[0] = rig_add(d, "b");
    still = rig_add(d, "still");
    c = rig_say(d, "still", still);
    c.recording = false;
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    rig_change(d, bits, MIB, 65536);
    rig_change(d, bits, 5 * MIB - 1, 2);
    for (unsigned i = 0; i < 3; i++) {
        rig_restart(r, 1);
        g_assert_cmpstr(d->recovered, ==, "exact");
        rig_expect(d, "b", 3 * 65536);
        g_assert_true(bitmap_test(rig_found(d, "b")->bits, MIB));
        rig_expect(d, "still", 0);
        g_assert_true(rig_found(d, "b")->recording && !rig_found(d, "still")->recording);
    }
    rig_free(r);
}

static void test_killed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    for (unsigned i = 1; i <= 3; i++) {
        rig_change(d, bits, i * MIB, 1);
        rig_kill(r);
        rig_start(r, 2);
        g_assert_cmpstr(d->recovered, ==, "exact");
        rig_expect(d, "b", i * 65536);
        bits[0] = rig_found(d, "b")->bits;
    }
    /* Nothing was changed: the image is what it was. */
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 3 * 65536);
    /* The other one was not served, and was left out by two servers. */
    rig_kill(r);
    rig_start(r, 2);
    rig_expect(d, "b", 3 * 65536);
    rig_free(r);
}

/* A stop sealed the bitmap, and could not note that the disk is not in use any more. */
static void test_sealed_and_killed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct storage *storage;
    struct catalogue *c;
    g_autoptr(GArray) rows = NULL;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    c = rig_catalogue(r, &storage);
    rows = catalogue_bitmaps(c, NULL, NULL);
    g_array_index(rows, struct catalogue_bitmap, 0).sealed = true; /* its checksum is 0 */
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    g_assert_cmpint(catalogue_put_bitmap(c, &g_array_index(rows, struct catalogue_bitmap, 0), NULL),
                    ==, 0);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    rig_catalogue_close(c, storage);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    rig_expect(d, "b", 4 * MIB);
    rig_free(r);
}

/* The note says that something failed, or is gone. */
static void test_notes(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    {
        g_autofree char *command = g_strdup_printf("rm -r %s/nbdfleece-*", r->top);

        g_assert_cmpint(system(command), ==, 0);
    }
    rig_start(r, 1);
    rig_expect(d, "b", 4 * MIB); /* not exact */
    rig_kill(r);
    {
        g_autofree char *command =
            g_strdup_printf("for n in %s/nbdfleece-*/note; do printf '\\1' | dd "
                            "of=$n bs=1 seek=16 conv=notrunc 2>&1; done",
                            r->top);

        g_assert_cmpint(system(command), ==, 0);
    }
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the state folder had failed");
    rig_free(r);
}

static void test_foreign_write(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    g_free(d->content);
    d->content = g_strdup("size=1 mtime=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was changed while it was not served");
    g_assert_nonnull(strstr(d->recovered, "inconsistent: "));
    bits[0] = rig_add(d, "c");
    rig_change(d, bits, 0, 1);
    rig_kill(r);
    d->modified += INT64_C(3000000000);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "c", "somebody else has changed the image");
    rig_free(r);
}

static void test_resized_offline(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    d->size += 512;
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "was resized while it was not served");
    rig_free(r);
}

static void test_transient(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    d->transient = true;
    rig_start(r, 1);
    rig_add(d, "b");
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "does not outlive the server");
    rig_free(r);
}

/* A disk that has another name now is not served as if it were new. */
/* A disk that the folder knows is served with the image of another one, which is not. */
static void test_under_another_name(void)
{
    struct store_rig *r = rig_new();
    g_autoptr(GError) error = NULL;

    rig_start(r, 2);
    rig_add(&r->disks[0], "b");
    rig_stop(r);
    g_free(r->disks[1].image);
    r->disks[1].image = g_strdup(r->disks[0].image);
    rig_open(r);
    rig_attach(&r->disks[1]);
    g_assert_cmpint(store_start(r->store, &error), <, 0);
    g_assert_nonnull(strstr(error->message, "its image is that of disk disk0"));
    rig_stop(r);
    rig_start(r, 1);
    rig_expect(&r->disks[0], "b", 0);
    rig_free(r);
}

static void test_renamed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autoptr(GError) error = NULL;
    g_autofree char *expected = NULL;
    struct storage *storage;
    struct catalogue *c;
    GArray *rows;
    struct catalogue_disk *row;

    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    g_free(d->name);
    d->name = g_strdup("moved");
    rig_open(r);
    rig_attach(d);
    g_assert_cmpint(store_start(r->store, &error), <, 0);
    expected =
        g_strdup_printf("disk moved: its image is that of disk disk0, whose bitmaps %s keeps; "
                        "`fleecectl state adopt %s disk0 moved` takes them over",
                        r->path, r->path);
    g_assert_cmpstr(error->message, ==, expected);
    rig_stop(r);
    /* What adopt does. */
    c = rig_catalogue(r, &storage);
    rows = catalogue_disks(c, NULL, NULL);
    g_assert_cmpuint(rows->len, ==, 1); /* nothing was noted of the start that failed */
    row = &g_array_index(rows, struct catalogue_disk, 0);
    g_free(row->name);
    row->name = g_strdup("moved");
    row->adopted = true;
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    g_assert_cmpint(catalogue_put_disk(c, row, NULL), ==, 0);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    g_array_unref(rows);
    rig_catalogue_close(c, storage);
    g_free(d->image);
    d->image = g_strdup("file ino=4711"); /* moved, too */
    rig_start(r, 1);
    rig_expect(d, "b", 0);
    rig_restart(r, 1);
    rig_expect(d, "b", 0);
    rig_stop(r);
    g_free(d->image);
    d->image = g_strdup("file ino=1"); /* adopted once */
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the image is another one");
    rig_free(r);
}

static void damage(const char *path, off_t offset, unsigned char bits)
{
    int fd = open(path, O_RDWR);
    unsigned char byte;

    g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
    byte ^= bits;
    g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
    close(fd);
}

static void test_damaged_bits(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *path = NULL;

    rig_start(r, 1);
    rig_add(d, "b");
    rig_stop(r);
    path = rig_bits_file(r);
    damage(path, 4096 + 3, 0x10);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "its bits were damaged");
    rig_free(r);
}

static void test_missing_bits(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *path = NULL;

    rig_start(r, 1);
    rig_add(d, "b");
    rig_kill(r);
    path = rig_bits_file(r);
    g_assert_cmpint(truncate(path, 4096), ==, 0);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "it is cut short");
    rig_free(r);
}

static void test_orphans(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits;

    rig_start(r, 1);
    rig_add(d, "b");
    bits = rig_bits(d); /* never committed */
    rig_kill(r);
    bitmap_unref(bits);
    g_assert_cmpuint(rig_bits_files(r), ==, 2);
    rig_start(r, 1);
    g_assert_cmpuint(rig_bits_files(r), ==, 1);
    rig_expect(d, "b", 0);
    rig_free(r);
}

/* The folder is left as after a crash when the disk could not be flushed. */
static void test_not_flushed(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    d->state.ops->line_give(d->state.disk, d->line);
    store_detach(r->store, d->state.disk, NULL);
    d->state.disk = NULL;
    g_clear_pointer(&d->found, store_bitmaps_free);
    g_clear_pointer(&d->recovered, g_free);
    rig_stop(r);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    rig_stop(r);
    rig_free(r);
}

/* A region of each of them. */
static void change_all(struct store_rig *r, unsigned region)
{
    for (unsigned i = 0; i < r->n; i++) {
        struct rig_disk *d = &r->disks[i];
        struct bitmap *bits[] = {NULL, NULL};

        bits[0] = d->found->len ? rig_found(d, "b")->bits : rig_add(d, "b");
        rig_change(d, bits, (i * 3 + region) * 4 * MIB, 1);
    }
}

/* How long a start takes is for people to read. */
static void start_many(struct store_rig *r, const char *after)
{
    int64_t begin = g_get_monotonic_time();

    rig_start(r, r->n);
    g_test_message("a start with %u disks of 1 TiB after %s: %d ms", r->n, after,
                   (int)((g_get_monotonic_time() - begin) / 1000));
}

static void test_many_disks(void)
{
    struct store_rig *r = rig_new_many(g_getenv("FLEECE_LONG") ? 100 : 20, UINT64_C(1) << 40);

    rig_start(r, r->n);
    change_all(r, 0);
    rig_kill(r);
    start_many(r, "kill -9");
    change_all(r, 1);
    for (unsigned i = 0; i < r->n; i++)
        rig_expect(&r->disks[i], "b", 2 * 65536);
    rig_restart(r, 0);
    rig_stop(r);
    start_many(r, "a stop in order");
    change_all(r, 2);
    rig_kill(r);
    rig_reboot(r);
    for (unsigned i = 0; i < r->n; i++)
        r->disks[i].modified = 1;
    start_many(r, "a power loss");
    for (unsigned i = 0; i < r->n; i++)
        rig_expect(&r->disks[i], "b", 4 * MIB + 2 * 65536);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store/stop", test_stop);
    g_test_add_func("/store/killed", test_killed);
    g_test_add_func("/store/sealed-and-killed", test_sealed_and_killed);
    g_test_add_func("/store/notes", test_notes);
    g_test_add_func("/store/foreign-write", test_foreign_write);
    g_test_add_func("/store/resized-offline", test_resized_offline);
    g_test_add_func("/store/transient", test_transient);
    g_test_add_func("/store/renamed", test_renamed);
    g_test_add_func("/store/under-another-name", test_under_another_name);
    g_test_add_func("/store/damaged-bits", test_damaged_bits);
    g_test_add_func("/store/missing-bits", test_missing_bits);
    g_test_add_func("/store/orphans", test_orphans);
    g_test_add_func("/store/not-flushed", test_not_flushed);
    g_test_add_func("/store/many-disks", test_many_disks);
    return g_test_run();
}
