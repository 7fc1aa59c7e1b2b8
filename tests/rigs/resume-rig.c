/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/resume-rig.h"

#include "common/state/storage-dir.h"
#include "server/disk/disk-scratch.h"
#include "server/disk/view-chain.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- a disk ---- */

static void view_broken(void *opaque, const char *view, const char *disk, const char *reason)
{
    struct resume_rig *f = opaque;

    pthread_mutex_lock(&f->lock);
    f->broken++;
    pthread_cond_broadcast(&f->changed);
    pthread_mutex_unlock(&f->lock);
}

void resume_rig_wait_broken(struct resume_rig *f, unsigned n)
{
    pthread_mutex_lock(&f->lock);
    while (f->broken < n)
        pthread_cond_wait(&f->changed, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

void resume_rig_open(struct resume_rig *f)
{
    struct disk_state state = {.lasting = &f->lasting, .id = f->id};
    struct disk_events events = {.view_broken = view_broken, .opaque = f};
    GError *error = NULL;

    f->pool = scratch_pool_new(f->dir, 0, NULL, NULL);
    f->disk = disk_new(&(struct disk_config){.name = "vda",
                                             .backend = fake_backend_new_over(
                                                 SIZE, f->shared->bytes, f->shared->written),
                                             .scratch = f->pool,
                                             .events = &events},
                       &error);
    g_assert_no_error(error);
    f->disk->hooks = f->hooks.at ? &f->hooks : NULL;
    f->disk->holding.may_block = true; /* so that its files are gone when nobody holds it */
    disk_restore(f->disk, &state, NULL, 0);
}

void resume_rig_close(struct resume_rig *f)
{
    g_assert_true(disk_free(f->disk));
    g_assert_cmpuint(scratch_pool_used(f->pool), ==, 0);
    scratch_pool_free(f->pool);
}

void resume_rig_join(struct resume_rig *f, const char *shm, const char *dir, int fd)
{
    int folder = open(shm, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    g_assert_cmpint(folder, >=, 0);
    *f = (struct resume_rig){.shm = g_strdup(shm), .dir = g_strdup(dir), .fd = fd, .id = 7};
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->changed, NULL);
    f->memory = storage_dir_new_memory(f->shm, folder);
    f->lasting = (struct state_lasting){.memory = f->memory,
                                        .folder = "11112222-0000-4000-8000-000000000000",
                                        .boot_id = "boot",
                                        .run = 100};
    f->shared = mmap(NULL, sizeof *f->shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    g_assert_true(f->shared != MAP_FAILED);
}

void resume_rig_init(struct resume_rig *f)
{
    g_autofree char *shm = g_dir_make_tmp("resume-memory-XXXXXX", NULL);
    g_autofree char *dir = g_dir_make_tmp("resume-scratch-XXXXXX", NULL);
    int fd = memfd_create("resume", 0);

    g_assert_true(shm && dir && fd >= 0);
    g_assert_cmpint(ftruncate(fd, sizeof *f->shared), ==, 0);
    resume_rig_join(f, shm, dir, fd);
    g_assert_cmpint(f->memory->ops->make_folder(f->memory, "views"), ==, 0);
}

unsigned count_files(const char *dir)
{
    GDir *d = g_dir_open(dir, 0, NULL);
    unsigned n = 0;

    while (d && g_dir_read_name(d))
        n++;
    if (d)
        g_dir_close(d);
    return n;
}

unsigned resume_rig_count_lasting(const struct resume_rig *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    return count_files(views);
}

void resume_rig_clear(struct resume_rig *f)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);

    g_assert_cmpuint(count_files(views), ==, 0);
    g_assert_cmpuint(count_files(f->dir), ==, 0);
    f->memory->ops->free(f->memory);
    g_assert_cmpint(g_rmdir(views), ==, 0);
    g_assert_cmpint(g_rmdir(f->shm), ==, 0);
    g_assert_cmpint(g_rmdir(f->dir), ==, 0);
    g_free(f->shm);
    g_free(f->dir);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->changed);
    munmap(f->shared, sizeof *f->shared);
    close(f->fd);
}

void resume_rig_next_run(struct resume_rig *f)
{
    f->lasting.run_before = f->lasting.run;
    f->lasting.run++;
}

void resume_rig_resume(struct resume_rig *f)
{
    resume_rig_next_run(f);
    f->hooks.at = NULL;
    resume_rig_open(f);
    disk_resume_views(f->disk);
    resume_rig_started(f);
}

void resume_rig_started(struct resume_rig *f)
{
    disks_remove_left(&(GPtrArray){.pdata = (gpointer *)&f->disk, .len = 1});
}

struct view *resume_rig_view(struct resume_rig *f, const char *name)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);

    for (unsigned k = 0; k < views->len; k++)
        if (g_str_equal(view_name(views->pdata[k]), name))
            return views->pdata[k];
    return NULL;
}

