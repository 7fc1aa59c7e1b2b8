/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The order of a recovery:
 *
 *   1. read the catalogue; decide whether the memory folder has the bits exactly
 *   2. if so, add them to the files; if not, set the bits of all regions that the journal has open
 *   3. sync all bit files of disks that were in use, after all that is set in them was written again:
 *      a page in the page cache may be lacking on the disk
 *   4. one transaction of the catalogue: the folder is not in use any more; disks and bitmaps are as
 *      was found
 *
 * Bits are only ever set, and what decides in 1 stays until 4 is durable: the catalogue's folder
 * row, the journal, the memory, the notes. So whoever dies between is followed by one who does the same again.
 * After 4 nobody asks the journal and the memory any more, and the next user makes them anew.
 *
 * Bits are exact if the same machine still runs, in the same boot, and if the memory folder is there,
 * is of the run that the folder's row names, and says that nothing failed: it has all that was ever
 * set. A bitmap that has no file in it counts as after a power loss.
 *
 * Only bitmaps of disks that were in use (DISK_OPEN) are touched. Those of other disks were synced
 * when the disks were left. Of the bitmaps of a disk in use, only recording ones can lack a bit: the
 * file of another one was synced before the catalogue said that it does not record.
 */
#include "common/state/recovery.h"

#include "common/state/bit-file.h"
#include "common/state/folder.h"
#include "common/state/identity.h"
#include "common/state/journal-scan.h"
#include "common/state/memory.h"
#include "common/state/note.h"
#include "common/util/bitmap-glib.h"
#include "common/util/error.h"

#include <errno.h>
#include <inttypes.h>
#include <time.h>

struct work {
    struct storage *storage;
    struct catalogue *catalogue;
    struct catalogue_folder folder;
    struct memory_left memory;
    GArray *disks, *bitmaps;
    struct recovery *recovery;
    GArray *regions;    /* of the journal; NULL: not read */
    char *no_journal;   /* why there is none that could be read */
    GArray *short_of;   /* gint64: disks of which a bitmap was not in the memory */
    GPtrArray *changed; /* bitmaps that have become inconsistent; owned by `bitmaps` */
    char *boot_id, *machine_id;
};

G_GNUC_PRINTF(2, 3) static void say(struct work *w, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(w->recovery->said, g_strdup_vprintf(format, args));
    va_end(args);
}

/* ---- 1. how it ended ---- */

static bool same_boot(const struct work *w)
{
    return *w->boot_id && g_str_equal(w->boot_id, w->folder.boot_id);
}

static bool same_machine(const struct work *w)
{
    return g_str_equal(w->machine_id, w->folder.machine_id);
}

/* Something has failed, and the folder may not know which bits it has concerned. */
static bool has_failed(const struct work *w)
{
    return w->folder.failed || w->memory.kind == MEMORY_FAILED ||
           lasting_note_there(w->folder.uuid);
}

/* A copy of the folder that was taken while it was in use has come in its place. What was done after
 * that is not in it, nor in its journal. (In another boot nothing tells but the images: date_disk.) */
static bool is_old_copy(const struct work *w)
{
    return w->memory.kind != MEMORY_GONE && w->memory.catalogue > catalogue_number(w->catalogue) &&
           same_boot(w) && same_machine(w);
}

/* Why the bits are not exact; NULL: they are. */
static const char *why_not_exact(const struct work *w)
{
    if (has_failed(w))
        return "the state folder had failed while it was in use";
    if (!same_machine(w))
        return "the state folder was in use on another machine";
    if (!same_boot(w))
        return "the machine was restarted";
    if (is_old_copy(w))
        return "the state folder is a copy that was taken while it was in use";
    if (w->memory.kind == MEMORY_INCOMPLETE)
        return "there was not enough memory in /dev/shm for the bits";
    if (w->memory.kind != MEMORY_WHOLE)
        return "what the server had in /dev/shm is gone";
    return NULL;
}

static void decide(struct work *w)
{
    struct recovery *r = w->recovery;
    const char *why;

    if (!w->folder.open && !w->folder.failed)
        return;
    why = why_not_exact(w);
    r->kind = why ? RECOVERY_POWER_LOSS : RECOVERY_PROCESS;
    r->why = g_strdup(why ? why : "the server died");
}

