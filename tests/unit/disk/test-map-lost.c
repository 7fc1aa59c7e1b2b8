/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views whose map was cut short. Another thread breaks them, and may be late: whoever asks a view before
 * has to see for himself that the map is gone. Here that thread stands still until all has been asked.
 */
#include "common/state/storage-dir.h"
#include "server/disk/lasting.h"
#include "tests/rigs/fake-store.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <unistd.h>

/* Until a thread has broken a view: ten times what a busy machine needs. */
#define WAIT_USEC (60 * G_USEC_PER_SEC)

/* Views a, b and c of a disk, each older than the next. Block 0 was kept by b, for a as well. */
struct fixture {
    char *shm; /* the memory folder */
    struct storage *memory;
    struct state_lasting lasting;
    struct fake_store *store;
    struct rig *rig; /* the store's */
    struct view *a, *b, *c;
    GAsyncQueue *broken; /* names of views that have broken; g_free */
};

static void note_broken(void *opaque, const char *view, const char *disk, const char *reason)
{
    g_async_queue_push(opaque, g_strdup(view));
}

static void open_memory(struct fixture *f)
{
    int folder;

    f->shm = g_dir_make_tmp("map-lost-XXXXXX", NULL);
    g_assert_nonnull(f->shm);
    folder = open(f->shm, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    g_assert_cmpint(folder, >=, 0);
    f->memory = storage_dir_new_memory(f->shm, folder);
    g_assert_cmpint(f->memory->ops->make_folder(f->memory, "views"), ==, 0);
    f->lasting = (struct state_lasting){.memory = f->memory,
                                        .folder = "11112222-0000-4000-8000-000000000000",
                                        .boot_id = "boot",
                                        .run = 1};
}

static void setup(struct fixture *f)
{
    open_memory(f);
    f->broken = g_async_queue_new_full(g_free);
    f->store = fake_store_new();
    f->rig = f->store->rig;
    f->rig->disk->events = (struct disk_events){.view_broken = note_broken, .opaque = f->broken};
    f->rig->disk->state.lasting = &f->lasting;
    rig_fill(f->rig, 0, 8192, 'x');
    f->a = rig_view(f->rig, "a", CBW_BREAK_SNAPSHOT, 0);
    f->b = rig_view(f->rig, "b", CBW_BREAK_SNAPSHOT, 0);
    rig_fill(f->rig, 0, 4096, 'y');
    f->c = rig_view(f->rig, "c", CBW_BREAK_SNAPSHOT, 0);
}

static void teardown(struct fixture *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    fake_store_free(f->store);
    g_async_queue_unref(f->broken);
    f->memory->ops->free(f->memory);
    g_assert_cmpint(g_rmdir(views), ==, 0);
    g_assert_cmpint(g_rmdir(f->shm), ==, 0);
    g_free(f->shm);
}

/* The first who touches the map of b finds that it is gone. */
static void cut_short(struct fixture *f)
{
    park_arm(f->rig, POINT_MAP_LOST, ANYWHERE);
    g_assert_cmpint(ftruncate(f->b->file->fd, 0), ==, 0);
}

static void expect_broken(struct fixture *f, const char *name)
{
    g_autofree char *broken = g_async_queue_timeout_pop(f->broken, WAIT_USEC);

    g_assert_cmpstr(broken, ==, name);
}

static void let_break(struct fixture *f)
{
    park_wait(f->rig);
    g_assert_cmpint(g_async_queue_length(f->broken), ==, 0);
    park_release(f->rig);
    expect_broken(f, "a");
    expect_broken(f, "b");
    g_assert_false(view_is_broken(f->c));
}

static void test_read(void)
{
    struct fixture f;

    setup(&f);
    cut_short(&f);
    g_assert_cmpint(rig_try_read(f.b, 0, 4096), ==, -EIO);
    g_assert_cmpint(rig_try_read(f.a, 0, 4096), ==, -EIO);
    assert_view(f.c, 0, 4096, 'y');
    let_break(&f);
    teardown(&f);
}

static int ask(struct view *v)
{
    struct extents e = EXTENTS_INIT;
    struct node_io *io;
    int error;

    g_assert_cmpint(node_io_open(view_node(v), false, false, NULL, &io, NULL), ==, 0);
    error = node_extents(io, 8192, 0, 0, &e);
    node_io_close(io);
    extents_free(&e);
    return error;
}

static void test_status(void)
{
    struct fixture f;

    setup(&f);
    cut_short(&f);
    g_assert_cmpint(ask(f.b), ==, -EIO);
    g_assert_cmpint(ask(f.a), ==, -EIO);
    g_assert_cmpint(ask(f.c), ==, 0);
    let_break(&f);
    teardown(&f);
}

/* It leaves the chain before the other thread comes. The older one breaks with it, the newer one does not. */
static void test_deleted(void)
{
    struct fixture f;
    unsigned phase;

    setup(&f);
    cut_short(&f);
    g_assert_cmpint(rig_try_read(f.b, 0, 4096), ==, -EIO);
    park_wait(f.rig);
    phase = grace_enter(&f.rig->disk->readers); /* so b's memory stays, which that thread uses */
    rig_delete(f.rig, f.b);
    expect_broken(&f, "b");
    expect_broken(&f, "a");
    park_release(f.rig);
    grace_leave(&f.rig->disk->readers, phase);
    g_assert_false(view_is_broken(f.c));
    teardown(&f);
}

static void lose_newest(struct fake_store *s, void *opaque)
{
    struct fixture *f = opaque;

    g_assert_cmpint(ftruncate(atomic_load(&f->rig->disk->newest)->file->fd, 0), ==, 0);
    rig_fill(f->rig, 4096, 4096, 'z'); /* is kept into it */
    expect_broken(f, "a");
    expect_broken(f, "b");
    expect_broken(f, "c");
    expect_broken(f, "d");
}

static char *some_text(void *opaque)
{
    return g_strdup("text");
}

/* A view whose instant waits for the store keeps blocks, and is in no list yet. */
static void test_unpublished(void)
{
    const struct state_record record = {.kind = "test", .name = "x", .text = some_text};
    const struct view_options options = {.on_error = CBW_BREAK_SNAPSHOT};
    struct instant *i = instant_new();
    struct fixture f;
    struct view *d;

    setup(&f);
    f.store->committing = lose_newest;
    f.store->opaque = &f;
    g_assert_cmpint(instant_view_create(i, f.rig->disk, "d", &options, &d, NULL), ==, 0);
    g_assert_cmpint(instant_record(i, f.rig->disk, &record, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    g_assert_true(view_is_broken(d));
    f.store->committing = NULL;
    teardown(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/map-lost/read", test_read);
    g_test_add_func("/map-lost/status", test_status);
    g_test_add_func("/map-lost/deleted", test_deleted);
    g_test_add_func("/map-lost/unpublished", test_unpublished);
    return g_test_run();
}
