/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-storage.h"

#include "tests/rigs/sim-storage-private.h"
#include "tests/rigs/sim-vfs.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct sim_file {
    struct storage_file file;
    struct sim_inode *inode;
};

const char *sim_op_name(enum sim_op op)
{
    static const char *const names[] = {"open",   "read",   "write",      "reserve", "sync",
                                        "unlink", "rename", "sync names", "make"};

    return names[op];
}

/* ---- names ---- */

static void note_change(struct sim_storage *m, const char *name, const char *from,
                        struct sim_inode *inode, bool end)
{
    struct sim_change *c = g_new0(struct sim_change, 1);

    *c = (struct sim_change){g_strdup(name), g_strdup(from), inode ? sim_inode_ref(inode) : NULL,
                             end};
    g_ptr_array_add(m->changes, c);
    sim_change_apply(m->seen, c);
}

/* ---- operations ---- */

/* The hook's errno, or 0 with the lock held. */
static int begin(struct storage *s, enum sim_op op, const char *name)
{
    struct sim_storage *m = sim_of(s);
    int error = m->hook ? m->hook(m->opaque, s, op, name) : 0;

    if (error < 0)
        return error;
    pthread_mutex_lock(&m->lock);
    return 0;
}

static int end(struct storage *s, int result)
{
    pthread_mutex_unlock(&sim_of(s)->lock);
    return result;
}

static int make(struct sim_storage *m, const char *name)
{
    struct sim_inode *i;
    const char *slash = strrchr(name, '/');
    g_autofree char *folder = slash ? g_strndup(name, (size_t)(slash - name)) : NULL;

    if (sim_entry_find(m->seen, name))
        return -EEXIST;
    if (folder && !sim_entry_find(m->seen, folder))
        return -ENOENT;
    i = sim_inode_new();
    note_change(m, name, NULL, i, false);
    sim_inode_unref(i);
    return 0;
}

static int sim_open(struct storage *s, const char *name, bool create, struct storage_file **file)
{
    struct sim_storage *m = sim_of(s);
    struct sim_file *f;
    struct sim_entry *e;
    int error = begin(s, create ? SIM_MAKE : SIM_OPEN, name);

    if (error < 0)
        return error;
    error = create ? make(m, name) : 0;
    if (error < 0)
        return end(s, error);
    e = sim_entry_find(m->seen, name);
    if (!e || !e->inode)
        return end(s, e ? -EISDIR : -ENOENT);
    f = g_new0(struct sim_file, 1);
    f->file = (struct storage_file){s, g_strdup(name)};
    f->inode = sim_inode_ref(e->inode);
    *file = &f->file;
    return end(s, 0);
}

static void sim_close(struct storage_file *file)
{
    struct sim_file *f = (struct sim_file *)file;
    struct sim_storage *m = sim_of(file->storage);

    pthread_mutex_lock(&m->lock);
    sim_inode_unref(f->inode);
    pthread_mutex_unlock(&m->lock);
    g_free(f->file.name);
    g_free(f);
}

static struct sim_inode *inode_of(struct storage_file *f)
{
    return ((struct sim_file *)f)->inode;
}

static int sim_size(struct storage_file *f, uint64_t *bytes)
{
    int error = begin(f->storage, SIM_READ, f->name);

    if (error < 0)
        return error;
    *bytes = inode_of(f)->seen.size;
    return end(f->storage, 0);
}

static int sim_read(struct storage_file *f, void *buf, size_t length, uint64_t offset)
{
    int error = begin(f->storage, SIM_READ, f->name);

    if (error < 0)
        return error;
    if (offset + length > inode_of(f)->seen.size)
        return end(f->storage, -ENODATA);
    sim_inode_read(inode_of(f), buf, length, offset);
    return end(f->storage, 0);
}

