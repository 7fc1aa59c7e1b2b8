/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model test: guests write, views are made and deleted, bitmaps come and go, all at random and
 * at once, and everything is compared with a simple model (model.h says how).
 *
 *   FLEECE_SEED       the seed; without it the test chooses one, and prints it. Threads have no
 *                     seed, so it repeats the plan, not the run.
 *   FLEECE_MODEL_OPS  guest requests, all guests together
 *   FLEECE_LONG       many more of them
 */
#include "tests/rigs/model.h"

#include <glib/gstdio.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#if defined __SANITIZE_THREAD__
#define DEFAULT_OPS 15000u
#elif defined __SANITIZE_ADDRESS__
#define DEFAULT_OPS 80000u
#else
#define DEFAULT_OPS 150000u
#endif
#define LONG_TIMES 50u

/* Sizes that fit no unit, units from one byte up (which guests do not keep to), two disks of one
 * size for merges between them. */
static const struct {
    uint64_t size, room;
    uint32_t min_block;
    bool multi_conn;
} shapes[] = {
    {300 * 1024 + 77, 500 * 1024, 1, true},
    {1 << 20, 1 << 20, 512, false},
    {1 << 20, 2 << 20, 4096, true},
    {9 * 65536 + 16384, 640 * 1024, 16384, false},
    {(4 << 20) + 301 * 512, 5 << 20, 512, true},
};

static void view_broken(void *opaque, const char *view, const char *disk, const char *reason)
{
    struct model *m = opaque;

    pthread_mutex_lock(&m->told_lock);
    if (!g_hash_table_add(m->broken_told, g_strdup(view)))
        model_fail(m, NULL, 0, "%s of %s breaks again: %s", view, disk, reason);
    pthread_mutex_unlock(&m->told_lock);
}

static void disk_init(struct model *m, unsigned index)
{
    struct model_disk *d = &m->disks[index];
    g_autofree char *name = g_strdup_printf("disk%u", index);
    const struct disk_events events = {.view_broken = view_broken, .opaque = m};
    g_autoptr(GError) error = NULL;

    d->model = m;
    d->index = index;
    d->min_block = shapes[index].min_block;
    d->room = shapes[index].room;
    d->backend = fake_backend_new(shapes[index].size);
    fake_backend_set_min_block(d->backend, d->min_block);
    fake_backend_set_multi_conn(d->backend, shapes[index].multi_conn);
    fake_backend_set_hook(d->backend, model_backend_hook, d);
    d->disk = disk_new(
        &(struct disk_config){
            .name = name, .backend = d->backend, .scratch = m->pool, .events = &events},
        &error);
    g_assert_no_error(error);
    d->hooks = (struct disk_hooks){.at = model_at, .opaque = d};
    d->disk->hooks = &d->hooks;
    if (index > 0) /* an instant may be over disks of which some have no store */
        model_add_store(d);
    d->now = image_new(shapes[index].size, d->room);
    d->views = g_ptr_array_new();
    d->bitmaps = g_ptr_array_new();
    d->frozen = g_ptr_array_new_with_free_func(model_bitmap_free);
    for (unsigned g = 0; g < GUESTS; g++)
        d->logs[g] = g_new0(struct op_log, 1);
    guests_settle(d, &m->noise);
}

static void disk_clear(struct model_disk *d)
{
    while (d->views->len > 0)
        model_view_delete(d->views->pdata[noise_below(&d->model->noise, d->views->len)]);
    disk_free(d->disk);
    image_free(d->now);
    g_ptr_array_unref(d->views);
    g_ptr_array_set_free_func(d->bitmaps, model_bitmap_free);
    g_ptr_array_unref(d->bitmaps);
    g_ptr_array_unref(d->frozen);
    for (unsigned g = 0; g < GUESTS; g++) {
        g_free(d->logs[g]);
        g_array_unref(d->runs[g]);
    }
}

/* ---- standing still ---- */

static void pause_guests(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    m->pause = true;
    atomic_store(&m->paused, true);
    pthread_mutex_unlock(&m->lock);
    model_catch_up_all(m); /* so that whoever waits for room in a log looks up */
    pthread_mutex_lock(&m->lock);
    while (m->parked < m->running)
        pthread_cond_wait(&m->changed, &m->lock);
    pthread_mutex_unlock(&m->lock);
    model_catch_up_all(m);
}

static void resume_guests(struct model *m)
{
    pthread_mutex_lock(&m->lock);
    m->pause = false;
    atomic_store(&m->paused, false);
    pthread_cond_broadcast(&m->changed);
    pthread_mutex_unlock(&m->lock);
}

static void check_live(struct model_disk *d)
{
    g_autofree char *buf = g_malloc(d->now->size);

    fake_backend_peek(d->backend, buf, d->now->size, 0);
    for (uint64_t i = 0; memcmp(buf, d->now->data, d->now->size) != 0; i++)
        if (buf[i] != d->now->data[i])
            model_fail(d->model, d, i, "disk %u is not what was written, at %" PRIu64, d->index, i);
}

/* Guests are parked or gone. */
static void check_all(struct model *m)
{
    for (unsigned i = 0; i < m->n_disks; i++) {
        check_live(&m->disks[i]);
        model_check_bitmaps(&m->disks[i], true);
    }
    model_check_views(m);
}

