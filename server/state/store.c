/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * README.md in this folder says what is written in which order, and why no bit is lost whenever the
 * server or the machine stops.
 */
#include "server/state/store.h"

#include "common/state/folder.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/state/store-attach.h"
#include "server/state/store-break.h"
#include "server/state/store-catalogue.h"
#include "server/state/store-detach.h"
#include "server/state/store-names.h"
#include "server/state/store-renew.h"
#include "server/state/store-resize.h"
#include "server/state/store-rows.h"
#include "server/state/store-tick.h"
#include "server/state/store-transaction.h"
#include "server/state/store-views.h"
#include "server/state/stored-bits.h"

#include <errno.h>

#define PATIENCE_MS 5000u
#define IDLE_MS     10000u /* regions that were not used for so long are closed */

/* ---- opening ---- */

static struct store *new_store(struct storage *storage, const struct store_options *o)
{
    struct store *s = g_new0(struct store, 1);

    atomic_init(&s->references, 1);
    s->storage = storage;
    s->path = g_strdup(storage->path);
    s->power = o->power;
    s->break_guest_write = o->break_guest_write;
    s->patience_ms = o->patience_ms ? o->patience_ms : PATIENCE_MS;
    s->bits_lost = store_bits_lost;
    s->renew = store_renew;
    s->known = g_ptr_array_new_with_free_func(rows_free_disk);
    s->records = g_ptr_array_new_with_free_func(rows_free_record);
    pthread_mutex_init(&s->catalogue_lock, NULL);
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

static void log_recovery(const struct store *s)
{
    const struct recovery *r = s->recovery;

    if (r->kind != RECOVERY_NONE)
        log_info("state: %s: not left in order: %s", s->path, r->why);
    for (unsigned i = 0; i < r->said->len; i++)
        log_error("state: %s: %s", s->path, (char *)r->said->pdata[i]);
}

static bool has_row(struct store *s, const char *uuid)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        for (unsigned k = 0; k < d->bitmaps->len; k++)
            if (g_str_equal(((struct catalogue_bitmap *)d->bitmaps->pdata[k])->uuid, uuid))
                return true;
    }
    return false;
}

/* Files of bits that no row names. They do no harm, so a failure is none of the start. */
static void remove_orphans(struct store *s)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    int result = s->storage->ops->list(s->storage, STATE_BITS, names);

    for (unsigned i = 0; result == 0 && i < names->len; i++) {
        const char *uuid = names->pdata[i];
        g_autoptr(GError) error = NULL;

        if (!g_uuid_string_is_valid(uuid) || has_row(s, uuid))
            continue;
        if (bit_file_remove(s->storage, uuid, &error) < 0)
            log_error("%s", error->message);
        else
            log_info("state: %s/%s/%s: removed: no bitmap has it", s->path, STATE_BITS, uuid);
    }
}

static int open_catalogue(struct store *s, GError **err)
{
    bool damaged;

    s->catalogue = catalogue_open(s->storage, err);
    if (!s->catalogue)
        return -1;
    s->recovery = state_recover(s->storage, s->catalogue, err);
    if (!s->recovery)
        return -1;
    log_recovery(s);
    if (rows_read(s, &damaged, err) < 0)
        return -1;
    /* A damaged row may have been the one that names a file. */
    if (!damaged)
        remove_orphans(s);
    return 0;
}

static int open_journal(struct store *s, GError **err)
{
    struct journal_options o = {.folder = state_folder_number(s->folder.uuid),
                                .patience_ms = s->patience_ms,
                                .idle_ms = IDLE_MS,
                                .break_guest_write = s->break_guest_write,
                                .failed = store_journal_failed,
                                .opaque = s};
    int error;

    if (s->power) {
        s->journal = journal_new(s->storage, &o, err);
        return s->journal ? 0 : -1;
    }
    error = s->storage->ops->unlink(s->storage, STATE_INTENT);
    if (error < 0 && error != -ENOENT)
        return storage_fail(s->storage, STATE_INTENT, "removing an old one", error, err);
    return 0;
}

/* They use all that is open. What fails earlier is settled by the first tick. */
static int start_jobs(struct store *s, GError **err)
{
    struct jobs *jobs = jobs_new(TICK_MS, store_tick, s, err);

    pthread_mutex_lock(&s->lock);
    s->jobs = jobs;
    pthread_mutex_unlock(&s->lock);
    return jobs ? 0 : -1;
}

/* A number that no run had before, and not 0: the last 16 digits of a UUID. */
static uint64_t new_run(void)
{
    g_autofree char *uuid = g_uuid_string_random();

    return state_folder_number(uuid + 19);
}

