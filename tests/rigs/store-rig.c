/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/store-rig.h"

#include "common/state/folder.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "server/state/store-private.h"

#include <glib/gstdio.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

static void run(const char *format, const char *a, const char *b)
{
    g_autofree char *qa = g_shell_quote(a);
    g_autofree char *qb = g_shell_quote(b);
    g_autofree char *command = g_strdup_printf(format, qa, qb);
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    g_autoptr(GError) error = NULL;
    int status;

    g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, NULL, NULL, &status,
                 &error);
    g_assert_no_error(error);
    g_assert_cmpint(status, ==, 0);
}

static void unref_bits(void *bits)
{
    bitmap_unref(bits);
}

static struct store_rig *rig_new_in(char *top, unsigned n, uint64_t size)
{
    struct store_rig *r = g_new0(struct store_rig, 1);

    r->top = top;
    r->path = g_strdup_printf("%s/0", r->top);
    memory_set_folder(r->top);
    lasting_note_set_folder(r->top);
    r->o = (struct store_options){.power = true};
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->changed, NULL);
    r->n = n;
    r->disks = g_new0(struct rig_disk, n);
    for (unsigned i = 0; i < n; i++) {
        struct rig_disk *d = &r->disks[i];

        d->rig = r;
        d->name = g_strdup_printf("disk%u", i);
        d->size = size;
        d->image = g_strdup_printf("file ino=%u", i);
        d->content = g_strdup("size=1 mtime=1");
        d->modified = 1;
        d->bits = g_ptr_array_new_with_free_func(unref_bits);
        d->broken = g_ptr_array_new_with_free_func(g_free);
    }
    return r;
}

/* In memory where that can be: a sync of a busy disk takes long. */
struct store_rig *rig_new(void)
{
    char *top = g_strdup("/dev/shm/test-store-XXXXXX");

    if (g_mkdtemp(top))
        return rig_new_in(top, 3, 64 * MIB);
    g_free(top);
    return rig_new_many(3, 64 * MIB);
}

struct store_rig *rig_new_many(unsigned n, uint64_t size)
{
    return rig_new_in(g_dir_make_tmp("test-store-XXXXXX", NULL), n, size);
}

void rig_free(struct store_rig *r)
{
    if (r->store)
        rig_stop(r);
    run("rm -rf %s %s", r->top, r->top);
    for (unsigned i = 0; i < r->n; i++) {
        g_free(r->disks[i].name);
        g_free(r->disks[i].image);
        g_free(r->disks[i].content);
        g_ptr_array_unref(r->disks[i].bits);
        g_ptr_array_unref(r->disks[i].broken);
    }
    pthread_mutex_destroy(&r->lock);
    pthread_cond_destroy(&r->changed);
    g_free(r->disks);
    g_free(r->top);
    g_free(r->path);
    g_free(r);
}

/* ---- the life of the server ---- */

void rig_open(struct store_rig *r)
{
    g_autoptr(GError) error = NULL;

    r->o.path = r->path;
    r->store = store_open(&r->o, &error);
    g_assert_no_error(error);
    g_assert_nonnull(r->store);
}

static void broken(void *opaque, const struct bitmap *bits, const char *reason)
{
    struct rig_disk *d = opaque;

    pthread_mutex_lock(&d->rig->lock);
    g_ptr_array_add(d->broken, g_strdup_printf("%s: %s", bits ? "one" : "all", reason));
    pthread_cond_broadcast(&d->rig->changed);
    pthread_mutex_unlock(&d->rig->lock);
}

char *rig_wait_broken(struct rig_disk *d)
{
    char *text;

    pthread_mutex_lock(&d->rig->lock);
    while (d->broken->len == 0)
        pthread_cond_wait(&d->rig->changed, &d->rig->lock);
    text = g_strdup(d->broken->pdata[0]);
    pthread_mutex_unlock(&d->rig->lock);
    return text;
}

static struct image_identity identity(const struct rig_disk *d)
{
    return (struct image_identity){.image = d->image,
                                   .content = d->content,
                                   .modified = d->modified,
                                   .transient = d->transient};
}

void rig_attach(struct rig_disk *d)
{
    struct state_disk_events events = {.broken = broken, .opaque = d};
    struct image_identity i = identity(d);
    g_autoptr(GError) error = NULL;

    store_attach(d->rig->store, d->name, d->size, &i, &events, &d->state, &d->found, &d->recovered,
                 &error);
    g_assert_no_error(error);
    d->line = d->state.ops->line_take(d->state.disk);
}

void rig_start(struct store_rig *r, unsigned n)
{
    g_autoptr(GError) error = NULL;

    rig_open(r);
    for (unsigned i = 0; i < n; i++)
        rig_attach(&r->disks[i]);
    store_start(r->store, &error);
    g_assert_no_error(error);
}

