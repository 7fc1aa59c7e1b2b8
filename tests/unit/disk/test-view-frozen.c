/* SPDX-License-Identifier: BSD-3-Clause */
/* The map of a session that is kept with its view, and had back. */
#include "common/state/storage-dir.h"
#include "server/disk/lasting.h"
#include "server/disk/view-frozen.h"
#include "tests/rigs/disk-harness.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

#define SIZE  (100 * MIB + 1000) /* of bits: more than six pages of them in the file */
#define GRAIN 512u
#define PAGE  (4096u * 8 * GRAIN) /* bytes of the disk */

struct fixture {
    char *shm;
    struct storage *memory;
    struct state_lasting lasting;
    struct rig *rig;
    struct view *view;
};

static void setup(struct fixture *f)
{
    struct disk_state state = {.lasting = &f->lasting, .id = 7};
    GError *error = NULL;

    f->shm = g_dir_make_tmp("frozen-XXXXXX", &error);
    g_assert_no_error(error);
    f->memory = storage_dir_new_memory(f->shm, open(f->shm, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    g_assert_cmpint(f->memory->ops->make_folder(f->memory, "views"), ==, 0);
    f->lasting = (struct state_lasting){.memory = f->memory,
                                        .folder = "11112222-0000-4000-8000-000000000000",
                                        .boot_id = "boot",
                                        .run = 100};
    f->rig = rig_new(SIZE, 0);
    disk_restore(f->rig->disk, &state, NULL, 0);
    f->view = rig_view(f->rig, "v", CBW_BREAK_SNAPSHOT, 0);
    g_assert_nonnull(f->view->file);
}

static void teardown(struct fixture *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    rig_delete(f->rig, f->view);
    rig_free(f->rig);
    f->memory->ops->free(f->memory);
    g_assert_cmpint(g_rmdir(views), ==, 0);
    g_assert_cmpint(g_rmdir(f->shm), ==, 0);
    g_free(f->shm);
}

static void assert_equal(const struct bitmap *a, const struct bitmap *b)
{
    g_assert_cmpuint(bitmap_size(a), ==, bitmap_size(b));
    g_assert_cmpuint(bitmap_granularity(a), ==, bitmap_granularity(b));
    for (uint64_t w = 0; w < bitmap_words(bitmap_size(a), bitmap_granularity(a)); w++)
        g_assert_cmphex(bitmap_word(a, w), ==, bitmap_word(b, w));
}

/* Bytes of the file behind the map that are no hole. */
static uint64_t kept_bytes(const struct fixture *f)
{
    const struct lasting *file = f->view->file;
    uint64_t kept = 0;
    off_t hole, data = lseek(file->fd, (off_t)file->mapped, SEEK_DATA);

    for (; data >= 0; data = lseek(file->fd, hole, SEEK_DATA)) {
        hole = lseek(file->fd, data, SEEK_HOLE);
        kept += (uint64_t)(hole - data);
    }
    return kept;
}

struct run {
    uint64_t offset, length;
};

static void check(const struct run *runs, unsigned n, unsigned pages)
{
    struct fixture f = {0};
    struct bitmap *bits = bitmap_new(SIZE, GRAIN, NULL), *back;
    struct dirty_bitmap *frozen, *found;

    setup(&f);
    for (unsigned i = 0; i < n; i++)
        bitmap_set(bits, runs[i].offset, runs[i].length);
    frozen = dirty_bitmap_new("map", bitmap_ref(bits), false);
    g_assert_cmpint(view_keep_frozen(f.view, frozen, NULL), ==, 0);
    g_assert_cmpuint(kept_bytes(&f), <=, pages * 4096u);
    found = view_frozen(f.view, NULL);
    back = dirty_bitmap_bits(found);
    assert_equal(bits, back);
    bitmap_unref(back);
    dirty_bitmap_unref(found);
    dirty_bitmap_unref(frozen);
    bitmap_unref(bits);
    teardown(&f);
}

static void test_clean(void)
{
    check(NULL, 0, 0);
}

/* Only what is dirty takes memory. */
static void test_pieces(void)
{
    check((struct run[]){{0, 1}}, 1, 1);
    check((struct run[]){{PAGE - 1, 2}}, 1, 2);
    check((struct run[]){{PAGE + 5000, 1}, {2 * PAGE - 5000, 1}, {4 * PAGE, GRAIN}}, 3, 2);
    check((struct run[]){{SIZE - 1, 1}}, 1, 1);
    check((struct run[]){{PAGE - GRAIN, 3 * PAGE}, {5 * PAGE - GRAIN, GRAIN}}, 2, 5);
}

static void test_all(void)
{
    check((struct run[]){{0, SIZE}}, 1, 7);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view-frozen/clean", test_clean);
    g_test_add_func("/view-frozen/pieces", test_pieces);
    g_test_add_func("/view-frozen/all", test_all);
    return g_test_run();
}
