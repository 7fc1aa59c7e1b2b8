/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/store-break.h"

#include "common/util/log.h"
#include "server/state/store-catalogue.h"
#include "server/state/store-rows.h"
#include "server/state/stored-bits.h"

#define LASTING_MS 1000 /* so long a guest waits for the lasting note at most */

/* ---- breaking bits ---- */

/* Does the catalogue rely on these bits, and not know that they are broken? Store's lock held. */
static bool is_unsettled(const struct stored_bits *sb)
{
    return sb->broken && !sb->noted && !sb->dropped && sb->catalogued;
}

static bool break_one(struct stored_bits *sb, const char *reason)
{
    if (!sb->file || sb->dropped || sb->broken)
        return false;
    sb->broken = g_strdup(reason);
    return true;
}

/* How many are new. Store's lock held. */
static unsigned break_disk(struct state_disk *d, struct stored_bits *only, const char *reason)
{
    unsigned n = 0;

    for (unsigned i = 0; i < d->bits->len; i++)
        if (!only || d->bits->pdata[i] == only)
            n += break_one(d->bits->pdata[i], reason);
    return n;
}

static void tell_disk(struct state_disk *d, const struct bitmap *bits, const char *reason)
{
    pthread_mutex_lock(&d->events_lock);
    if (d->events.broken)
        d->events.broken(d->events.opaque, bits, reason);
    pthread_mutex_unlock(&d->events_lock);
}

/* The note is made first, and under the same lock as the marks, so that store_settled does not take
 * it back between the two. */
static bool mark(struct store *s, struct state_disk *d, struct stored_bits *only,
                 const char *reason, const struct bitmap **bits)
{
    bool any;

    pthread_mutex_lock(&s->lock);
    s->failing = true;
    memory_note_failed(s->memory);
    any = break_disk(d, only, reason) != 0;
    *bits = only ? only->bits : NULL;
    pthread_mutex_unlock(&s->lock);
    return any;
}

static void break_and_tell(struct store *s, struct state_disk *d, struct stored_bits *only,
                           const char *reason)
{
    const struct bitmap *bits;

    if (!mark(s, d, only, reason, &bits))
        return;
    log_error("disk %s: %s: %s", d->row.name,
              only ? "a bitmap is inconsistent" : "its bitmaps are inconsistent", reason);
    if (!only || bits)
        tell_disk(d, bits, reason);
}

/* Of all disks. They stay as long as the store. */
static GPtrArray *all_disks(struct store *s)
{
    GPtrArray *disks;

    pthread_mutex_lock(&s->lock);
    disks = g_ptr_array_copy(s->known, NULL, NULL);
    pthread_mutex_unlock(&s->lock);
    g_ptr_array_set_free_func(disks, NULL);
    return disks;
}

static void break_all(struct store *s, const char *reason)
{
    g_autoptr(GPtrArray) disks = all_disks(s);

    for (unsigned i = 0; i < disks->len; i++)
        break_and_tell(s, disks->pdata[i], NULL, reason);
}

void store_break(struct state_disk *d, struct stored_bits *only, const char *reason)
{
    break_and_tell(d->store, d, only, reason);
    store_post(d->store, store_settle, d->store);
}

/* Bits are memory now, and nobody has come to say so yet. */
static bool is_lost(struct stored_bits *sb)
{
    struct store *s = sb->disk->store;
    bool lost;

    pthread_mutex_lock(&s->lock);
    lost = !sb->broken && !sb->dropped && sb->file && mapping_is_lost(sb->guard);
    pthread_mutex_unlock(&s->lock);
    return lost;
}

char *store_broken(struct stored_bits *sb)
{
    struct store *s = sb->disk->store;
    char *reason;

    if (is_lost(sb))
        store_bits_lost(sb);
    pthread_mutex_lock(&s->lock);
    reason = g_strdup(sb->broken);
    pthread_mutex_unlock(&s->lock);
    return reason;
}

/* ---- the catalogue ---- */