static void make_memory(struct store *s)
{
    g_autoptr(GError) error = NULL;

    s->run = new_run();
    s->memory = memory_new(s->folder.uuid, s->run, &error);
    if (!s->memory)
        log_error("%s: if the server dies, its bitmaps will count as after a power loss",
                  error->message);
}

/* The recovery is durable: what it was made of may be made anew. A folder that was left in order may
 * have a note, too: nobody else takes it away. */
static int make_anew(struct store *s, GError **err)
{
    g_autofree char *boot_id = state_boot_id();
    struct live_events events = {store_live_lost, s};

    lasting_note_remove(s->folder.uuid);
    make_memory(s);
    views_begin(s);
    s->live = live_new(s->storage, s->memory ? memory_storage(s->memory) : NULL, boot_id,
                       store_lease_end(s), &events, err);
    if (!s->live || open_journal(s, err) < 0)
        return -1;
    return start_jobs(s, err);
}

/* End the thread that does jobs. False: it hangs. */
static bool stop_jobs(struct store *s, unsigned timeout_ms)
{
    struct jobs *jobs;

    pthread_mutex_lock(&s->lock);
    jobs = s->jobs;
    s->jobs = NULL;
    pthread_mutex_unlock(&s->lock);
    return !jobs || jobs_free(jobs, timeout_ms);
}

static void forget_bits(struct store *s)
{
    pthread_mutex_lock(&s->lock);
    s->closed = true;
    pthread_mutex_unlock(&s->lock);
    for (unsigned i = 0; i < s->known->len; i++)
        stored_bits_forget(s->known->pdata[i]);
}

/* A thread that hangs in I/O keeps what it uses, and that is false; the process is about to end. */
static bool free_store(struct store *s, bool keep_memory)
{
    if (s->journal && journal_free(s->journal) < 0)
        s->hung = true;
    s->journal = NULL;
    if (s->hung) {
        log_error("state: %s: a thread hangs in it", s->path);
        return false;
    }
    forget_bits(s);
    if (s->live)
        live_free(s->live);
    if (!keep_memory)
        memory_remove(s->memory);
    if (s->catalogue)
        catalogue_close(s->catalogue);
    recovery_free(s->recovery);
    s->storage->ops->free(s->storage);
    store_unref(s);
    return true;
}

struct store *store_open_storage(struct storage *storage, const struct store_options *o,
                                 GError **err)
{
    struct store *s = new_store(storage, o);

    if (open_catalogue(s, err) == 0 && make_anew(s, err) == 0)
        return s;
    if (stop_jobs(s, s->patience_ms))
        (void)free_store(s, false);
    return NULL;
}

struct store *store_open(const struct store_options *o, GError **err)
{
    struct storage *storage = state_folder_open(o->path, true, err);

    return storage ? store_open_storage(storage, o, err) : NULL;
}

const char *store_path(const struct store *s)
{
    return s->path;
}

/* ---- the start ---- */

/* Rows that belong to nothing. With them the catalogue could not be opened anew after a failure. */
static int remove_strays(struct store *s, GError **err)
{
    int n = catalogue_remove_strays(s->catalogue, err);

    if (n > 0)
        log_info("state: %s: %d row%s of the catalogue removed: no disk has %s", s->path, n,
                 n == 1 ? "" : "s", n == 1 ? "it" : "them");
    return n < 0 ? -1 : 0;
}

static int begin_start(struct store *s, GError **err)
{
    if (s->hopeless)
        return fail(err, "state: %s: a disk could not be attached", s->path);
    if (s->begun)
        return 0;
    if (catalogue_begin(s->catalogue, err) < 0)
        return -1;
    s->begun = true;
    return remove_strays(s, err);
}

static void give_up_start(struct store *s)
{
    if (s->begun)
        catalogue_rollback(s->catalogue);
    s->begun = false;
    s->hopeless = true;
}

int store_attach(struct store *s, const char *name, uint64_t size,
                 const struct image_identity *identity, const struct state_disk_events *events,
                 struct disk_state *state, GArray **bitmaps, char **recovered, GError **err)
{
    struct state_disk *d = NULL;

    pthread_mutex_lock(&s->catalogue_lock);
    if (begin_start(s, err) == 0)
        d = attach_disk(s, name, size, identity, events, bitmaps, recovered, err);
    if (!d)
        give_up_start(s);
    pthread_mutex_unlock(&s->catalogue_lock);
    if (!d)
        return -1;
    *state = (struct disk_state){.ops = &store_ops,
                                 .store = s,
                                 .disk = d,
                                 .cover = &d->cover,
                                 .lasting = s->views.memory ? &s->views : NULL,
                                 .id = d->row.id,
                                 .stale = d->stale};
    return 0;
}