/* Some of the sectors of a write that has failed. */
static void write_part(struct sim_storage *m, struct storage_file *f, const void *buf,
                       size_t length, uint64_t offset)
{
    size_t part = (size_t)(g_rand_double(m->rand) * (double)length);

    if (part)
        sim_inode_write(inode_of(f), buf, part, offset);
}

static int sim_write(struct storage_file *f, const void *buf, size_t length, uint64_t offset)
{
    struct sim_storage *m = sim_of(f->storage);
    int error = begin(f->storage, SIM_WRITE, f->name);

    if (error < 0) {
        pthread_mutex_lock(&m->lock);
        write_part(m, f, buf, length, offset);
        return end(f->storage, error);
    }
    sim_inode_write(inode_of(f), buf, length, offset);
    return end(f->storage, 0);
}

static int sim_reserve(struct storage_file *f, uint64_t size)
{
    int error = begin(f->storage, SIM_RESERVE, f->name);

    if (error < 0)
        return error;
    if (size > inode_of(f)->seen.size)
        sim_inode_resize(inode_of(f), size);
    return end(f->storage, 0);
}

int sim_file_truncate(struct storage_file *f, uint64_t size)
{
    int error = begin(f->storage, SIM_RESERVE, f->name);

    if (error < 0)
        return error;
    sim_inode_resize(inode_of(f), size);
    return end(f->storage, 0);
}

static int sim_sync(struct storage_file *f)
{
    struct sim_storage *m = sim_of(f->storage);
    int error = begin(f->storage, SIM_SYNC, f->name);

    if (error < 0) {
        pthread_mutex_lock(&m->lock);
        sim_inode_sync_badly(inode_of(f), m->rand);
        return end(f->storage, error);
    }
    sim_inode_sync(inode_of(f));
    return end(f->storage, 0);
}

static int sim_map(struct storage_file *f, uint64_t offset, size_t length, void *at, void **mapped)
{
    int error = begin(f->storage, SIM_READ, f->name);

    if (error < 0)
        return error;
    return end(f->storage, sim_inode_map(inode_of(f), offset, length, at, mapped));
}

static void sim_unmap(struct storage *s, void *mapped, size_t length)
{
    munmap(mapped, length);
}

static int sim_unlink(struct storage *s, const char *name)
{
    struct sim_storage *m = sim_of(s);
    int error = begin(s, SIM_UNLINK, name);

    if (error < 0)
        return error;
    if (!sim_entry_find(m->seen, name))
        return end(s, -ENOENT);
    note_change(m, name, NULL, NULL, true);
    return end(s, 0);
}

static int sim_rename(struct storage *s, const char *from, const char *to)
{
    struct sim_storage *m = sim_of(s);
    int error = begin(s, SIM_RENAME, from);
    struct sim_entry *e;

    if (error < 0)
        return error;
    e = sim_entry_find(m->seen, from);
    if (!e)
        return end(s, -ENOENT);
    note_change(m, to, from, e->inode, false);
    return end(s, 0);
}

static int sim_sync_names(struct storage *s, const char *folder)
{
    struct sim_storage *m = sim_of(s);
    int error = begin(s, SIM_SYNC_NAMES, folder);

    if (error < 0)
        return error;
    for (unsigned k = 0; k < m->changes->len;) {
        struct sim_change *c = m->changes->pdata[k];

        if (sim_in_folder(c->name, folder)) {
            sim_change_apply(m->medium, c);
            g_ptr_array_remove_index(m->changes, k);
        } else {
            k++;
        }
    }
    return end(s, 0);
}

static int sim_list(struct storage *s, const char *folder, GPtrArray *names)
{
    struct sim_storage *m = sim_of(s);
    int error = begin(s, SIM_READ, folder);

    if (error < 0)
        return error;
    for (unsigned k = 0; k < m->seen->len; k++) {
        struct sim_entry *e = m->seen->pdata[k];

        if (e->inode && sim_in_folder(e->name, folder))
            g_ptr_array_add(names, g_path_get_basename(e->name));
    }
    return end(s, 0);
}