static void detach(struct rig_disk *d)
{
    struct image_identity i = identity(d);

    if (!d->state.disk)
        return;
    d->state.ops->line_give(d->state.disk, d->line);
    store_detach(d->rig->store, d->state.disk, &i);
    g_clear_pointer(&d->found, store_bitmaps_free);
    g_ptr_array_set_size(d->bits, 0);
    g_clear_pointer(&d->recovered, g_free);
    d->state = (struct disk_state){.ops = NULL};
    g_ptr_array_set_size(d->broken, 0);
}

void rig_stop(struct store_rig *r)
{
    for (unsigned i = 0; i < r->n; i++)
        detach(&r->disks[i]);
    r->in_order = store_close(g_steal_pointer(&r->store));
}

void rig_restart(struct store_rig *r, unsigned n)
{
    rig_stop(r);
    rig_start(r, n);
}

/* The rest of the server ends in order in the old folder; what is beside it is as it was. */
void rig_kill(struct store_rig *r)
{
    g_autofree char *old = g_steal_pointer(&r->path);
    g_autofree char *notes = g_strdup_printf("%s/notes", r->top);

    r->path = g_strdup_printf("%s/%u", r->top, ++r->copies);
    run("cp -a %s %s", old, r->path);
    run("mkdir %2$s && for n in %1$s/nbdfleece-*; do [ ! -e $n ] || cp -a $n %2$s; done", r->top,
        notes);
    rig_stop(r);
    run("rm -rf %1$s/nbdfleece-*; for n in %2$s/*; do [ ! -e $n ] || mv $n %1$s; done", r->top,
        notes);
    g_rmdir(notes);
}

struct catalogue *rig_catalogue(struct store_rig *r, struct storage **storage)
{
    g_autoptr(GError) error = NULL;
    struct catalogue *c;

    *storage = state_folder_open(r->path, false, &error);
    g_assert_no_error(error);
    c = catalogue_open(*storage, &error);
    g_assert_no_error(error);
    return c;
}

void rig_catalogue_close(struct catalogue *c, struct storage *storage)
{
    catalogue_close(c);
    storage->ops->free(storage);
}

/* The last user of the folder ran elsewhere, in that boot or on that machine (NULL: this one). */
static void ran_elsewhere(struct store_rig *r, const char *boot_id, const char *machine_id)
{
    struct storage *storage;
    struct catalogue *c = rig_catalogue(r, &storage);
    struct catalogue_folder f;

    g_assert_cmpint(catalogue_folder(c, &f, NULL), ==, 0);
    if (boot_id)
        g_strlcpy(f.boot_id, boot_id, sizeof f.boot_id);
    if (machine_id)
        g_strlcpy(f.machine_id, machine_id, sizeof f.machine_id);
    g_assert_cmpint(catalogue_begin(c, NULL), ==, 0);
    g_assert_cmpint(catalogue_put_folder(c, &f, NULL), ==, 0);
    g_assert_cmpint(catalogue_commit(c, NULL, NULL), ==, 0);
    rig_catalogue_close(c, storage);
}

void rig_reboot(struct store_rig *r)
{
    ran_elsewhere(r, "b5c1b0a4-0d4b-4bd4-8f1b-2b1de0b1a3d1", NULL);
}

void rig_other_machine(struct store_rig *r)
{
    ran_elsewhere(r, NULL, "0123456789abcdef0123456789abcdef");
}

char *rig_file(struct store_rig *r, const char *name)
{
    return g_strdup_printf("%s/%s", r->path, name);
}

static char *last_file(const char *folder, unsigned *n)
{
    GDir *dir = g_dir_open(folder, 0, NULL);
    const char *name;
    char *path = NULL;

    for (*n = 0; dir && (name = g_dir_read_name(dir)); ++*n) {
        g_free(path);
        path = g_strdup_printf("%s/%s", folder, name);
    }
    if (dir)
        g_dir_close(dir);
    return path;
}

static char *only_file(const char *folder)
{
    unsigned n;
    char *path = last_file(folder, &n);

    g_assert_cmpuint(n, ==, 1);
    return path;
}

char *rig_bits_file(struct store_rig *r)
{
    g_autofree char *folder = rig_file(r, STATE_BITS);

    return only_file(folder);
}

unsigned rig_bits_files(struct store_rig *r)
{
    g_autofree char *folder = rig_file(r, STATE_BITS);
    unsigned n;

    g_free(last_file(folder, &n));
    return n;
}

