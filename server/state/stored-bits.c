/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/stored-bits.h"

#include "common/util/bitmap-glib.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/bits-memory.h"
#include "server/state/bits-sync.h"

const char stored_bits_lost_reason[] =
    "somebody has cut short the file of its bits in memory, or it cannot be read";

/* ---- the life of a store ---- */

void store_unref(struct store *s)
{
    if (atomic_fetch_sub(&s->references, 1) != 1)
        return;
    g_ptr_array_unref(s->known);
    g_ptr_array_unref(s->records);
    memory_free(s->memory);
    pthread_mutex_destroy(&s->catalogue_lock);
    pthread_mutex_destroy(&s->lock);
    g_free(s->path);
    g_free(s->boot_id);
    g_free(s);
}

bool store_post(struct store *s, void (*run)(void *data), void *data)
{
    bool posted;

    pthread_mutex_lock(&s->lock);
    posted = s->jobs;
    if (posted)
        jobs_post(s->jobs, run, data);
    pthread_mutex_unlock(&s->lock);
    return posted;
}

/* ---- jobs ---- */

struct unlinking {
    struct store *store;
    char uuid[STATE_UUID_SIZE];
};

static void unlink_file(void *data)
{
    struct unlinking *u = data;
    g_autoptr(GError) error = NULL;

    /* An orphan: the next start removes it. */
    if (bit_file_remove(u->store->storage, u->uuid, &error) < 0)
        log_error("%s", error->message);
    g_free(u);
}

static void unlink_soon(struct store *s, const char *uuid)
{
    struct unlinking *u = g_new0(struct unlinking, 1);

    bits_memory_unlink(s, uuid);
    u->store = s;
    g_strlcpy(u->uuid, uuid, sizeof u->uuid);
    if (!store_post(s, unlink_file, u))
        g_free(u);
}

static void close_file(void *file)
{
    bit_file_close(file);
}

static struct stored_bits *ref(struct stored_bits *sb)
{
    atomic_fetch_add(&sb->references, 1);
    return sb;
}

void stored_bits_unref(struct stored_bits *sb)
{
    struct store *s;

    if (!sb || atomic_fetch_sub(&sb->references, 1) != 1)
        return;
    s = sb->disk->store;
    if (sb->file)
        store_post(s, close_file, sb->file);
    bits_memory_free(sb);
    pthread_mutex_destroy(&sb->sync_lock);
    g_free(sb->broken);
    g_free(sb);
    store_unref(s);
}

/* ---- their memory fails ---- */

static void tell_lost(void *data)
{
    struct stored_bits *sb = data;

    sb->disk->store->bits_lost(sb);
    stored_bits_unref(sb);
}

/* Unless the last reference has gone: whoever took it waits in mapping_unguard now. */
static bool ref_again(struct stored_bits *sb)
{
    unsigned n = atomic_load(&sb->references);

    while (n && !atomic_compare_exchange_weak(&sb->references, &n, n + 1))
        continue;
    return n;
}

/* See failure.h: not on this thread. */
static void lost(void *opaque)
{
    struct stored_bits *sb = opaque;
    struct store *s = sb->disk->store;

    memory_note_failed(s->memory);
    pthread_mutex_lock(&s->lock);
    if (s->jobs && ref_again(sb))
        jobs_post(s->jobs, tell_lost, sb);
    pthread_mutex_unlock(&s->lock);
}

/* A signal handler. */
static void incomplete(void *opaque)
{
    memory_note_incomplete(((struct stored_bits *)opaque)->disk->store->memory);
}

static void move_to_memory(struct stored_bits *sb, const struct bitmap *bits, const char *uuid)
{
    bits_memory_move(sb, bits, uuid,
                     (struct mapping_use){.incomplete = incomplete, .lost = lost, .opaque = sb});
}

/* ---- making them ---- */

/* The bitmap is gone. As long as a row names the file, what is known of the bits stays, and they do:
 * the end of the disk writes them. Whoever drops the row takes the bitmap's reference then, perhaps
 * before this has ended. */
static void release(void *opaque)
{
    struct stored_bits *sb = ref(opaque);
    struct state_disk *d = sb->disk;
    bool stays, orphan;

    pthread_mutex_lock(&d->store->lock);
    stays = sb->catalogued && !d->store->closed;
    orphan = sb->file && !sb->catalogued && !sb->dropped;
    sb->bits = NULL;
    if (!stays) {
        g_ptr_array_remove_fast(d->bits, sb);
        sb->dropped = true;
    }
    pthread_mutex_unlock(&d->store->lock);
    if (orphan)
        unlink_soon(d->store, sb->uuid);
    if (!stays)
        stored_bits_unref(sb);
    stored_bits_unref(sb);
}