/* From the moment in which this is durable, a crash is noticed. */
static int put_folder(struct store *s, bool open, GError **err)
{
    struct catalogue_folder f = s->folder;
    g_autofree char *boot_id = state_boot_id();
    g_autofree char *machine_id = state_machine_id();

    f.open = open;
    f.failed = false;
    f.journal = s->power;
    f.run = s->run;
    g_strlcpy(f.boot_id, boot_id, sizeof f.boot_id);
    g_strlcpy(f.machine_id, machine_id, sizeof f.machine_id);
    if (catalogue_put_folder(s->catalogue, &f, err) < 0)
        return -1;
    s->folder = f;
    return 0;
}

static int start(struct store *s, GError **err)
{
    if (begin_start(s, err) < 0)
        return -1;
    if (names_check(s, err) < 0 || put_folder(s, true, err) < 0) {
        give_up_start(s);
        return -1;
    }
    s->begun = false;
    if (store_catalogue_commit(s, NULL, err) < 0) {
        s->hopeless = s->unclean = true; /* perhaps it says that the folder is in use */
        return -1;
    }
    s->started = true;
    names_tell(s);
    return 0;
}

int store_start(struct store *s, GError **err)
{
    int result;

    pthread_mutex_lock(&s->catalogue_lock);
    result = start(s, err);
    pthread_mutex_unlock(&s->catalogue_lock);
    return result;
}

/* ---- the end ---- */

void store_detach(struct store *s, struct state_disk *d, const struct image_identity *identity)
{
    g_autoptr(GError) error = NULL;

    bool hung = d->journal && journal_remove_disk(d->journal) < 0;

    d->journal = NULL;
    pthread_mutex_lock(&s->catalogue_lock);
    s->hung = s->hung || hung;
    if (s->started && detach_disk(d, identity, &error) < 0) {
        s->unclean = true;
        log_error(
            "disk %s: how it is left cannot be noted, the next start recovers its bitmaps: %s",
            d->row.name, error->message);
    }
    d->detached = true;
    pthread_mutex_unlock(&s->catalogue_lock);
    detach_free(d, hung);
}

static bool all_detached(struct store *s)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->attached && !d->detached)
            return false;
    }
    return true;
}

static int put_closed(struct store *s, GError **err)
{
    if (store_catalogue_begin(s, err) < 0)
        return -1;
    if (store_put_broken(s, err) < 0 || put_folder(s, false, err) < 0) {
        catalogue_rollback(s->catalogue);
        return -1;
    }
    if (store_catalogue_commit(s, NULL, err) < 0)
        return -1;
    store_settled(s);
    return 0;
}

/* The folder is in order. If this cannot be said, the next start recovers. */
static void write_closed(void *store)
{
    struct store *s = store;
    g_autoptr(GError) error = NULL;

    pthread_mutex_lock(&s->catalogue_lock);
    if (s->begun)
        give_up_start(s);
    if (s->started && !s->unclean && put_closed(s, &error) < 0) {
        s->unclean = true;
        log_error("state: %s: it cannot be left in order, the next start recovers: %s", s->path,
                  error->message);
    }
    pthread_mutex_unlock(&s->catalogue_lock);
}

bool store_close(struct store *s)
{
    bool clean;

    if (!all_detached(s)) {
        log_error("state: %s: a disk is still in use: the next start recovers", s->path);
        return false;
    }
    store_post(s, write_closed, s);
    if (!stop_jobs(s, s->patience_ms)) {
        log_error("state: %s: it does not answer: the next start recovers", s->path);
        return false;
    }
    clean = !s->unclean;
    if (clean) {
        if (s->journal && journal_free(g_steal_pointer(&s->journal)) < 0)
            s->hung = true;
        (void)s->storage->ops->unlink(s->storage, STATE_INTENT); /* nobody asks it any more */
    }
    return free_store(s, !clean) && clean;
}

/* ---- clients ---- */

static struct live_line *line_take(struct state_disk *d)
{
    struct live_line *line = live_take(d->store->live, d->row.id);

    return line ? line : d->line;
}

static void line_give(struct state_disk *d, struct live_line *line)
{
    if (line != d->line)
        live_give(d->store->live, line, d->line);
}

static void broken(struct state_disk *d, const char *reason)
{
    store_break(d, NULL, reason);
}

const struct state_ops store_ops = {
    .bits_new = stored_bits_new,
    .bits_attach = stored_bits_attach,
    .resize_begin = store_resize_begin,
    .resize_cancel = store_resize_cancel,
    .prepare = store_prepare,
    .record = store_record_change,
    .commit = store_commit,
    .end = store_end,
    .broken = broken,
    .line_take = line_take,
    .line_give = line_give,
};
