/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <string.h>

static int at_point(void *opaque, enum disk_point point, uint64_t offset)
{
    struct rig *r = opaque;
    struct park *p = &r->park;

    if (point == POINT_SCRATCH_WRITE && atomic_load(&r->failing_scratch_writes) > 0 &&
        atomic_fetch_sub(&r->failing_scratch_writes, 1) > 0)
        return -EIO;
    if (r->visit)
        r->visit(r, point);
    pthread_mutex_lock(&p->lock);
    if (p->armed && p->point == point && (p->offset == offset || p->offset == ANYWHERE)) {
        p->armed = false;
        p->reached = true;
        pthread_cond_broadcast(&p->changed);
        while (!p->released)
            pthread_cond_wait(&p->changed, &p->lock);
    }
    pthread_mutex_unlock(&p->lock);
    return 0;
}

void park_arm(struct rig *r, enum disk_point point, uint64_t offset)
{
    struct park *p = &r->park;

    pthread_mutex_lock(&p->lock);
    p->point = point;
    p->offset = offset;
    p->armed = true;
    p->reached = p->released = false;
    pthread_mutex_unlock(&p->lock);
}

void park_wait(struct rig *r)
{
    struct park *p = &r->park;

    pthread_mutex_lock(&p->lock);
    while (!p->reached)
        pthread_cond_wait(&p->changed, &p->lock);
    pthread_mutex_unlock(&p->lock);
}

void park_release(struct rig *r)
{
    struct park *p = &r->park;

    pthread_mutex_lock(&p->lock);
    p->released = true;
    pthread_cond_broadcast(&p->changed);
    pthread_mutex_unlock(&p->lock);
}

static void view_broken(void *opaque, const char *view, const char *disk, const char *reason)
{
    struct rig *r = opaque;

    g_strlcpy(r->broken_view, view, sizeof r->broken_view);
    atomic_fetch_add(&r->broken_events, 1);
}

static void bitmap_inconsistent(void *opaque, const char *disk, const char *bitmap,
                                const char *reason)
{
    struct rig *r = opaque;

    g_snprintf(r->inconsistent, sizeof r->inconsistent, "%s/%s: %s", disk, bitmap, reason);
    atomic_fetch_add(&r->inconsistent_events, 1);
}

struct rig *rig_new(uint64_t size, uint64_t scratch_limit)
{
    return rig_new_blocks(size, scratch_limit, 1);
}

struct rig *rig_new_blocks(uint64_t size, uint64_t scratch_limit, uint32_t min_block)
{
    struct backend *backend = fake_backend_new(size);

    fake_backend_set_min_block(backend, min_block);
    return rig_new_over(backend, scratch_limit);
}

struct rig *rig_new_over(struct backend *backend, uint64_t scratch_limit)
{
    struct rig *r = g_new0(struct rig, 1);
    struct disk_events events = {
        .view_broken = view_broken, .bitmap_inconsistent = bitmap_inconsistent, .opaque = r};
    GError *error = NULL;

    pthread_mutex_init(&r->park.lock, NULL);
    pthread_cond_init(&r->park.changed, NULL);
    r->pool = scratch_pool_new(g_get_tmp_dir(), scratch_limit, NULL, NULL);
    r->backend = backend;
    r->disk = disk_new(
        &(struct disk_config){
            .name = "vda", .backend = r->backend, .scratch = r->pool, .events = &events},
        &error);
    g_assert_no_error(error);
    r->hooks = (struct disk_hooks){.at = at_point, .opaque = r};
    r->disk->hooks = &r->hooks;
    node_io_open(disk_node(r->disk), true, false, NULL, &r->io, &error);
    g_assert_no_error(error);
    return r;
}

void rig_free(struct rig *r)
{
    node_io_close(r->io);
    g_assert_true(disk_free(r->disk));
    g_assert_cmpuint(scratch_pool_used(r->pool), ==, 0);
    scratch_pool_free(r->pool);
    pthread_mutex_destroy(&r->park.lock);
    pthread_cond_destroy(&r->park.changed);
    g_free(r);
}

