/* SPDX-License-Identifier: BSD-3-Clause */
/* A server whose memory folder is gone, full, or another one's. */
#include "common/state/bit-file.h"
#include "common/state/folder.h"
#include "common/state/memory.h"
#include "server/state/store-break.h"
#include "tests/rigs/store-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static void close_regions(struct store_rig *r)
{
    g_autoptr(GError) error = NULL;

    journal_close_all(r->store->journal, &error);
    g_assert_no_error(error);
}

/* Memory takes what was touched, not what the disk is long. */
static void test_sparse(void)
{
    struct store_rig *r = rig_new_many(1, UINT64_C(8) << 40); /* 16 MiB of bits */
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *path = NULL;
    struct stat st;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, UINT64_C(5) << 40, 1);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    rig_restart(r, 1);
    rig_expect(d, "b", 65536);
    path = rig_memory_bits(r);
    g_assert_cmpint(stat(path, &st), ==, 0);
    g_assert_cmpint(st.st_size, >, 16 << 20);
    g_assert_cmpint(st.st_blocks, <=, 64);
    rig_free(r);
}

/* The lines lie in memory from the start on: there is nothing for which there may be none later. */
static void test_lines(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *live = NULL;
    struct stat st;

    rig_start(r, 1);
    live = rig_memory(r, STATE_LIVE);
    g_assert_cmpint(stat(live, &st), ==, 0);
    g_assert_cmpint(st.st_size, ==, 1 << 20);
    g_assert_cmpint(st.st_blocks, >=, (1 << 20) / 512);
    rig_free(r);
}

/* A page that was written is written again when it has more bits, also where a word of it had some. */
static void test_written_again(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    for (unsigned i = 0; i < 3; i++) {
        rig_change(d, bits, i * 5 * MIB, 1);
        close_regions(r);
    }
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    rig_expect(d, "b", 3 * 65536);
    g_assert_cmpstr(d->recovered, ==, "widened by 0 bytes after power loss");
    /* What a start has found counts as written. */
    bits[0] = rig_found(d, "b")->bits;
    rig_change(d, bits, MIB, 1);
    close_regions(r);
    rig_kill(r);
    rig_reboot(r);
    d->modified = 1;
    rig_start(r, 1);
    rig_expect(d, "b", 4 * 65536);
    rig_free(r);
}

static void change_note(struct store_rig *r, off_t offset)
{
    g_autofree char *note = rig_memory(r, "note");
    const uint64_t one = 1;
    int fd = open(note, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(pwrite(fd, &one, sizeof one, offset), ==, sizeof one);
    close(fd);
}

/* Killed, and then `spoil` is done to the memory: its regions are dirty, nothing is lost. */
static void spoilt(void (*spoil)(struct store_rig *r), bool power)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    r->o.power = power;
    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 9 * MIB, 1);
    rig_kill(r);
    spoil(r);
    rig_start(r, 1);
    if (power) {
        rig_expect(d, "b", 4 * MIB);
        g_assert_cmpstr(d->recovered, ==, "widened by 4194304 bytes after power loss");
    } else {
        rig_expect_inconsistent(d, "b", "");
        g_assert_true(g_str_has_prefix(d->recovered, "inconsistent: "));
    }
    rig_free(r);
}

static void remove_memory(struct store_rig *r)
{
    g_autofree char *command = g_strdup_printf("rm -r %s/nbdfleece-*", r->top);

    g_assert_cmpint(system(command), ==, 0);
}

static void say_another_run(struct store_rig *r)
{
    change_note(r, 8);
}

static void say_incomplete(struct store_rig *r)
{
    change_note(r, 24);
}

static void remove_bits(struct store_rig *r)
{
    g_autofree char *bits = rig_memory_bits(r);

    g_assert_cmpint(g_unlink(bits), ==, 0);
}

static void cut_bits(struct store_rig *r)
{
    g_autofree char *bits = rig_memory_bits(r);

    g_assert_cmpint(truncate(bits, 4096), ==, 0);
}

static void test_gone(void)
{
    spoilt(remove_memory, true);
    spoilt(remove_memory, false);
}

static void test_server_another_run(void)
{
    spoilt(say_another_run, true);
}

static void test_one_missing(void)
{
    spoilt(remove_bits, true);
    spoilt(remove_bits, false);
    spoilt(cut_bits, true);
}

static void test_incomplete(void)
{
    spoilt(say_incomplete, true);
    spoilt(say_incomplete, false);
}

/* What an image was changed after the lease is not the server's, if its lines are gone. */
static void test_gone_and_foreign_write(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];

    rig_start(r, 1);
    rig_add(d, "b");
    rig_kill(r);
    remove_memory(r);
    d->modified = (g_get_real_time() + 100 * G_USEC_PER_SEC) * 1000;
    g_free(d->content);
    d->content = g_strdup("size=1 mtime=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "somebody else has changed the image");
    rig_free(r);
}

/* The state folder's files are older than the memory, which alone decides. */
static void test_files_rolled_back(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *file = NULL;
    g_autofree char *old = NULL;
    gsize length;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    file = rig_bits_file(r);
    g_assert_true(g_file_get_contents(file, &old, &length, NULL));
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    rig_change(d, bits, MIB, 1);
    rig_kill(r);
    g_free(file);
    file = rig_bits_file(r);
    g_assert_true(g_file_set_contents(file, old, (gssize)length, NULL));
    rig_start(r, 1);
    rig_expect(d, "b", 2 * 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    rig_free(r);
}

/* There is no /dev/shm: all works, and a crash counts as a power loss. */
static void test_none(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    memory_set_folder("/nonexistent");
    rig_start(r, 1);
    g_assert_null(r->store->memory);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, 0, 1);
    rig_restart(r, 1);
    g_assert_true(r->in_order);
    rig_expect(d, "b", 65536);
    bits[0] = rig_found(d, "b")->bits;
    rig_change(d, bits, 9 * MIB, 1);
    rig_kill(r);
    rig_start(r, 1);
    rig_expect(d, "b", 4 * MIB + 65536);
    rig_free(r);
}

