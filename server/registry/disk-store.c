/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/registry/disk-store.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/view-left.h"
#include "server/disk/view-resume.h"
#include "server/state/store.h"

struct disk_store {
    struct store *store;
    /* struct disk -> struct attached. Changes only while disks are added. */
    GHashTable *disks;
    GString *unseen; /* names of disks, for the log: what others write to them is not seen */
    bool started;
};

struct attached {
    struct disk_state state;
    char *recovery;
    /* Of a disk that cannot be written: what its image looked like at the start. */
    char *content;
    struct backend_identity left; /* how the image is left; without `image`: not known */
};

static void free_attached(gpointer data)
{
    struct attached *a = data;

    g_free(a->recovery);
    g_free(a->content);
    backend_identity_clear(&a->left);
    g_free(a);
}

struct disk_store *disk_store_new(struct store *store)
{
    struct disk_store *ds;

    if (!store)
        return NULL;
    ds = g_new0(struct disk_store, 1);
    ds->store = store;
    ds->disks = g_hash_table_new_full(NULL, NULL, NULL, free_attached);
    ds->unseen = g_string_new(NULL);
    return ds;
}

void disk_store_free(struct disk_store *ds)
{
    if (!ds)
        return;
    g_hash_table_unref(ds->disks);
    g_string_free(ds->unseen, TRUE);
    g_free(ds);
}

/* ---- the start ---- */

/* Of a backend that says nothing, the bytes end with the process (backend.h). */
static int identify(struct disk *d, struct backend_identity *identity, GError **err)
{
    struct backend *b = disk_backend(d);

    if (b->ops->identity)
        return b->ops->identity(disk_handle(d), identity, err);
    *identity = (struct backend_identity){
        .image = g_strdup(b->driver), .content = g_strdup(""), .transient = true};
    return 0;
}

static struct image_identity words_of(const struct backend_identity *identity)
{
    return (struct image_identity){
        .image = identity->image,
        .content = identity->content,
        .modified = identity->modified,
        .transient = identity->transient,
    };
}

static void broken(void *disk, const struct bitmap *bits, const char *reason)
{
    disk_bitmaps_broken(disk, bits, reason);
}

static void restore(struct disk *d, const struct disk_state *state, const GArray *found)
{
    g_autofree struct disk_restored *bitmaps = g_new(struct disk_restored, MAX(found->len, 1));

    for (unsigned i = 0; i < found->len; i++) {
        const struct store_bitmap *b = &g_array_index(found, struct store_bitmap, i);

        bitmaps[i] = (struct disk_restored){
            .name = b->name,
            .bits = b->bits,
            .granularity = b->granularity,
            .recording = b->recording,
            .inconsistent = b->inconsistent,
        };
    }
    disk_restore(d, state, bitmaps, found->len);
}

/* Say what was found. (The store says why bitmaps are inconsistent.) */
static void tell(const struct disk *d, const char *recovery, const GArray *found)
{
    log_info("disk %s: state: %s; %u bitmap%s", disk_name(d), recovery, found->len,
             found->len == 1 ? "" : "s");
}

/* Say what the bitmaps of some disks cannot do. */
static void warn(struct disk_store *ds, struct disk *d, const struct backend_identity *identity)
{
    if (identity->transient)
        log_info("warning: disk %s: the bytes of plugin %s end with this server: so do its bitmaps",
                 disk_name(d), disk_backend(d)->driver);
    else if (identity->content[0] == '\0')
        g_string_append_printf(ds->unseen, "%s%s", ds->unseen->len ? ", " : "", disk_name(d));
}

int disk_store_attach(struct disk_store *ds, struct disk *d, GError **err)
{
    const struct state_disk_events events = {.broken = broken, .opaque = d};
    struct backend_identity identity;
    struct image_identity words;
    struct attached *a;
    GArray *found;

    if (!ds)
        return 0;
    if (identify(d, &identity, err) < 0)
        return -1;
    a = g_new0(struct attached, 1);
    words = words_of(&identity);
    int r = store_attach(ds->store, disk_name(d), disk_size(d), &words, &events, &a->state, &found,
                         &a->recovery, err);
    if (r == 0) {
        tell(d, a->recovery, found);
        warn(ds, d, &identity);
        restore(d, &a->state, found);
        disk_resume_views(d);
        if (disk_readonly(d))
            a->content = g_strdup(identity.content);
        store_bitmaps_free(found);
        g_hash_table_insert(ds->disks, d, g_steal_pointer(&a));
    }
    g_free(a);
    backend_identity_clear(&identity);
    return r;
}

static void sweep(struct disk_store *ds)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();
    GHashTableIter each;
    gpointer d;

    g_hash_table_iter_init(&each, ds->disks);
    while (g_hash_table_iter_next(&each, &d, NULL))
        g_ptr_array_add(disks, d);
    disks_remove_left(disks);
}

int disk_store_start(struct disk_store *ds, GError **err)
{
    if (!ds)
        return 0;
    if (store_start(ds->store, err) < 0)
        return -1;
    ds->started = true;
    sweep(ds);
    if (ds->unseen->len)
        log_info("warning: what others write to the images of these disks cannot be seen: their "
                 "plugins, or block devices, do not tell: %s",
                 ds->unseen->str);
    return 0;
}

const char *disk_store_recovery(const struct disk_store *ds, const struct disk *d)
{
    const struct attached *a = ds ? g_hash_table_lookup(ds->disks, d) : NULL;

    return a ? a->recovery : NULL;
}

/* ---- the end ---- */

bool disk_store_settle(struct disk_store *ds, struct disk *d)
{
    struct attached *a = ds ? g_hash_table_lookup(ds->disks, d) : NULL;
    enum disk_settled settled = disk_settle(d);
    g_autoptr(GError) why = NULL;

    if (a && settled == DISK_FLUSHED && identify(d, &a->left, &why) < 0)
        log_error("%s", why->message);
    return settled != DISK_HANGS;
}

void disk_store_detach(struct disk_store *ds, struct disk *d)
{
    struct attached *a = ds ? g_hash_table_lookup(ds->disks, d) : NULL;
    struct image_identity words;

    if (!a)
        return;
    words = words_of(&a->left);
    /* The image was only read here: what was written to it since the start is somebody else's. */
    if (a->content)
        words.content = a->content;
    store_detach(ds->store, a->state.disk, a->left.image ? &words : NULL);
}