struct view *rig_view(struct rig *r, const char *name, enum cbw_error on_error, uint64_t limit)
{
    struct view_options options = {.on_error = on_error, .scratch_limit = limit};
    struct instant *i = instant_new();
    GError *error = NULL;
    struct view *v;

    instant_view_create(i, r->disk, name, &options, &v, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
    return v;
}

void rig_delete(struct rig *r, struct view *v)
{
    GError *error = NULL;

    view_delete(v, &error);
    g_assert_no_error(error);
}

uint64_t rig_kept(struct view *v)
{
    struct view_info info;

    view_info(v, &info);
    return info.scratch_bytes;
}

bool view_is_broken(struct view *v)
{
    struct view_info info;

    view_info(v, &info);
    return info.broken;
}

void rig_bitmap(struct rig *r, const char *name, uint32_t granularity)
{
    struct instant *i = instant_new();
    GError *error = NULL;

    instant_bitmap_add(i, r->disk, name, granularity, true, false, &error);
    g_assert_no_error(error);
    instant_commit(i, &error);
    g_assert_no_error(error);
}

uint64_t rig_count(struct rig *r, const char *bitmap)
{
    struct dirty_bitmap *db = disk_find_bitmap(r->disk, bitmap);
    struct dirty_bitmap_info info;

    g_assert_nonnull(db);
    dirty_bitmap_info(db, &info);
    dirty_bitmap_unref(db);
    return info.count;
}

int rig_try_fill(struct rig *r, uint64_t offset, uint64_t length, char byte)
{
    g_autofree char *buf = g_malloc(length);

    memset(buf, byte, length);
    return node_write(r->io, buf, (uint32_t)length, offset, 0);
}

void rig_fill(struct rig *r, uint64_t offset, uint64_t length, char byte)
{
    g_assert_cmpint(rig_try_fill(r, offset, length, byte), ==, 0);
}

/* What a client of the node reads; returns what node_read does. */
static int read_node(struct node *n, void *buf, uint64_t offset, uint64_t length)
{
    struct node_io *io;
    GError *error = NULL;
    int result;

    node_io_open(n, false, false, NULL, &io, &error);
    g_assert_no_error(error);
    result = node_read(io, buf, (uint32_t)length, offset, 0);
    node_io_close(io);
    return result;
}

bool node_is(struct node *n, uint64_t offset, uint64_t length, char byte)
{
    g_autofree char *buf = g_malloc(length);

    g_assert_cmpint(read_node(n, buf, offset, length), ==, 0);
    for (uint64_t i = 0; i < length; i++)
        if (buf[i] != byte)
            return false;
    return true;
}

int rig_try_read(struct view *v, uint64_t offset, uint32_t length)
{
    g_autofree char *buf = g_malloc(length);

    return read_node(view_node(v), buf, offset, length);
}

void assert_view_bytes(struct view *v, uint64_t offset, uint64_t length, const char *bytes)
{
    g_autofree char *buf = g_malloc(length);

    g_assert_cmpint(read_node(view_node(v), buf, offset, length), ==, 0);
    g_assert_cmpmem(buf, length, bytes, length);
}

struct task {
    struct rig *rig;
    struct view *view;
    uint64_t offset, length;
    char byte;
};

static gpointer fill_task(gpointer p)
{
    g_autofree struct task *t = p;

    rig_fill(t->rig, t->offset, t->length, t->byte);
    return NULL;
}

static gpointer check_task(gpointer p)
{
    g_autofree struct task *t = p;

    assert_view(t->view, t->offset, t->length, t->byte);
    return NULL;
}

static struct task *task_new(struct rig *r, struct view *v, uint64_t offset, uint64_t length,
                             char byte)
{
    struct task *t = g_new0(struct task, 1);

    *t = (struct task){r, v, offset, length, byte};
    return t;
}

GThread *rig_fill_thread(struct rig *r, uint64_t offset, uint64_t length, char byte)
{
    return g_thread_new("writer", fill_task, task_new(r, NULL, offset, length, byte));
}

GThread *rig_check_thread(struct view *v, uint64_t offset, uint64_t length, char byte)
{
    return g_thread_new("reader", check_task, task_new(NULL, v, offset, length, byte));
}