static struct catalogue_disk *disk_of(struct work *w, int64_t id)
{
    for (unsigned i = 0; i < w->disks->len; i++)
        if (g_array_index(w->disks, struct catalogue_disk, i).id == id)
            return &g_array_index(w->disks, struct catalogue_disk, i);
    return NULL;
}

static bool was_open(struct work *w, const struct catalogue_bitmap *b)
{
    const struct catalogue_disk *d = disk_of(w, b->disk);

    return d && d->state == DISK_OPEN;
}

/* ---- 2. bits ---- */

static void make_inconsistent(struct work *w, struct catalogue_bitmap *b, const char *reason)
{
    const struct catalogue_disk *d = disk_of(w, b->disk);

    say(w, "disk %s: bitmap '%s' is inconsistent: %s", d->name, b->name, reason);
    g_free(b->inconsistent);
    b->inconsistent = g_utf8_make_valid(reason, -1); /* it may name a file */
    b->sealed = false;
    if (!recovery_broken(w->recovery, b->disk))
        g_hash_table_insert(w->recovery->broken, g_memdup2(&b->disk, sizeof b->disk),
                            g_strdup(b->inconsistent));
    g_ptr_array_add(w->changed, b);
}

/* Nobody can say which bitmaps of the disks in use lack bits. not_recording_too: bitmaps that do not
 * record may lack some, too. */
static void all_inconsistent(struct work *w, bool not_recording_too, const char *reason)
{
    for (unsigned i = 0; i < w->bitmaps->len; i++) {
        struct catalogue_bitmap *b = &g_array_index(w->bitmaps, struct catalogue_bitmap, i);

        if (was_open(w, b) && !b->inconsistent && (b->recording || not_recording_too))
            make_inconsistent(w, b, reason);
    }
}

/* The file must be there, and not be empty: a journal that is gone says nothing. */
static GArray *read_journal(struct work *w, GError **err)
{
    struct storage *s = w->storage;
    struct storage_file *f;
    uint64_t size = 0;
    int error = s->ops->open(s, STATE_INTENT, false, &f);

    if (error == 0) {
        error = s->ops->size(f, &size);
        s->ops->close(f);
        if (error == 0 && size == 0)
            error = -ENODATA;
    }
    if (error < 0) {
        storage_fail(s, STATE_INTENT, "opening it", error, err);
        return NULL;
    }
    return journal_scan(s, state_folder_number(w->folder.uuid), err);
}

/* The journal's regions. False: w->no_journal says why they are not known. */
static bool need_journal(struct work *w)
{
    g_autoptr(GError) error = NULL;

    if (w->regions || w->no_journal)
        return w->regions;
    if (!w->folder.journal) {
        w->no_journal = g_strdup("--durability process keeps no journal for that");
        return false;
    }
    w->regions = read_journal(w, &error);
    if (!w->regions) {
        g_autofree char *error_text = g_utf8_make_valid(error->message, -1);

        w->no_journal = g_strdup_printf("the journal is of no use: %s", error_text);
    }
    return w->regions;
}

/* Which bitmaps are beyond help. */
static void weigh(struct work *w)
{
    struct recovery *r = w->recovery;

    if (r->kind != RECOVERY_POWER_LOSS)
        return;
    if (has_failed(w) || is_old_copy(w)) {
        r->lost = g_strdup(r->why);
        all_inconsistent(w, true, r->lost);
    } else if (!need_journal(w)) {
        r->lost = g_strdup_printf("%s, and %s", r->why, w->no_journal);
        all_inconsistent(w, false, r->lost);
    }
}

/* Set the bits of the journal's regions of its disk. */
static void add_regions(struct work *w, const struct catalogue_bitmap *b, struct bitmap *bits)
{
    for (unsigned i = 0; w->regions && i < w->regions->len; i++) {
        const struct journal_entry *e = &g_array_index(w->regions, struct journal_entry, i);
        uint64_t limit = UINT64_MAX >> JOURNAL_REGION_SHIFT;

        if (e->disk == b->disk && e->first <= limit)
            bitmap_set(bits, e->first << JOURNAL_REGION_SHIFT,
                       MIN(e->count, limit) << JOURNAL_REGION_SHIFT);
    }
}

static void note_widened(struct recovery *r, int64_t disk, uint64_t bytes)
{
    uint64_t *most = g_hash_table_lookup(r->widened, &disk);

    if (most && *most < bytes)
        *most = bytes;
}

