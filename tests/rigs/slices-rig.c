/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/slices-rig.h"

#include "common/live/live-reserve.h"
#include "common/live/live-slots.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* ---- the file ---- */

static struct slices_rig *rig_of(const struct live_image *image)
{
    return (struct slices_rig *)((char *)image - G_STRUCT_OFFSET(struct slices_rig, image));
}

static struct slices_rig *rig_with(struct live_file *f, bool *data)
{
    struct live_layer *l =
        (struct live_layer *)((char *)f - G_STRUCT_OFFSET(struct live_layer, file));

    *data = strstr(f->path, "data");
    if (*data)
        l = (struct live_layer *)((char *)f - G_STRUCT_OFFSET(struct live_layer, data));
    return rig_of(l->image);
}

static int begin(struct slices_rig *r, enum slices_event event, uint64_t offset, size_t length)
{
    if (r->before)
        r->before(r, event, offset);
    atomic_fetch_add(&r->count[event], 1);
    atomic_fetch_add(&r->bytes[event], length);
    return atomic_load(&r->fails[event]);
}

static void note(struct slices_rig *r, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void note(struct slices_rig *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(&r->lock);
    g_string_append_vprintf(r->log, format, args);
    pthread_mutex_unlock(&r->lock);
    va_end(args);
}

static int rig_pread(struct live_file *f, void *buffer, size_t length, uint64_t offset)
{
    bool data;
    struct slices_rig *r = rig_with(f, &data);
    int e = begin(r, SLICES_READ, offset, length);

    return e < 0 ? e : live_file_usual.pread(f, buffer, length, offset);
}

static int rig_pwrite(struct live_file *f, const void *buffer, size_t length, uint64_t offset,
                      bool durable)
{
    bool data;
    struct slices_rig *r = rig_with(f, &data);
    int e = begin(r, SLICES_WRITE, offset, length);

    if (e == 0)
        e = live_file_usual.pwrite(f, buffer, length, offset, durable);
    if (e == 0)
        note(r, "w %" G_GUINT64_FORMAT " ", (guint64)offset);
    return e;
}

static int rig_sync(struct live_file *f)
{
    bool data;
    struct slices_rig *r = rig_with(f, &data);
    int e = begin(r, SLICES_SYNC, 0, 0);

    if (e < 0)
        return live_file_sync_failed(f, e);
    note(r, data ? "S " : "s ");
    return 0;
}

static const struct live_file_ops ops = {
    .pread = rig_pread,
    .pwrite = rig_pwrite,
    .sync = rig_sync,
};

static void open_file(struct live_file *f, char **path, const char *name)
{
    f->fd = g_file_open_tmp(name, path, NULL);
    g_assert_cmpint(f->fd, >=, 0);
    f->path = *path;
    f->ops = &ops;
    f->writable = true;
}

/* ---- the reserve ---- */

int live_reserve_take_table(struct live_image *image, uint64_t *host)
{
    struct slices_rig *r = rig_of(image);
    int e = atomic_load(&r->take_fails);
    uint64_t end = r->layer.file.size;

    if (e < 0)
        return e;
    atomic_fetch_add(&r->tables, 1);
    *host = (end + r->layer.cluster - 1) & ~(r->layer.cluster - 1);
    slices_rig_extend(r, *host + r->layer.cluster);
    return 0;
}

bool live_reserve_is_metadata(const struct live_image *image, uint64_t host)
{
    return host && host == atomic_load(&rig_of(image)->metadata);
}

uint64_t live_reserve_first(const struct live_image *image)
{
    return atomic_load(&rig_of(image)->first);
}

uint64_t live_reserve_given_up(struct live_image *image)
{
    return atomic_load(&rig_of(image)->given_up);
}

int live_reserve_count_down(struct live_image *image, uint64_t n)
{
    struct slices_rig *r = rig_of(image);

    atomic_store(&r->counted_down, n);
    note(r, "c%" G_GUINT64_FORMAT " ", (guint64)n);
    return 0;
}

int live_reserve_fill(struct live_image *image)
{
    atomic_fetch_add(&rig_of(image)->fills, 1);
    return 0;
}

int live_damaged(struct live_image *image, const char *format, ...)
{
    struct slices_rig *r = rig_of(image);
    va_list args;

    atomic_store(&image->broken, -EIO);
    va_start(args, format);
    pthread_mutex_lock(&r->lock);
    g_ptr_array_add(r->told, g_strdup_vprintf(format, args));
    pthread_mutex_unlock(&r->lock);
    va_end(args);
    return -EIO;
}

void live_tell(struct live_image *image, const char *format, ...)
{
    struct slices_rig *r = rig_of(image);
    va_list args;

    va_start(args, format);
    pthread_mutex_lock(&r->lock);
    g_ptr_array_add(r->told, g_strdup_vprintf(format, args));
    pthread_mutex_unlock(&r->lock);
    va_end(args);
}

/* ---- the layer ---- */

static void set_layer(struct slices_rig *r, const struct slices_options *o)
{
    struct live_layer *l = &r->layer;
    uint64_t span;

    l->geometry.cluster_bits = o->cluster_bits ? o->cluster_bits : 16;
    l->geometry.zero_flag = true;
    l->geometry.extended = o->extended;
    l->geometry.data_file = o->data_file;
    l->cluster = UINT64_C(1) << l->geometry.cluster_bits;
    span = q2_table_span(&l->geometry);
    l->size = o->size ? o->size : 2 * span;
    l->l1_entries = (l->size + span - 1) / span;
    l->l1_offset = l->cluster;
    l->l1 = calloc(l->l1_entries + 1, 8);
    g_assert_nonnull(l->l1);
    l->writable = !o->read_only;
}

void slices_rig_begin(struct slices_rig *r, const struct slices_options *o)
{
    memset(r, 0, sizeof(*r));
    pthread_mutex_init(&r->lock, NULL);
    r->log = g_string_new(NULL);
    r->told = g_ptr_array_new_with_free_func(g_free);
    r->image.top = r->image.layers = &r->layer;
    r->image.n_layers = 1;
    r->image.reserve = (struct live_reserve *)r; /* there is one: it is asked about metadata */
    r->layer.image = &r->image;
    r->layer.data.fd = -1;
    set_layer(r, o);
    open_file(&r->layer.file, &r->path, "slices-XXXXXX");
    if (o->data_file)
        open_file(&r->layer.data, &r->data_path, "data-XXXXXX");
    slices_rig_grow(r, r->layer.l1_offset + r->layer.l1_entries * 8);
    g_assert_cmpint(live_slices_init(&r->layer, o->memory ? o->memory : 1 << 20), ==, 0);
    g_assert_cmpint(live_commit_init(&r->image), ==, 0);
}

static void remove_file(struct live_file *f, char *path)
{
    if (f->fd < 0)
        return;
    close(f->fd);
    g_unlink(path);
    g_free(path);
}

void slices_rig_end(struct slices_rig *r)
{
    live_commit_clear(&r->image);
    live_slices_clear(&r->layer);
    remove_file(&r->layer.file, r->path);
    remove_file(&r->layer.data, r->data_path);
    live_slices_free_l1(&r->layer);
    g_string_free(r->log, TRUE);
    g_ptr_array_unref(r->told);
    pthread_mutex_destroy(&r->lock);
}

void slices_rig_grow(struct slices_rig *r, uint64_t size)
{
    slices_rig_extend(r, size);
    atomic_store(&r->first, (size + r->layer.cluster - 1) & ~(r->layer.cluster - 1));
    if (r->layer.slices)
        r->layer.slices->file_end = size;
}

void slices_rig_extend(struct slices_rig *r, uint64_t size)
{
    g_assert_cmpint(ftruncate(r->layer.file.fd, (off_t)size), ==, 0);
    atomic_store(&r->layer.file.size, size);
}

static uint64_t file_word(struct slices_rig *r, uint64_t at)
{
    uint64_t word = 0;

    g_assert_cmpint(pread(r->layer.file.fd, &word, 8, (off_t)at), >=, 0);
    return be64toh(word);
}

static void put_word(struct slices_rig *r, uint64_t at, uint64_t word)
{
    word = htobe64(word);
    g_assert_cmpint(pwrite(r->layer.file.fd, &word, 8, (off_t)at), ==, 8);
}

uint64_t slices_rig_table(struct slices_rig *r, uint64_t index)
{
    uint64_t cluster = r->layer.cluster;
    uint64_t host = (atomic_load(&r->layer.file.size) + cluster - 1) & ~(cluster - 1);

    slices_rig_grow(r, host + cluster);
    r->layer.l1[index] = host | Q2_ENTRY_COPIED;
    put_word(r, r->layer.l1_offset + index * 8, host | Q2_ENTRY_COPIED);
    return host;
}

/* Where the file has an entry. */
static uint64_t entry_at(struct slices_rig *r, uint64_t cluster)
{
    const struct q2_geometry *g = &r->layer.geometry;
    uint64_t table = r->layer.l1[cluster >> q2_table_bits(g)] & Q2_ENTRY_OFFSET;

    return table + (cluster & ((1U << q2_table_bits(g)) - 1)) * q2_entry_size(g);
}

void slices_rig_entry(struct slices_rig *r, uint64_t cluster, uint64_t word, uint64_t bitmap)
{
    put_word(r, entry_at(r, cluster), word);
    if (r->layer.geometry.extended)
        put_word(r, entry_at(r, cluster) + 8, bitmap);
}

uint64_t slices_rig_get(struct slices_rig *r, uint64_t cluster)
{
    return file_word(r, entry_at(r, cluster));
}

uint64_t slices_rig_get_bitmap(struct slices_rig *r, uint64_t cluster)
{
    return file_word(r, entry_at(r, cluster) + 8);
}

uint64_t slices_rig_get_l1(struct slices_rig *r, uint64_t index)
{
    return file_word(r, r->layer.l1_offset + index * 8);
}

struct live_run slices_rig_run(struct slices_rig *r, uint64_t offset, uint64_t length)
{
    struct live_run run;

    g_assert_cmpint(live_slices_run_wait(&r->layer, offset, length, &run), ==, 0);
    g_assert_cmpuint(run.length, >=, 1);
    g_assert_cmpuint(run.length, <=, length);
    return run;
}

void slices_rig_change(struct slices_rig *r, uint64_t cluster, uint64_t word, uint64_t bitmap,
                       bool flagged)
{
    struct live_entry e = {word, bitmap};

    g_assert_cmpint(live_slices_change(&r->layer, cluster, 1, &e, flagged), ==, 0);
}

char *slices_rig_log(struct slices_rig *r)
{
    char *log;

    pthread_mutex_lock(&r->lock);
    log = g_strdup(g_strchomp(r->log->str));
    g_string_truncate(r->log, 0);
    pthread_mutex_unlock(&r->lock);
    return log;
}

void slices_rig_wait_sleeping(const _Atomic pid_t *thread)
{
    char state = 0;

    while (state != 'S') {
        g_autofree char *path = g_strdup_printf("/proc/self/task/%d/stat", (int)*thread);
        g_autofree char *text = NULL;
        const char *end;

        if (*thread && g_file_get_contents(path, &text, NULL, NULL) && (end = strrchr(text, ')')))
            state = end[2];
        g_thread_yield();
    }
}