static bool is_lost(void *opaque)
{
    return mapping_is_lost(((struct stored_bits *)opaque)->guard);
}

/* Clean bits in the process's memory, which nobody has seen yet. */
static struct stored_bits *new_bits(struct state_disk *d, uint64_t size, uint32_t granularity,
                                    GError **err)
{
    struct stored_bits *sb = g_new0(struct stored_bits, 1);

    atomic_init(&sb->references, 1);
    sb->disk = d;
    sb->length = bit_file_map_length(size, granularity);
    sb->size = size;
    sb->granularity = granularity;
    if (bits_memory_make(sb, err) < 0) {
        g_free(sb);
        return NULL;
    }
    pthread_mutex_init(&sb->sync_lock, NULL);
    atomic_fetch_add(&d->store->references, 1);
    return sb;
}

/* A bitmap over `sb`, which belongs to it from then on, also on failure. */
static struct bitmap *make_bitmap(struct stored_bits *sb, GError **err)
{
    struct store *s = sb->disk->store;

    sb->bits = bitmap_new_over(sb->words, sb->size, sb->granularity, release, sb, err);
    if (!sb->bits) {
        stored_bits_unref(sb);
        return NULL;
    }
    bitmap_set_lost(sb->bits, is_lost);
    pthread_mutex_lock(&s->lock);
    g_ptr_array_add(sb->disk->bits, sb);
    pthread_mutex_unlock(&s->lock);
    return sb->bits;
}

struct bitmap *stored_bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err)
{
    struct stored_bits *sb = new_bits(d, size, granularity, err);

    return sb ? make_bitmap(sb, err) : NULL;
}

/* ---- files ---- */

static void put_file(struct stored_bits *sb, struct bit_file *f, bool catalogued)
{
    pthread_mutex_lock(&sb->disk->store->lock);
    g_strlcpy(sb->uuid, bit_file_uuid(f), sizeof sb->uuid);
    sb->file = f;
    sb->catalogued = catalogued;
    pthread_mutex_unlock(&sb->disk->store->lock);
}

static void discard(struct state_disk *d, struct bit_file *f)
{
    unlink_soon(d->store, bit_file_uuid(f));
    bit_file_close(f);
}

int stored_bits_attach(struct state_disk *d, struct bitmap *bits, GError **err)
{
    struct stored_bits *sb = stored_bits_of(d, bits);
    g_autofree char *uuid = g_uuid_string_random();
    struct bit_file *f;

    if (!sb)
        return fail(err, "disk %s: these bits are not the store's", d->row.name);
    f = bit_file_create(d->store->storage, uuid, sb->size, sb->granularity, err);
    if (f) {
        move_to_memory(sb, bits, uuid);
        put_file(sb, f, false);
    }
    stored_bits_unref(sb);
    return f ? 0 : -1;
}

static int check_crc(struct bit_file *f, const struct catalogue_bitmap *b, GError **err)
{
    uint32_t crc;

    if (bit_file_crc(f, &crc, err) < 0)
        return -1;
    return crc == b->crc ? 0 : fail(err, "its bits were damaged (their checksum is wrong)");
}

/* The bits are summed up before the memory folder has them: that reads all of them. */
static struct bitmap *load(struct state_disk *d, const struct catalogue_bitmap *b,
                           struct bit_file *f, GError **err)
{
    struct stored_bits *sb = new_bits(d, b->size, b->granularity, err);

    if (!sb)
        return NULL;
    if (bits_load(sb, f, err) < 0) {
        stored_bits_unref(sb);
        return NULL;
    }
    if (!make_bitmap(sb, err))
        return NULL;
    bitmap_summarise(sb->bits);
    move_to_memory(sb, sb->bits, b->uuid);
    put_file(sb, f, true);
    return sb->bits;
}

struct bitmap *stored_bits_open(struct state_disk *d, const struct catalogue_bitmap *b, bool crc,
                                GError **err)
{
    struct bit_file *f = bit_file_open(d->store->storage, b->uuid, b->size, b->granularity, err);
    struct bitmap *bits = NULL;

    if (f && (!crc || check_crc(f, b, err) == 0))
        bits = load(d, b, f, err);
    if (f && !bits)
        bit_file_close(f);
    return bits;
}