struct view *resume_rig_take(struct resume_rig *f, const char *name)
{
    struct view_options options = {.on_error = CBW_BREAK_SNAPSHOT};
    struct instant *i = instant_new();
    GError *error = NULL;
    struct view *v;

    instant_view_create(i, f->disk, name, &options, &v, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
    return v;
}

struct node_io *resume_rig_io(struct node *node, bool writable)
{
    struct node_io *io;
    GError *error = NULL;

    node_io_open(node, writable, true, NULL, &io, &error);
    g_assert_no_error(error);
    return io;
}

void resume_rig_write(struct resume_rig *f, unsigned block, char byte)
{
    struct node_io *io = resume_rig_io(disk_node(f->disk), true);
    g_autofree char *buf = g_malloc(BLOCK);

    memset(buf, byte, BLOCK);
    g_assert_cmpint(node_write(io, buf, BLOCK, (uint64_t)block * BLOCK, 0), ==, 0);
    node_io_close(io);
}

void resume_rig_delete_all(struct resume_rig *f)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);
    GError *error = NULL;

    for (unsigned k = 0; k < views->len; k++) {
        view_delete(views->pdata[k], &error);
        g_assert_no_error(error);
    }
}

void resume_rig_fill(struct resume_rig *f)
{
    for (unsigned b = 0; b < BLOCKS; b++)
        memset(f->shared->bytes + (uint64_t)b * BLOCK, (int)(b % 250) + 1,
               MIN(BLOCK, SIZE - (uint64_t)b * BLOCK));
    memset(f->shared->written, true, sizeof f->shared->written);
}

bool resume_rig_block_is(struct resume_rig *f, const char *view, unsigned block, char byte)
{
    struct view *v = resume_rig_view(f, view);

    g_assert_nonnull(v);
    return node_is(view_node(v), (uint64_t)block * BLOCK, BLOCK, byte);
}

void resume_rig_die(struct resume_rig *f)
{
    f->disk->keeps = true;
    if (f->disk->scratch)
        scratch_keep(f->disk->scratch);
    resume_rig_close(f);
}

/* ---- what a process leaves ---- */

int left_open(struct resume_rig *f, const char *name, struct lasting_head *head)
{
    g_autofree char *views = g_build_filename(f->shm, "views", NULL);
    GDir *d = g_dir_open(views, 0, NULL);
    const char *id;
    int found = -1;

    while (found < 0 && (id = g_dir_read_name(d))) {
        g_autofree char *path = g_build_filename(views, id, NULL);
        int fd = open(path, O_RDWR | O_CLOEXEC);

        g_assert_cmpint(fd, >=, 0);
        g_assert_cmpint(pread(fd, head, sizeof *head, 0), ==, sizeof *head);
        if (head->kind == LASTING_VIEW ? g_str_equal(head->view.name, name)
                                       : g_str_equal(name, "scratch"))
            found = fd;
        else
            close(fd);
    }
    g_dir_close(d);
    g_assert_cmpint(found, >=, 0);
    return found;
}

static off_t entry_at(unsigned block)
{
    return LASTING_PAGE + (off_t)block * (off_t)sizeof(uint32_t);
}

uint32_t left_entry(struct resume_rig *f, const char *name, unsigned block)
{
    struct lasting_head head;
    int fd = left_open(f, name, &head);
    uint32_t entry;

    g_assert_cmpint(pread(fd, &entry, sizeof entry, entry_at(block)), ==, sizeof entry);
    close(fd);
    return entry;
}

void left_set_entry(struct resume_rig *f, const char *name, unsigned block, uint32_t entry)
{
    struct lasting_head head;
    int fd = left_open(f, name, &head);

    g_assert_cmpint(pwrite(fd, &entry, sizeof entry, entry_at(block)), ==, sizeof entry);
    close(fd);
}

void left_set_head(int fd, const struct lasting_head *head)
{
    g_assert_cmpint(pwrite(fd, head, sizeof *head, 0), ==, sizeof *head);
    close(fd);
}

void resume_rig_leave_two(struct resume_rig *f)
{
    resume_rig_init(f);
    resume_rig_fill(f);
    resume_rig_open(f);
    resume_rig_take(f, "a");
    resume_rig_write(f, 5, 0x7f);
    resume_rig_take(f, "b");
    resume_rig_write(f, 0, 0x7f);
    resume_rig_write(f, 1, 0x7f);
    resume_rig_die(f);
}

unsigned resume_rig_count(struct resume_rig *f)
{
    g_autoptr(GPtrArray) views = NULL;

    resume_rig_resume(f);
    views = disk_views(f->disk);
    return views->len;
}

void resume_rig_end(struct resume_rig *f)
{
    resume_rig_delete_all(f);
    resume_rig_close(f);
    resume_rig_clear(f);
}
