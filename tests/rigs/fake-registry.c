/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/fake-registry-private.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct trap {
    bool held;
    int error;
};

struct dirty_bitmap {
    gint refs;
    char *name;
    uint64_t run;
    gint broken;
};

/* ---- scripting ---- */

static void thread_ended(void *server)
{
    struct server *s = server;

    pthread_mutex_lock(&s->lock);
    s->threads_ended++;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void fake_wait_threads_ended(struct server *s, unsigned n)
{
    pthread_mutex_lock(&s->lock);
    while (s->threads_ended < n)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

struct server *fake_new(void)
{
    struct server *s = g_new0(struct server, 1);

    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    pthread_key_create(&s->thread_end, thread_ended);
    s->exports = g_ptr_array_new();
    s->traps = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    return s;
}

void fake_free(struct server *s)
{
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = g_ptr_array_index(s->exports, i);
        g_assert_cmpint(e->clients.length, ==, 0);
        export_unref(e);
    }
    g_assert_cmpuint(s->counts.opens, ==, s->counts.closes);
    g_ptr_array_unref(s->exports);
    g_hash_table_unref(s->traps);
    pthread_key_delete(s->thread_end);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

static struct trap *trap_at(struct server *s, uint64_t offset)
{
    struct trap *t = g_hash_table_lookup(s->traps, &offset);

    if (t == NULL) {
        uint64_t *key = g_new(uint64_t, 1);
        *key = offset;
        t = g_new0(struct trap, 1);
        g_hash_table_insert(s->traps, key, t);
    }
    return t;
}

static void set_held(struct server *s, uint64_t offset, bool held)
{
    pthread_mutex_lock(&s->lock);
    trap_at(s, offset)->held = held;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void fake_hold(struct server *s, uint64_t offset)
{
    set_held(s, offset, true);
}

void fake_release(struct server *s, uint64_t offset)
{
    set_held(s, offset, false);
}

void fake_wait_held(struct server *s, unsigned n)
{
    pthread_mutex_lock(&s->lock);
    while (s->n_held != n)
        pthread_cond_wait(&s->changed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

void fake_hold_close(struct server *s, bool hold)
{
    pthread_mutex_lock(&s->lock);
    s->hold_close = hold;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void fake_fail(struct server *s, uint64_t offset, int error)
{
    pthread_mutex_lock(&s->lock);
    trap_at(s, offset)->error = error;
    pthread_mutex_unlock(&s->lock);
}

void fake_never_promise(struct server *s, bool never)
{
    pthread_mutex_lock(&s->lock);
    s->never_promise = never;
    pthread_mutex_unlock(&s->lock);
}

void fake_changes_wait(struct server *s, bool wait)
{
    pthread_mutex_lock(&s->lock);
    s->changes_wait = wait;
    pthread_mutex_unlock(&s->lock);
}

struct fake_counts fake_counts(struct server *s)
{
    pthread_mutex_lock(&s->lock);
    struct fake_counts counts = s->counts;
    pthread_mutex_unlock(&s->lock);
    return counts;
}

int fake_pass(struct server *s, uint64_t offset, bool now)
{
    pthread_mutex_lock(&s->lock);
    struct trap *t = trap_at(s, offset);
    int error = 0;

    if (now) {
        s->counts.tried++;
        if (t->held || s->never_promise) {
            s->counts.refused++;
            error = -EAGAIN;
        }
    } else {
        s->counts.blocking++;
        pthread_setspecific(s->thread_end, s);
        s->n_held += t->held;
        bool counted = t->held;
        s->counts.most_held = MAX(s->counts.most_held, s->n_held);
        pthread_cond_broadcast(&s->changed);
        while (t->held)
            pthread_cond_wait(&s->changed, &s->lock);
        s->n_held -= counted;
        pthread_cond_broadcast(&s->changed);
    }
    if (error == 0)
        error = -t->error;
    pthread_mutex_unlock(&s->lock);
    return error;
}

/* ---- exports ---- */

struct export *fake_add(struct server *s, const char *name, const struct node_info *info)
{
    struct export *e = g_new0(struct export, 1);

    e->refs = 1;
    e->server = s;
    e->node = (struct node){.kind = NODE_DISK, .name = g_strdup(name)};
    e->node_info = *info;
    e->node_info.min_block = info->min_block ? info->min_block : 1;
    e->node_info.pref_block = info->pref_block ? info->pref_block : 4096;
    e->node_info.max_block = info->max_block ? info->max_block : 32 << 20;
    e->info = (struct export_info){
        .name = e->node.name, .node = &e->node, .writable = !info->readonly, .live = true};
    /* What nobody writes to takes no memory, so that a disk may be huge. */
    e->bytes = mmap(NULL, MAX(info->size, 1), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(e->bytes != MAP_FAILED);
    e->bitmaps = g_ptr_array_new_with_free_func((GDestroyNotify)dirty_bitmap_unref);
    g_queue_init(&e->clients);
    pthread_mutex_lock(&s->lock);
    g_ptr_array_add(s->exports, e);
    pthread_mutex_unlock(&s->lock);
    return e;
}

void fake_remove(struct server *s, struct export *e, bool cut)
{
    pthread_mutex_lock(&s->lock);
    e->gone = true;
    for (GList *i = e->clients.head; i != NULL; i = i->next) {
        struct export_client *c = i->data;
        c->cancel(c, cut);
    }
    pthread_mutex_unlock(&s->lock);
}

bool fake_hung_up(struct server *s, struct export *e)
{
    bool all = true;

    pthread_mutex_lock(&s->lock);
    for (GList *i = e->clients.head; i != NULL; i = i->next) {
        struct export_client *c = i->data;
        all = all && c->hung_up(c);
    }
    pthread_mutex_unlock(&s->lock);
    return all;
}

uint8_t *fake_bytes(struct export *e)
{
    return e->bytes;
}

struct export *export_ref(struct export *e)
{
    g_atomic_int_inc(&e->refs);
    return e;
}

void export_unref(struct export *e)
{
    if (!g_atomic_int_dec_and_test(&e->refs))
        return;
    g_ptr_array_unref(e->bitmaps);
    munmap(e->bytes, MAX(e->node_info.size, 1));
    log_limit_end(&e->node.open_errors);
    g_free(e->node.name);
    g_free(e);
}

const struct export_info *export_info(const struct export *e)
{
    return &e->info;
}

struct export *server_find_export(struct server *s, enum export_scope scope, const char *name)
{
    struct export *found = NULL;

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->exports->len && found == NULL; i++) {
        struct export *e = g_ptr_array_index(s->exports, i);
        if (!e->gone && (*name == 0 || strcmp(e->info.name, name) == 0))
            found = export_ref(e);
    }
    pthread_mutex_unlock(&s->lock);
    return found;
}

GPtrArray *server_list_exports(struct server *s, enum export_scope scope)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)export_unref);

    pthread_mutex_lock(&s->lock);
    for (unsigned i = 0; i < s->exports->len; i++) {
        struct export *e = g_ptr_array_index(s->exports, i);
        if (!e->gone)
            g_ptr_array_add(list, export_ref(e));
    }
    pthread_mutex_unlock(&s->lock);
    return list;
}

bool export_attach(struct export *e, struct export_client *c)
{
    pthread_mutex_lock(&e->server->lock);
    bool allowed = !e->gone;
    if (allowed) {
        c->export = e;
        c->link.data = c;
        g_queue_push_tail_link(&e->clients, &c->link);
    }
    pthread_mutex_unlock(&e->server->lock);
    return allowed;
}

void export_detach(struct export_client *c)
{
    pthread_mutex_lock(&c->export->server->lock);
    g_queue_unlink(&c->export->clients, &c->link);
    pthread_mutex_unlock(&c->export->server->lock);
}

void fake_file(struct export *e, int fd)
{
    e->file = fd;
    e->node_info.has_file = true;
}

void fake_allocation(struct export *e, uint64_t run, unsigned per_call)
{
    e->allocation_run = run;
    e->extents_per_call = per_call;
}

/* ---- bitmaps ---- */

struct dirty_bitmap *fake_add_bitmap(struct export *e, const char *name, uint64_t run)
{
    struct dirty_bitmap *db = g_new0(struct dirty_bitmap, 1);

    db->refs = 1;
    db->name = g_strdup(name);
    db->run = run;
    g_ptr_array_add(e->bitmaps, db);
    return db;
}

void fake_break_bitmap(struct dirty_bitmap *db)
{
    g_atomic_int_set(&db->broken, 1);
}

GPtrArray *export_bitmaps(struct export *e)
{
    GPtrArray *list = g_ptr_array_new_with_free_func((GDestroyNotify)dirty_bitmap_unref);
    for (unsigned i = 0; i < e->bitmaps->len; i++)
        g_ptr_array_add(list, dirty_bitmap_ref(g_ptr_array_index(e->bitmaps, i)));
    return list;
}

struct dirty_bitmap *dirty_bitmap_ref(struct dirty_bitmap *db)
{
    g_atomic_int_inc(&db->refs);
    return db;
}

void dirty_bitmap_unref(struct dirty_bitmap *db)
{
    if (!g_atomic_int_dec_and_test(&db->refs))
        return;
    g_free(db->name);
    g_free(db);
}

const char *dirty_bitmap_name(const struct dirty_bitmap *db)
{
    return db->name;
}

int fake_add_runs(struct extents *out, uint64_t run, uint64_t length, uint64_t offset,
                  uint32_t flags, unsigned most)
{
    uint64_t end = offset + length;

    for (unsigned n = 0; offset < end && (most == 0 || n < most); n++) {
        uint64_t step = run == 0 ? end - offset : MIN(run - offset % run, end - offset);
        bool set = run != 0 && offset / run % 2 == 1;
        int r = extents_add(out, step, set ? flags : 0);
        if (r < 0)
            return r == -ENOSPC && n > 0 ? 0 : r;
        offset += step;
    }
    return 0;
}

int dirty_bitmap_extents(struct dirty_bitmap *db, uint64_t length, uint64_t offset, bool one,
                         struct extents *extents)
{
    if (g_atomic_int_get(&db->broken))
        return -EIO;
    return fake_add_runs(extents, db->run, length, offset, EXTENT_DIRTY, one ? 1 : 0);
}