int stored_bits_sync(struct stored_bits *sb, GError **err)
{
    struct store *s = sb->disk->store;
    bool stuck = atomic_load(&sb->stuck), lost;
    int result = bits_sync(sb, &lost, err);

    if (lost)
        s->bits_lost(sb);
    if (lost || result == 0)
        return result;
    /* `stuck` may have been about a file that was renewed since: the mark is set in any case. */
    atomic_store(&s->any_stuck, true);
    if (!stuck)
        store_post(s, s->renew, s);
    return -1;
}

/* ---- finding them ---- */

struct stored_bits *stored_bits_of(struct state_disk *d, const struct bitmap *bits)
{
    struct stored_bits *found = NULL;

    pthread_mutex_lock(&d->store->lock);
    for (unsigned i = 0; i < d->bits->len && !found; i++) {
        struct stored_bits *sb = d->bits->pdata[i];

        if (sb->bits == bits)
            found = ref(sb);
    }
    pthread_mutex_unlock(&d->store->lock);
    return found;
}

struct stored_bits *stored_bits_named(struct state_disk *d, const char *uuid)
{
    struct stored_bits *found = NULL;

    pthread_mutex_lock(&d->store->lock);
    for (unsigned i = 0; i < d->bits->len && !found; i++) {
        struct stored_bits *sb = d->bits->pdata[i];

        if (g_str_equal(sb->uuid, uuid))
            found = ref(sb);
    }
    pthread_mutex_unlock(&d->store->lock);
    return found;
}

static void unref(void *sb)
{
    stored_bits_unref(sb);
}

static GPtrArray *with_files(struct state_disk *d, bool dropped_too)
{
    GPtrArray *found = g_ptr_array_new_with_free_func(unref);

    pthread_mutex_lock(&d->store->lock);
    for (unsigned i = 0; i < d->bits->len; i++) {
        struct stored_bits *sb = d->bits->pdata[i];

        if (sb->file && (dropped_too || !sb->dropped))
            g_ptr_array_add(found, ref(sb));
    }
    pthread_mutex_unlock(&d->store->lock);
    return found;
}

GPtrArray *stored_bits_with_files(struct state_disk *d)
{
    return with_files(d, false);
}

/* ---- their ends ---- */

void stored_bits_set_catalogued(struct stored_bits *sb)
{
    pthread_mutex_lock(&sb->disk->store->lock);
    sb->catalogued = true;
    pthread_mutex_unlock(&sb->disk->store->lock);
}

void stored_bits_drop(struct state_disk *d, const char *uuid)
{
    struct stored_bits *sb = stored_bits_named(d, uuid);
    bool already = false, gone = false;

    if (sb) {
        pthread_mutex_lock(&d->store->lock);
        already = sb->dropped;
        sb->dropped = true;
        sb->catalogued = false;
        gone = !sb->bits && g_ptr_array_remove_fast(d->bits, sb);
        pthread_mutex_unlock(&d->store->lock);
        stored_bits_unref(sb);
    }
    if (gone)
        stored_bits_unref(sb);
    if (!already)
        unlink_soon(d->store, uuid);
}

void stored_bits_leave(struct state_disk *d, const struct bitmap *bits)
{
    struct stored_bits *sb = stored_bits_of(d, bits);

    pthread_mutex_lock(&d->store->lock);
    sb->dropped = true;
    sb->catalogued = false;
    pthread_mutex_unlock(&d->store->lock);
    bits_memory_unlink(d->store, sb->uuid);
    stored_bits_unref(sb);
}

void stored_bits_forget(struct state_disk *d)
{
    g_autoptr(GPtrArray) gone = g_ptr_array_new_with_free_func(unref);

    pthread_mutex_lock(&d->store->lock);
    for (unsigned i = d->bits->len; i-- > 0;) {
        struct stored_bits *sb = d->bits->pdata[i];

        if (!sb->bits)
            g_ptr_array_add(gone, g_ptr_array_remove_index_fast(d->bits, i));
    }
    pthread_mutex_unlock(&d->store->lock);
}

void stored_bits_close(struct state_disk *d)
{
    g_autoptr(GPtrArray) files = with_files(d, true);

    for (unsigned i = 0; i < files->len; i++) {
        struct stored_bits *sb = files->pdata[i];
        struct bit_file *f;
        bool orphan;

        pthread_mutex_lock(&d->store->lock);
        f = g_steal_pointer(&sb->file);
        orphan = !sb->catalogued && !sb->dropped;
        pthread_mutex_unlock(&d->store->lock);
        if (f && orphan)
            discard(d, f);
        else if (f)
            bit_file_close(f);
    }
}