/* ---- the control thread ---- */

static void toggle_busy(struct model *m)
{
    struct model_disk *d = model_random_disk(m, &m->noise);
    struct model_bitmap *b;

    if (d->bitmaps->len == 0)
        return;
    b = d->bitmaps->pdata[noise_below(&m->noise, d->bitmaps->len)];
    if (g_str_has_prefix(b->name, "chain"))
        return;
    if (b->busy)
        dirty_bitmap_busy_end(b->db);
    else
        dirty_bitmap_busy_begin(b->db);
    b->busy = !b->busy;
}

static void delete_some_view(struct model *m)
{
    struct model_disk *d = model_random_disk(m, &m->noise);

    if (d->views->len > 0)
        model_view_delete(d->views->pdata[noise_below(&m->noise, d->views->len)]);
}

static void control_step(struct model *m, struct chain *chain)
{
    uint64_t x = noise_below(&m->noise, 1000);

    if (x < 550) {
        model_transaction(m);
    } else if (x < 850) {
        delete_some_view(m);
    } else if (x < 890) {
        toggle_busy(m);
    } else if (x < 910) {
        model_resize(model_random_disk(m, &m->noise));
    } else if (x < 925) {
        chain_step(chain);
    } else if (x < 945) {
        pause_guests(m);
        check_all(m);
        resume_guests(m);
    } else if (x < 970) {
        atomic_store(&m->fault_rate, atomic_load(&m->fault_rate) ? 0 : 100);
    }
    model_catch_up_all(m);
}

static bool guests_running(struct model *m)
{
    bool running;

    pthread_mutex_lock(&m->lock);
    running = m->running > 0;
    pthread_mutex_unlock(&m->lock);
    return running;
}

static void run(struct model *m)
{
    struct guest guests[GUESTS] = {0};
    struct reader readers[READERS] = {0};
    struct chain *chain = chain_new(m);
    uint64_t failed = 0;

    m->running = GUESTS;
    for (unsigned i = 0; i < GUESTS; i++) {
        guests[i] = (struct guest){.model = m, .index = i, .quota = m->ops / GUESTS};
        guests[i].noise.state = noise_next(&m->noise);
        guests[i].thread = g_thread_new("guest", guest_main, &guests[i]);
    }
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].model = m;
        readers[i].noise.state = noise_next(&m->noise);
        readers[i].thread = g_thread_new("reader", reader_main, &readers[i]);
    }
    while (guests_running(m))
        control_step(m, chain);
    for (unsigned i = 0; i < GUESTS; i++) {
        g_thread_join(guests[i].thread);
        failed += guests[i].failed;
    }
    model_catch_up_all(m);
    check_all(m);
    atomic_store(&m->ending, true);
    for (unsigned i = 0; i < READERS; i++)
        g_thread_join(readers[i].thread);
    g_test_message("%" PRIu64 " requests (%" PRIu64 " failed), %u instants, %u views, %u rounds of "
                   "copies, %" PRIu64 " checks by readers, %u faults, %u instants not committed",
                   m->ops, failed, m->instants, m->views_made, chain_rounds(chain),
                   atomic_load(&m->checks), atomic_load(&m->faults), m->not_committed);
    chain_free(chain);
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = g_getenv(variable);

    return text && text[0] ? g_ascii_strtoull(text, NULL, 10) : otherwise;
}

static void test_model(void)
{
    struct model *m = g_new0(struct model, 1);
    uint64_t ops = g_getenv("FLEECE_LONG") ? DEFAULT_OPS * LONG_TIMES : DEFAULT_OPS;

    m->seed = number_from("FLEECE_SEED", (uint64_t)g_test_rand_int() & INT32_MAX);
    m->ops = number_from("FLEECE_MODEL_OPS", ops);
    m->noise.state = m->seed;
    g_test_message("FLEECE_SEED=%" PRIu64, m->seed);
    m->dir = g_dir_make_tmp("fleece-model-XXXXXX", NULL);
    m->pool = scratch_pool_new(m->dir, 0, NULL, NULL);
    pthread_mutex_init(&m->lock, NULL);
    pthread_cond_init(&m->changed, NULL);
    pthread_mutex_init(&m->told_lock, NULL);
    m->broken_told = g_hash_table_new_full(g_str_hash, g_str_equal, g_free, NULL);
    m->n_disks = G_N_ELEMENTS(shapes);
    for (unsigned i = 0; i < m->n_disks; i++)
        disk_init(m, i);

    run(m);

    for (unsigned i = 0; i < m->n_disks; i++)
        disk_clear(&m->disks[i]);
    g_assert_cmpuint(scratch_pool_used(m->pool), ==, 0);
    scratch_pool_free(m->pool);
    g_rmdir(m->dir);
    g_free(m->dir);
    g_queue_clear_full(&m->plan, g_free);
    g_hash_table_unref(m->broken_told);
    pthread_mutex_destroy(&m->told_lock);
    pthread_mutex_destroy(&m->lock);
    pthread_cond_destroy(&m->changed);
    g_free(m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/disk/model", test_model);
    return g_test_run();
}