static int sim_make_folder(struct storage *s, const char *folder)
{
    struct sim_storage *m = sim_of(s);
    int error = begin(s, SIM_MAKE, folder);

    if (error < 0)
        return error;
    if (!sim_entry_find(m->seen, folder))
        note_change(m, folder, NULL, NULL, false);
    return end(s, 0);
}

static void sim_free(struct storage *s)
{
    struct sim_storage *m = sim_of(s);

    if (--m->references)
        return;
    sim_vfs_free(m->vfs);
    g_ptr_array_unref(m->changes);
    g_ptr_array_unref(m->seen);
    g_ptr_array_unref(m->medium);
    g_rand_free(m->rand);
    pthread_mutex_destroy(&m->lock);
    g_free(m->storage.path);
    g_free(m);
}

static const struct storage_ops ops = {
    .open = sim_open,
    .close = sim_close,
    .size = sim_size,
    .read = sim_read,
    .write = sim_write,
    .reserve = sim_reserve,
    .sync = sim_sync,
    .map = sim_map,
    .unmap = sim_unmap,
    .unlink = sim_unlink,
    .rename = sim_rename,
    .sync_names = sim_sync_names,
    .list = sim_list,
    .make_folder = sim_make_folder,
    .free = sim_free,
};

struct storage *sim_storage_new(void)
{
    struct sim_storage *m = g_new0(struct sim_storage, 1);

    m->references = 1;
    m->storage.ops = &ops;
    m->storage.path = g_strdup("/simulated");
    m->vfs = sim_vfs_new(&m->storage);
    m->storage.vfs = sim_vfs_name(m->vfs);
    pthread_mutex_init(&m->lock, NULL);
    m->seen = sim_entries_new();
    m->medium = sim_entries_new();
    m->changes = g_ptr_array_new_with_free_func(sim_change_free);
    m->rand = g_rand_new_with_seed(0);
    return &m->storage;
}

struct storage *sim_storage_ref(struct storage *s)
{
    sim_of(s)->references++;
    return s;
}

void sim_storage_set_hook(struct storage *s, sim_hook hook, void *opaque)
{
    sim_of(s)->hook = hook;
    sim_of(s)->opaque = opaque;
}

void sim_storage_seed(struct storage *s, uint32_t seed)
{
    g_rand_set_seed(sim_of(s)->rand, seed);
}

bool sim_storage_exists(struct storage *s, const char *name)
{
    struct sim_storage *m = sim_of(s);
    bool found;

    pthread_mutex_lock(&m->lock);
    found = sim_entry_find(m->seen, name);
    pthread_mutex_unlock(&m->lock);
    return found;
}

/* ---- for tests ---- */

bool sim_storage_flip(struct storage *s, const char *name, uint64_t offset, uint8_t mask)
{
    struct sim_storage *m = sim_of(s);
    struct sim_entry *e;
    uint8_t byte;

    pthread_mutex_lock(&m->lock);
    e = sim_entry_find(m->seen, name);
    if (e && e->inode && offset < e->inode->seen.size) {
        sim_inode_read(e->inode, &byte, 1, offset);
        byte ^= mask;
        sim_inode_write(e->inode, &byte, 1, offset);
        sim_inode_sync(e->inode);
    } else {
        e = NULL;
    }
    pthread_mutex_unlock(&m->lock);
    return e;
}

unsigned sim_storage_unsure(struct storage *s)
{
    struct sim_storage *m = sim_of(s);
    unsigned count;

    pthread_mutex_lock(&m->lock);
    count = m->changes->len;
    for (unsigned k = 0; k < m->seen->len; k++) {
        struct sim_entry *e = m->seen->pdata[k];

        if (e->inode)
            count += sim_inode_unsure(e->inode);
    }
    pthread_mutex_unlock(&m->lock);
    return count;
}
