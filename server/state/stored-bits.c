/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/stored-bits.h"

#include "common/util/bitmap-glib.h"
#include "common/util/error.h"
#include "common/util/log.h"

#include <errno.h>
#include <sys/mman.h>

const char stored_bits_lost_reason[] =
    "somebody has cut short or removed the file of its bits, or it cannot be read";

/* ---- the life of a store ---- */

void store_unref(struct store *s)
{
    if (atomic_fetch_sub(&s->references, 1) != 1)
        return;
    g_ptr_array_unref(s->known);
    pthread_mutex_destroy(&s->catalogue_lock);
    pthread_mutex_destroy(&s->lock);
    g_free(s->path);
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
    g_free(sb->broken);
    g_free(sb);
    store_unref(s);
}

static void tell_lost(void *data)
{
    struct stored_bits *sb = data;

    sb->disk->store->bits_lost(sb);
    stored_bits_unref(sb);
}

/* See failure.h: not on this thread. */
static void lost(void *opaque)
{
    struct stored_bits *sb = opaque;

    note_failure(sb->disk->store->note);
    if (!store_post(sb->disk->store, tell_lost, ref(sb)))
        stored_bits_unref(sb);
}

/* ---- making them ---- */

/* The bitmap is gone. As long as a row names the file, what is known of it stays. Whoever drops the
 * row takes the bitmap's reference then, perhaps before this has ended. */
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
    mapping_unguard(sb->guard);
    munmap(sb->words, sb->length);
    if (orphan)
        unlink_soon(d->store, sb->uuid);
    if (!stays)
        stored_bits_unref(sb);
    stored_bits_unref(sb);
}

static struct stored_bits *map_memory(struct state_disk *d, uint64_t size, uint32_t granularity,
                                      GError **err)
{
    size_t length = bit_file_map_length(size, granularity);
    void *words = mmap(NULL, length, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    struct stored_bits *sb;

    if (words == MAP_FAILED) {
        fail_errno(err, errno, "disk %s: address space for a bitmap", d->row.name);
        return NULL;
    }
    (void)madvise(words, length, MADV_NOHUGEPAGE); /* one bit must not cost a huge page */
    sb = g_new0(struct stored_bits, 1);
    atomic_init(&sb->references, 1);
    sb->disk = d;
    sb->words = words;
    sb->length = length;
    sb->size = size;
    sb->granularity = granularity;
    return sb;
}

static void free_memory(struct stored_bits *sb)
{
    mapping_unguard(sb->guard);
    munmap(sb->words, sb->length);
    g_free(sb);
}

static bool is_lost(void *opaque)
{
    return mapping_is_lost(((struct stored_bits *)opaque)->guard);
}

/* A bitmap over `sb`, which belongs to it from then on. On failure it stays the caller's. */
static struct bitmap *make_bitmap(struct stored_bits *sb, GError **err)
{
    struct store *s = sb->disk->store;

    sb->guard = mapping_guard(sb->words, sb->length, lost, sb, err);
    if (!sb->guard)
        return NULL;
    sb->bits = bitmap_new_over(sb->words, sb->size, sb->granularity, release, sb, err);
    if (!sb->bits)
        return NULL;
    bitmap_set_lost(sb->bits, is_lost);
    atomic_fetch_add(&s->references, 1);
    pthread_mutex_lock(&s->lock);
    g_ptr_array_add(sb->disk->bits, sb);
    pthread_mutex_unlock(&s->lock);
    return sb->bits;
}

struct bitmap *stored_bits_new(struct state_disk *d, uint64_t size, uint32_t granularity,
                               GError **err)
{
    struct stored_bits *sb = map_memory(d, size, granularity, err);
    struct bitmap *bits = sb ? make_bitmap(sb, err) : NULL;

    if (sb && !bits)
        free_memory(sb);
    return bits;
}

/* ---- files ---- */

static void nothing(void *unused)
{
    (void)unused;
}

/* Merge `bits` into the words that a file is mapped at. */
static int merge_into(uint64_t *words, const struct bitmap *bits, GError **err)
{
    uint64_t size = bitmap_size(bits);
    uint32_t granularity = bitmap_granularity(bits);
    struct mapping *guard =
        mapping_guard(words, bit_file_map_length(size, granularity), nothing, NULL, err);
    struct bitmap *copy = guard ? bitmap_new_over(words, size, granularity, NULL, NULL, err) : NULL;
    int result = copy ? 0 : -1;

    if (copy)
        bitmap_merge(copy, bits);
    if (copy && mapping_is_lost(guard))
        result = fail(err, "%s", stored_bits_lost_reason);
    bitmap_unref(copy);
    mapping_unguard(guard);
    return result;
}

/* Copy what is set in `bits` into the file. */
static int copy_bits(struct state_disk *d, struct bit_file *f, const struct bitmap *bits,
                     GError **err)
{
    struct storage *s = d->store->storage;
    uint64_t *words = bit_file_map(f, NULL, err);
    int result;

    if (!words)
        return -1;
    result = merge_into(words, bits, err);
    s->ops->unmap(s, words, bit_file_map_length(bitmap_size(bits), bitmap_granularity(bits)));
    return result;
}

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
    int result = -1;

    if (!sb)
        return fail(err, "disk %s: these bits are not the store's", d->row.name);
    f = bit_file_create(d->store->storage, uuid, sb->size, sb->granularity, err);
    if (f && copy_bits(d, f, bits, err) == 0 && bit_file_map(f, sb->words, err)) {
        put_file(sb, f, false);
        result = 0;
    } else if (f) {
        discard(d, f);
    }
    stored_bits_unref(sb);
    return result;
}

static int check_crc(struct bit_file *f, const struct catalogue_bitmap *b, GError **err)
{
    uint32_t crc;

    if (bit_file_crc(f, &crc, err) < 0)
        return -1;
    return crc == b->crc ? 0 : fail(err, "its bits were damaged (their checksum is wrong)");
}

struct bitmap *stored_bits_open(struct state_disk *d, const struct catalogue_bitmap *b, bool crc,
                                GError **err)
{
    struct bit_file *f = bit_file_open(d->store->storage, b->uuid, b->size, b->granularity, err);
    struct stored_bits *sb = NULL;

    if (f && (!crc || check_crc(f, b, err) == 0))
        sb = map_memory(d, b->size, b->granularity, err);
    if (sb && bit_file_map(f, sb->words, err) && make_bitmap(sb, err)) {
        bitmap_summarise(sb->bits);
        if (!mapping_is_lost(sb->guard)) {
            put_file(sb, f, true);
            return sb->bits;
        }
        fail(err, "%s", stored_bits_lost_reason);
        bitmap_unref(sb->bits);
        sb = NULL;
    }
    if (sb)
        free_memory(sb);
    if (f)
        bit_file_close(f);
    return NULL;
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