/* Dirty in its file what the journal has open. */
static int widen(struct work *w, const struct catalogue_bitmap *b, struct bit_file *f, GError **err)
{
    struct bitmap *bits = bitmap_new(b->size, b->granularity, err);
    uint64_t more;
    int result;

    if (!bits)
        return -1;
    add_regions(w, b, bits);
    result = bit_file_add_bits(f, bits, &more, err);
    bitmap_unref(bits);
    if (result == 0)
        note_widened(w->recovery, b->disk, more);
    return result;
}

/* Add what the memory has. False: it has no bits of it, or what it has cannot be read. */
static bool add_memory(struct work *w, const struct catalogue_bitmap *b, struct bit_file *f,
                       int *result, GError **err)
{
    g_autoptr(GError) error = NULL;
    struct bit_file *m = bit_file_open(w->memory.files, b->uuid, b->size, b->granularity, &error);

    if (!m) {
        say(w, "disk %s: bitmap '%s' counts as after a power loss: %s", disk_of(w, b->disk)->name,
            b->name, error->message);
        return false;
    }
    *result = bit_file_add(f, m, err);
    bit_file_close(m);
    return true;
}

/* Its disk may have been changed by a server that used a copy of the folder: see date_disk. */
static int widen_alone(struct work *w, const struct catalogue_bitmap *b, struct bit_file *f,
                       GError **err)
{
    g_array_append_val(w->short_of, b->disk);
    if (need_journal(w))
        return widen(w, b, f, err);
    return fail(err, "its bits in /dev/shm are gone, and %s", w->no_journal);
}

/* ---- 3. files ---- */

/* After a sync that failed, in the process that died or in an earlier recovery, the page cache has pages
 * that count as written and are not on the disk. So add_memory and widen write all that is set. */
static int recover_file(struct work *w, const struct catalogue_bitmap *b, GError **err)
{
    struct bit_file *f = bit_file_open(w->storage, b->uuid, b->size, b->granularity, err);
    int result = 0;

    if (!f)
        return -1;
    if (w->recovery->kind == RECOVERY_POWER_LOSS)
        result = widen(w, b, f, err);
    else if (!add_memory(w, b, f, &result, err))
        result = widen_alone(w, b, f, err);
    if (result == 0)
        result = bit_file_sync(f, err);
    bit_file_close(f);
    return result;
}

/* A stop that could not be noted had sealed it: the checksum is of other bits. */
static void unseal(struct work *w, struct catalogue_bitmap *b)
{
    b->sealed = false;
    g_ptr_array_add(w->changed, b);
}

static void recover_files(struct work *w)
{
    for (unsigned i = 0; i < w->bitmaps->len; i++) {
        struct catalogue_bitmap *b = &g_array_index(w->bitmaps, struct catalogue_bitmap, i);
        g_autoptr(GError) error = NULL;

        if (!was_open(w, b) || !b->recording || b->inconsistent)
            continue;
        if (recover_file(w, b, &error) < 0)
            make_inconsistent(w, b, error->message);
        else if (b->sealed)
            unseal(w, b);
    }
}

/* ---- 4. the catalogue ---- */

static int64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Are the lines in the memory those of the disk's last server? Where bits of it are not in the memory,
 * the folder may be an older copy of the one that was in use. */
static bool lines_count(const struct work *w, int64_t disk)
{
    for (unsigned i = 0; i < w->short_of->len; i++)
        if (g_array_index(w->short_of, gint64, i) == disk)
            return false;
    return w->memory.files && same_boot(w) && same_machine(w);
}

/* Until when the server may have changed the image; see identity.h. */
static void date_disk(struct work *w, struct catalogue_disk *d)
{
    struct identity_past past = {.now = clock_ns(CLOCK_REALTIME)};

    if (lines_count(w, d->id))
        past.last_known = live_file_last(w->memory.files, w->boot_id, d->id, &past.last);
    if (!past.last_known) { /* there may have been no memory for the lines alone */
        past.rebooted = true;
        past.lease = live_file_lease(w->storage);
        if (!same_boot(w))
            past.boot_time = past.now - clock_ns(CLOCK_BOOTTIME);
    }
    d->state = DISK_CRASHED;
    d->changed_until = identity_changed_until(&past);
}

