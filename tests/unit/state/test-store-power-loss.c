/* SPDX-License-Identifier: BSD-3-Clause */
/* What a store keeps over a power loss, which is all that is known when another machine has had it. */
#include "tests/rigs/store-rig.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

/* Regions of 4 MiB that were open are dirty: the two that were changed. */
static void test_regions(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 2);
    bits[0] = rig_add(d, "b");
    rig_add(&r->disks[1], "other");
    rig_change(d, bits, MIB, 65536);
    rig_change(d, bits, 9 * MIB, 65536);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1; /* long before this boot */
    rig_start(r, 2);
    rig_expect(d, "b", 8 * MIB);
    g_assert_cmpstr(d->recovered, ==, "widened by 8388608 bytes after power loss");
    rig_expect(&r->disks[1], "other", 0);
    g_assert_cmpstr(r->disks[1].recovered, ==, "widened by 0 bytes after power loss");
    rig_free(r);
}

static void test_other_machine(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, MIB, 65536);
    rig_kill(r);
    rig_other_machine(r);
    d->modified = 1;
    rig_start(r, 1);
    rig_expect(d, "b", 4 * MIB);
    rig_free(r);
}

static void test_foreign_write(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    rig_add(d, "b");
    rig_kill(r);
    rig_reboot(r);
    d->modified = g_get_real_time() * 1000; /* in this boot */
    g_free(d->content);
    d->content = g_strdup("size=1 mtime=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "somebody else has changed the image");
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "somebody else has changed the image"); /* it stays so */
    rig_free(r);
}

/* The folder was in order until the lease: it failed later, or an old copy of it was put back. */
static void test_old_folder(void)
{
    for (int64_t late = 0; late <= 1; late++) {
        const int64_t lease = INT64_C(1000000000000000000), words[] = {lease, ~lease};
        struct store_rig *r = rig_new();
        struct rig_disk *d = &r->disks[0];
        g_autofree char *live = NULL;
        int fd;

        rig_start(r, 1);
        rig_add(d, "b");
        rig_kill(r);
        rig_reboot(r);
        live = rig_file(r, "live");
        fd = open(live, O_WRONLY);
        g_assert_cmpint(pwrite(fd, words, sizeof words, 64), ==, sizeof words);
        close(fd);
        g_free(d->content);
        d->content = g_strdup("size=1 mtime=77");
        d->modified = lease + late;
        rig_start(r, 1);
        if (late)
            rig_expect_inconsistent(d, "b", "somebody else has changed the image");
        else
            rig_expect(d, "b", 0);
        rig_free(r);
    }
}

static void test_without_journal(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *still;
    struct state_change c;

    r->o.power = false;
    rig_start(r, 1);
    rig_add(d, "b");
    still = rig_add(d, "still");
    c = rig_say(d, "still", still);
    c.recording = false;
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    rig_kill(r);
    rig_reboot(r);
    r->o.power = true; /* it is the last server that counts */
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "--durability process keeps no journal");
    g_assert_nonnull(strstr(d->recovered, "inconsistent: the machine was restarted, and "));
    rig_expect(d, "still", 0);
    rig_free(r);
}

/* The path of the folder, which is in the reason, need not be UTF-8. */
static void test_folder_by_bytes(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *intent = NULL, *before = NULL;

    rig_start(r, 1);
    rig_add(d, "b");
    rig_kill(r);
    rig_reboot(r);
    before = g_steal_pointer(&r->path);
    r->path = g_strdup_printf("%s/\377", r->top);
    g_assert_cmpint(rename(before, r->path), ==, 0);
    intent = rig_file(r, "intent");
    g_assert_cmpint(unlink(intent), ==, 0);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "/\357\277\275/intent");
    g_assert_nonnull(strstr(d->recovered, "inconsistent: the machine was restarted, and "));
    rig_restart(r, 1);
    rig_expect_inconsistent(d, "b", "/\357\277\275/intent"); /* it stays so */
    rig_free(r);
}

static void test_damaged_journal(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *intent = NULL;

    rig_start(r, 1);
    rig_add(d, "b");
    rig_kill(r);
    intent = rig_file(r, "intent");
    g_unlink(intent);
    rig_reboot(r);
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "the journal is of no use");
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-power-loss/regions", test_regions);
    g_test_add_func("/store-power-loss/other-machine", test_other_machine);
    g_test_add_func("/store-power-loss/foreign-write", test_foreign_write);
    g_test_add_func("/store-power-loss/old-folder", test_old_folder);
    g_test_add_func("/store-power-loss/without-journal", test_without_journal);
    g_test_add_func("/store-power-loss/folder-by-bytes", test_folder_by_bytes);
    g_test_add_func("/store-power-loss/damaged-journal", test_damaged_journal);
    return g_test_run();
}