/* Has the row to be written as broken? Then a copy of the reason. */
static char *begin_noting(struct state_disk *d, const struct catalogue_bitmap *b)
{
    struct stored_bits *sb = stored_bits_named(d, b->uuid);
    char *reason = NULL;

    if (!sb)
        return NULL;
    pthread_mutex_lock(&d->store->lock);
    sb->noting = is_unsettled(sb);
    if (sb->noting)
        reason = g_strdup(sb->broken);
    pthread_mutex_unlock(&d->store->lock);
    stored_bits_unref(sb);
    return reason;
}

/* In memory the row is inconsistent from now on, whatever becomes of the transaction. */
static int put_broken_of(struct state_disk *d, GError **err)
{
    for (unsigned i = 0; i < d->bitmaps->len; i++) {
        struct catalogue_bitmap *b = d->bitmaps->pdata[i];
        g_autofree char *reason = begin_noting(d, b);

        if (!reason)
            continue;
        row_set_inconsistent(b, reason);
        if (catalogue_put_bitmap(d->store->catalogue, b, err) < 0)
            return -1;
    }
    return 0;
}

int store_put_broken(struct store *s, GError **err)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        if (d->attached && put_broken_of(d, err) < 0)
            return -1;
    }
    return 0;
}

/* Is there something that the catalogue does not know? Store's lock held. */
static bool anything_unsettled(struct store *s)
{
    if (s->differs)
        return true;
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        for (unsigned k = 0; k < d->bits->len; k++)
            if (is_unsettled(d->bits->pdata[k]))
                return true;
    }
    return false;
}

static void end_noting(struct store *s)
{
    for (unsigned i = 0; i < s->known->len; i++) {
        struct state_disk *d = s->known->pdata[i];

        for (unsigned k = 0; k < d->bits->len; k++) {
            struct stored_bits *sb = d->bits->pdata[k];

            sb->noted = sb->noted || sb->noting;
            sb->noting = false;
        }
    }
}

void store_settled(struct store *s)
{
    bool lasting = false;

    pthread_mutex_lock(&s->lock);
    end_noting(s);
    if ((s->failing || s->lasting) && !anything_unsettled(s)) {
        s->failing = s->settle_failed = false;
        memory_note_settled(s->memory);
        lasting = s->lasting;
        s->lasting = false;
    }
    pthread_mutex_unlock(&s->lock);
    if (lasting)
        lasting_note_remove(s->folder.uuid);
}

static int write_broken(struct store *s, GError **err)
{
    if (store_catalogue_begin(s, err) < 0)
        return -1;
    if (store_put_broken(s, err) == 0)
        return store_catalogue_commit(s, NULL, err);
    catalogue_rollback(s->catalogue);
    return -1;
}

/* Once for each failure. */
static void log_unsettled(struct store *s, const GError *error)
{
    bool logged;

    pthread_mutex_lock(&s->lock);
    logged = s->settle_failed;
    s->settle_failed = true;
    pthread_mutex_unlock(&s->lock);
    if (!logged)
        log_error("state: %s: the catalogue does not know yet what has become of bitmaps: %s",
                  s->path, error->message);
}

void store_settle(void *store)
{
    struct store *s = store;
    g_autoptr(GError) error = NULL;
    bool unsettled;

    pthread_mutex_lock(&s->catalogue_lock);
    pthread_mutex_lock(&s->lock);
    unsettled = anything_unsettled(s);
    pthread_mutex_unlock(&s->lock);
    if (s->started) {
        if (!unsettled || write_broken(s, &error) == 0)
            store_settled(s);
        else
            log_unsettled(s, error);
    }
    pthread_mutex_unlock(&s->catalogue_lock);
}

/* ---- who finds failures ---- */

struct lasting {
    char uuid[STATE_UUID_SIZE];
    char *path, *reason;
};

static void make_lasting(void *data)
{
    struct lasting *l = data;
    g_autoptr(GError) error = NULL;

    if (lasting_note_make(l->uuid, l->path, l->reason, &error) < 0)
        log_error("state: %s: its failure cannot be noted: %s", l->path, error->message);
    g_free(l->path);
    g_free(l->reason);
    g_free(l);
}