/* ---- no memory is left ---- */

/* A file system in memory that only this process sees. False: skipped. */
static bool mount_small(const char *path, const char *options)
{
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        g_test_skip("file systems cannot be mounted here");
        return false;
    }
    g_assert_cmpint(mkdir(path, 0700), ==, 0);
    g_assert_cmpint(mount("tmpfs", path, "tmpfs", 0, options), ==, 0);
    return true;
}

static void fill_up(const char *path)
{
    g_autofree char *name = g_build_filename(path, "filler", NULL);
    static const char page[4096];
    int fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

    while (write(fd, page, sizeof page) == sizeof page)
        continue;
    g_assert_cmpint(errno, ==, ENOSPC);
    close(fd);
}

/* There is memory again, and a thread that had touched a page before others replaced it has set the bit
 * of 33 MiB in the file. */
static void set_in_file(struct store_rig *r, const char *path)
{
    g_autofree char *filler = g_build_filename(path, "filler", NULL);
    g_autofree char *bits = rig_memory_bits(r);
    int fd;

    g_assert_cmpint(g_unlink(filler), ==, 0);
    fd = open(bits, O_WRONLY | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, "\x01", 1, BIT_PAGE + 33 * MIB / 65536 / 8), ==, 1);
    close(fd);
}

static void full(struct store_rig *r, const char *path)
{
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    struct memory_left left;

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    fill_up(path);
    rig_change(d, bits, MIB, 1); /* goes on */
    rig_change(d, bits, 9 * MIB, 1);
    g_assert_cmpuint(bitmap_count(bits[0]), ==, 2 * 65536);
    left = memory_find(r->store->folder.uuid, r->store->run);
    g_assert_cmpint(left.kind, ==, MEMORY_INCOMPLETE);
    g_assert_null(left.files);
    close_regions(r);
    rig_change(d, bits, 17 * MIB, 1);
    set_in_file(r, path);
    rig_stop(r);
    g_assert_true(r->in_order);
    g_assert_cmpuint(d->broken->len, ==, 0);
}

static void test_full(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    g_autofree char *path = NULL;

    rig_start(r, 1);
    path = memory_path(r->store->folder.uuid);
    rig_stop(r);
    if (mount_small(path, "size=2m,mode=0700")) {
        full(r, path);
        g_assert_cmpint(umount(path), ==, 0);
        rig_start(r, 1);
        rig_expect(d, "b", 4 * 65536);
    }
    rig_free(r);
}

/* There is memory for bits, and none for the lines: these end with the process. */
static void no_room_for_lines(struct store_rig *r)
{
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};
    g_autofree char *live = NULL;

    rig_start(r, 1);
    live = rig_memory(r, STATE_LIVE);
    g_assert_false(g_file_test(live, G_FILE_TEST_EXISTS));
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, MIB, 1);
    close_regions(r);
    g_assert_false(memory_is_incomplete(r->store->memory));
    rig_stop(r);
    g_assert_true(r->in_order);
}

static void test_no_room_for_lines(void)
{
    struct store_rig *r = rig_new();
    g_autofree char *path = NULL;

    rig_start(r, 1);
    path = memory_path(r->store->folder.uuid);
    rig_stop(r);
    if (mount_small(path, "size=256k,mode=0700")) {
        no_room_for_lines(r);
        g_assert_cmpint(umount(path), ==, 0);
        rig_start(r, 1);
        rig_expect(&r->disks[0], "b", 65536);
    }
    rig_free(r);
}

static void kill_without_lines(struct store_rig *r)
{
    g_autofree char *live = NULL;

    rig_kill(r);
    live = rig_memory(r, STATE_LIVE);
    g_assert_cmpint(g_unlink(live), ==, 0);
}

/* The server dies, and there are no lines: it is not known when it changed the image last, but the
 * lease says until when it may have. */
static void test_no_lines(void)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    rig_change(d, bits, MIB, 1);
    kill_without_lines(r);
    rig_start(r, 1);
    rig_expect(d, "b", 65536);
    g_assert_cmpstr(d->recovered, ==, "exact");
    kill_without_lines(r);
    d->modified = (g_get_real_time() + 100 * G_USEC_PER_SEC) * 1000;
    g_free(d->content);
    d->content = g_strdup("size=1 mtime=77");
    rig_start(r, 1);
    rig_expect_inconsistent(d, "b", "somebody else has changed the image");
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-memory/sparse", test_sparse);
    g_test_add_func("/store-memory/lines", test_lines);
    g_test_add_func("/store-memory/written-again", test_written_again);
    g_test_add_func("/store-memory/gone", test_gone);
    g_test_add_func("/store-memory/gone/foreign-write", test_gone_and_foreign_write);
    g_test_add_func("/store-memory/run", test_server_another_run);
    g_test_add_func("/store-memory/one-missing", test_one_missing);
    g_test_add_func("/store-memory/incomplete", test_incomplete);
    g_test_add_func("/store-memory/rolled-back", test_files_rolled_back);
    g_test_add_func("/store-memory/none", test_none);
    g_test_add_func("/store-memory/full", test_full);
    g_test_add_func("/store-memory/no-room-for-lines", test_no_room_for_lines);
    g_test_add_func("/store-memory/no-lines", test_no_lines);
    return g_test_run();
}