char *rig_memory(struct store_rig *r, const char *name)
{
    struct storage *storage;
    struct catalogue *c = r->store ? NULL : rig_catalogue(r, &storage);
    g_autofree char *path = NULL;
    struct catalogue_folder f;

    if (c) {
        g_assert_cmpint(catalogue_folder(c, &f, NULL), ==, 0);
        rig_catalogue_close(c, storage);
    }
    path = memory_path(c ? f.uuid : r->store->folder.uuid);
    return g_build_filename(path, name, NULL);
}

char *rig_memory_bits(struct store_rig *r)
{
    g_autofree char *folder = rig_memory(r, STATE_BITS);

    return only_file(folder);
}

/* ---- what was found ---- */

const struct store_bitmap *rig_found(struct rig_disk *d, const char *name)
{
    for (unsigned i = 0; i < d->found->len; i++) {
        const struct store_bitmap *b = &g_array_index(d->found, struct store_bitmap, i);

        if (g_str_equal(b->name, name))
            return b;
    }
    g_error("disk %s: no bitmap '%s' was found", d->name, name);
}

void rig_expect(struct rig_disk *d, const char *name, uint64_t count)
{
    const struct store_bitmap *b = rig_found(d, name);

    g_assert_cmpstr(b->inconsistent, ==, NULL);
    g_assert_nonnull(b->bits);
    g_assert_cmpuint(bitmap_count(b->bits), ==, count);
}

void rig_expect_inconsistent(struct rig_disk *d, const char *name, const char *text)
{
    const struct store_bitmap *b = rig_found(d, name);

    g_assert_null(b->bits);
    if (!b->inconsistent || !strstr(b->inconsistent, text))
        g_error("'%s' is not in '%s'", text, b->inconsistent ? b->inconsistent : "(good)");
}

/* ---- changes ---- */

void rig_change(struct rig_disk *d, struct bitmap *const *bits, uint64_t offset, uint64_t length)
{
    struct timespec t;
    unsigned phase;

    g_assert_cmpint(cover_enter(d->state.cover, d->line, offset, length, &phase), ==, 0);
    for (; *bits; bits++)
        bitmap_set(*bits, offset, length);
    clock_gettime(CLOCK_REALTIME_COARSE, &t);
    d->modified = t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
    g_free(d->content);
    d->content = g_strdup_printf("size=1 mtime=%" G_GINT64_FORMAT, d->modified);
    cover_leave(d->line, phase);
}

struct state_change rig_say(struct rig_disk *d, const char *name, struct bitmap *bits)
{
    return (struct state_change){.disk = d->state.disk,
                                 .bitmap = name,
                                 .bits = bits,
                                 .size = bits ? bitmap_size(bits) : d->size,
                                 .granularity = 65536,
                                 .recording = true,
                                 .persistent = true};
}

int rig_commit(struct store_rig *r, const struct state_change *changes, unsigned n, GError **err)
{
    return rig_commit_records(r, changes, n, NULL, 0, err);
}

int rig_commit_records(struct store_rig *r, const struct state_change *changes, unsigned n,
                       const struct state_record *records, unsigned n_records, GError **err)
{
    struct state_transaction *t;
    int result;

    if (store_ops.prepare(r->store, changes, n, &t, err) < 0)
        return -1;
    for (unsigned i = 0; i < n_records; i++)
        store_ops.record(t, &records[i]);
    result = store_ops.commit(r->store, t, err);
    store_ops.end(r->store, t, result == 0);
    return result;
}

char *rig_give_text(void *opaque)
{
    struct rig_text *t = opaque;

    t->asked++;
    return g_strdup(t->text);
}

void rig_expect_records(struct store_rig *r, const char *kind, const char *expected)
{
    g_autoptr(GArray) found = store_records(r->store, kind);
    g_autoptr(GString) text = g_string_new(NULL);

    for (unsigned i = 0; i < found->len; i++) {
        const struct store_record *record = &g_array_index(found, struct store_record, i);

        g_assert_cmpstr(record->kind, ==, kind);
        g_string_append_printf(text, "%s=%s ", record->name, record->text);
    }
    g_assert_cmpstr(text->str, ==, expected);
}

struct bitmap *rig_bits(struct rig_disk *d)
{
    g_autoptr(GError) error = NULL;
    struct bitmap *bits = store_ops.bits_new(d->state.disk, d->size, 65536, &error);

    g_assert_no_error(error);
    store_ops.bits_attach(d->state.disk, bits, &error);
    g_assert_no_error(error);
    return bits;
}

struct bitmap *rig_add(struct rig_disk *d, const char *name)
{
    struct bitmap *bits = rig_bits(d);
    struct state_change c = rig_say(d, name, bits);
    g_autoptr(GError) error = NULL;

    rig_commit(d->rig, &c, 1, &error);
    g_assert_no_error(error);
    g_ptr_array_add(d->bits, bits);
    return bits;
}