static int put_all(struct work *w, GError **err)
{
    for (unsigned i = 0; i < w->changed->len; i++)
        if (catalogue_put_bitmap(w->catalogue, w->changed->pdata[i], err) < 0)
            return -1;
    for (unsigned i = 0; i < w->disks->len; i++) {
        struct catalogue_disk *d = &g_array_index(w->disks, struct catalogue_disk, i);

        if (d->state != DISK_OPEN)
            continue;
        date_disk(w, d);
        if (catalogue_put_disk(w->catalogue, d, err) < 0)
            return -1;
    }
    w->folder.open = w->folder.failed = false;
    return catalogue_put_folder(w->catalogue, &w->folder, err);
}

static int write_catalogue(struct work *w, GError **err)
{
    if (catalogue_begin(w->catalogue, err) < 0)
        return -1;
    if (put_all(w, err) == 0)
        return catalogue_commit(w->catalogue, NULL, err);
    catalogue_rollback(w->catalogue);
    return -1;
}

/* ---- all of it ---- */

static int read_catalogue(struct work *w, GError **err)
{
    g_autoptr(GArray) records = NULL;
    struct recovery *r = w->recovery;

    w->boot_id = state_boot_id();
    w->machine_id = state_machine_id();
    if (catalogue_folder(w->catalogue, &w->folder, err) < 0)
        return -1;
    w->memory = memory_find(w->folder.uuid, w->folder.run);
    w->disks = catalogue_disks(w->catalogue, r->said, err);
    if (w->disks)
        w->bitmaps = catalogue_bitmaps(w->catalogue, r->said, err);
    if (w->bitmaps) /* the transaction removes damaged records: that has to be said */
        records = catalogue_records(w->catalogue, r->said, err);
    return records ? 0 : -1;
}

/* All disks that were in use have an entry. */
static void list_disks(struct work *w)
{
    for (unsigned i = 0; i < w->disks->len; i++) {
        const struct catalogue_disk *d = &g_array_index(w->disks, struct catalogue_disk, i);

        if (d->state == DISK_OPEN)
            g_hash_table_insert(w->recovery->widened, g_memdup2(&d->id, sizeof d->id),
                                g_new0(uint64_t, 1));
    }
}

static int recover(struct work *w, GError **err)
{
    if (read_catalogue(w, err) < 0)
        return -1;
    decide(w);
    if (w->recovery->kind == RECOVERY_NONE)
        return 0;
    list_disks(w);
    weigh(w);
    recover_files(w);
    if (write_catalogue(w, err) < 0)
        return -1;
    lasting_note_remove(w->folder.uuid);
    return 0;
}

struct recovery *state_recover(struct storage *s, struct catalogue *c, GError **err)
{
    struct work w = {.storage = s, .catalogue = c, .changed = g_ptr_array_new()};
    int result;

    w.short_of = g_array_new(FALSE, FALSE, sizeof(gint64));
    w.recovery = g_new0(struct recovery, 1);
    w.recovery->widened = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    w.recovery->broken = g_hash_table_new_full(g_int64_hash, g_int64_equal, g_free, g_free);
    w.recovery->said = g_ptr_array_new_with_free_func(g_free);
    result = recover(&w, err);
    g_clear_pointer(&w.disks, g_array_unref);
    g_clear_pointer(&w.bitmaps, g_array_unref);
    g_clear_pointer(&w.regions, g_array_unref);
    g_ptr_array_unref(w.changed);
    g_array_unref(w.short_of);
    if (w.memory.files)
        w.memory.files->ops->free(w.memory.files);
    g_free(w.no_journal);
    g_free(w.boot_id);
    g_free(w.machine_id);
    if (result < 0)
        g_clear_pointer(&w.recovery, recovery_free);
    return w.recovery;
}

bool recovery_widened(const struct recovery *r, int64_t disk, uint64_t *bytes)
{
    const uint64_t *found = g_hash_table_lookup(r->widened, &disk);

    if (found)
        *bytes = *found;
    return found;
}

const char *recovery_broken(const struct recovery *r, int64_t disk)
{
    return g_hash_table_lookup(r->broken, &disk);
}

void recovery_free(struct recovery *r)
{
    if (!r)
        return;
    g_free(r->why);
    g_free(r->lost);
    g_hash_table_unref(r->widened);
    g_hash_table_unref(r->broken);
    g_ptr_array_unref(r->said);
    g_free(r);
}