static void nothing(void *unused)
{
    (void)unused;
}

/* Guests go on, and the journal does not know what they write. After a power loss this note will
 * tell. It has a thread of its own: the jobs' thread may hang in the folder. */
static void note_lasting(struct store *s, const char *reason)
{
    g_autoptr(GError) error = NULL;
    struct jobs *j = jobs_new(LASTING_MS, nothing, NULL, &error);
    struct lasting *l = g_new0(struct lasting, 1);

    g_strlcpy(l->uuid, s->folder.uuid, sizeof l->uuid);
    l->path = g_strdup(s->path);
    l->reason = g_strdup(reason);
    pthread_mutex_lock(&s->lock);
    s->lasting = true;
    pthread_mutex_unlock(&s->lock);
    if (!j) {
        make_lasting(l);
        return;
    }
    jobs_post(j, make_lasting, l);
    if (!jobs_free(j, LASTING_MS))
        log_error("state: %s: noting its failure takes long", s->path);
}

void store_journal_failed(void *store, const char *reason)
{
    struct store *s = store;
    g_autofree char *text = g_strdup_printf("the journal of the state folder failed: %s", reason);

    log_error("state: %s: %s", s->path, text);
    pthread_mutex_lock(&s->lock);
    s->journal_failed = true;
    s->failing = true;
    memory_note_failed(s->memory);
    pthread_mutex_unlock(&s->lock);
    break_all(s, text);
    note_lasting(s, text);
    store_post(s, store_settle, s);
}

static bool set_journal_failed(struct store *s, bool failed)
{
    bool before;

    pthread_mutex_lock(&s->lock);
    before = s->journal_failed;
    s->journal_failed = failed;
    pthread_mutex_unlock(&s->lock);
    return before;
}

/* Bitmaps that begin anew need a journal that works; another transaction may be at reviving it just
 * now. The mark is taken away first: a journal that fails again at once sets it again. */
int store_revive_journal(struct store *s, GError **err)
{
    bool failed;

    if (!s->journal)
        return 0;
    failed = set_journal_failed(s, false);
    if (journal_revive(s->journal, err) < 0) {
        set_journal_failed(s, true);
        return -1;
    }
    if (failed)
        log_info("state: %s: the journal works again", s->path);
    return 0;
}

/* Are bits that are broken still relied on? */
static bool is_relied_on(struct stored_bits *sb)
{
    struct store *s = sb->disk->store;
    bool relied_on;

    pthread_mutex_lock(&s->lock);
    relied_on = !sb->noted && !sb->dropped;
    pthread_mutex_unlock(&s->lock);
    return relied_on;
}

/* Bits that cannot be written are good as long as their regions stay open. */
static int sync_one(struct stored_bits *sb)
{
    g_autofree char *broken = store_broken(sb);
    g_autoptr(GError) error = NULL;
    bool stuck = atomic_load(&sb->stuck);

    /* Until the catalogue knows, the regions have to stay open. */
    if (broken)
        return is_relied_on(sb) ? -1 : 0;
    if (stored_bits_sync(sb, &error) == 0)
        return 0;
    if (!stuck)
        log_error("disk %s: the bits of a bitmap could not be written, and a power loss would "
                  "widen it: %s",
                  sb->disk->row.name, error->message);
    return -1;
}

/* The catalogue may name bits that were given up: the journal has to speak for them. */
static bool catalogue_differs(struct store *s)
{
    bool differs;

    pthread_mutex_lock(&s->lock);
    differs = s->differs;
    pthread_mutex_unlock(&s->lock);
    return differs;
}

int store_sync_bits(void *disk)
{
    g_autoptr(GPtrArray) files = stored_bits_with_files(disk);
    int result = catalogue_differs(((struct state_disk *)disk)->store) ? -1 : 0;

    for (unsigned i = 0; i < files->len; i++)
        if (sync_one(files->pdata[i]) < 0)
            result = -1;
    return result;
}

void store_bits_lost(struct stored_bits *sb)
{
    store_break(sb->disk, sb, stored_bits_lost_reason);
}
