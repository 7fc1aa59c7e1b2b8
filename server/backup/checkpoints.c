/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * How checkpoints change. The store of all disks is the same: so the record of a checkpoint can be
 * changed by way of any of them.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/checkpoints-private.h"
#include "server/state/store.h"

#include <string.h>

/* ---- creating ---- */

static int check_rests(const struct checkpoints *c, const char *name, GError **err)
{
    for (guint i = 0; i < c->rests->len; i++) {
        const struct checkpoint_record *rest = c->rests->pdata[i];

        if (strcmp(rest->name, name) == 0)
            return fail(err,
                        "Checkpoint already exists: %s (it is deleted, but for its bitmap on disk "
                        "%s, which is not served)",
                        name, (const char *)rest->disks->pdata[0]);
    }
    return 0;
}

static int check_options(struct checkpoints *c, const struct checkpoint_options *o, GError **err)
{
    if (o->name[0] == '\0')
        return fail(err, "Checkpoint name cannot be empty");
    if (strlen(o->name) > CHECKPOINT_MAX_NAME)
        return fail(err, "Checkpoint name too long: %s", o->name);
    if (o->description && strlen(o->description) > CHECKPOINT_MAX_DESCRIPTION)
        return fail(err, "Description of checkpoint '%s' is too long", o->name);
    if (o->disks->len == 0)
        return fail(err, "Checkpoint '%s' has no disks", o->name);
    return checkpoint_find(c, o->name) ? fail(err, "Checkpoint already exists: %s", o->name)
                                       : check_rests(c, o->name, err);
}

static struct checkpoint *begin(struct checkpoints *c, const struct checkpoint_options *o)
{
    struct checkpoint_record *record = checkpoint_record_new(o->name);

    if (o->description && o->description[0])
        record->description = g_strdup(o->description);
    record->session = g_strdup(o->session);
    for (guint i = 0; i < o->disks->len; i++) {
        const struct disk *d = o->disks->pdata[i];

        checkpoint_record_add_disk(record, disk_name(d), disk_store_id(d));
    }
    return checkpoint_add(c, record);
}

static void note_time(void *opaque)
{
    struct checkpoint *p = opaque;

    p->record->time_usec = g_get_real_time();
}

static void exists(void *opaque)
{
    struct checkpoint *p = opaque;

    p->state = CHECKPOINT_EXISTS;
}

static void forget(void *opaque)
{
    checkpoint_forget(opaque);
}

static char *text_now(void *opaque)
{
    struct checkpoint *p = opaque;

    return checkpoint_record_text(p->record);
}

static char *text_kept(void *opaque)
{
    struct checkpoint *p = opaque;

    return checkpoint_record_text_kept(p->record);
}

static int stage_record(struct instant *i, const struct checkpoint *p, char *(*text)(void *opaque),
                        void *opaque, GError **err)
{
    const struct state_record record = {
        .kind = CHECKPOINT_KIND, .name = p->record->name, .text = text, .opaque = opaque};
    struct disk *d = checkpoint_record_disk(p);

    return d ? instant_record(i, d, &record, err) : 0;
}

int checkpoint_stage_create(struct checkpoints *c, struct instant *i,
                            const struct checkpoint_options *o, GError **err)
{
    struct checkpoint *p;

    if (check_options(c, o, err) < 0)
        return -1;
    p = begin(c, o);
    instant_on_commit(i, exists, p);
    instant_on_abort(i, forget, p);
    for (guint k = 0; k < o->disks->len; k++) {
        struct disk *d = o->disks->pdata[k];

        if (instant_checkpoint_bitmap_add(i, d, o->name, o->granularity, disk_has_store(d), err) <
            0)
            return -1;
    }
    if (instant_at_flip(i, o->disks->pdata[0], note_time, p, err) < 0)
        return -1;
    return stage_record(i, p, text_now, p, err);
}

/* ---- what becomes of a pending one ---- */

static void keep(void *opaque)
{
    struct checkpoint *p = opaque;

    g_clear_pointer(&p->record->session, g_free);
}

int checkpoint_stage_keep(struct checkpoints *c, struct instant *i, const char *name, GError **err)
{
    struct checkpoint *p = checkpoint_find(c, name);

    if (!p || !p->record->session || p->state != CHECKPOINT_EXISTS)
        return fail(err, "Checkpoint '%s' not found", name);
    if (stage_record(i, p, text_kept, p, err) < 0)
        return -1;
    instant_on_commit(i, keep, p);
    return 0;
}

/* ---- deleting ---- */

/* One that its session (NULL: nobody's) may change now. NULL: *err. */
static struct checkpoint *find_to_change(struct checkpoints *c, const char *name,
                                         const char *session, GError **err)
{
    struct checkpoint *p = checkpoint_find(c, name);

    if (!p || (session && g_strcmp0(p->record->session, session) != 0))
        fail(err, "Checkpoint '%s' not found", name);
    else if (p->state != CHECKPOINT_EXISTS)
        fail(err, "Checkpoint '%s' is currently in use by another operation and cannot be used",
             name);
    else if (p->record->session && !session)
        fail(err, "Checkpoint '%s' belongs to backup session '%s', which has not ended", name,
             p->record->session);
    else
        return p;
    return NULL;
}

struct deletion {
    struct checkpoint *checkpoint;
    char *reason; /* NULL: nobody is told */
    /* Its bitmaps on disks that are not served, which are removed when they are; NULL: none. */
    struct checkpoint_record *rest;
};

static struct checkpoint_record *rest_of(const struct checkpoint *p)
{
    struct checkpoint_record *rest = checkpoint_record_new(p->record->name);

    rest->time_usec = p->record->time_usec;
    rest->deleted = true;
    for (guint i = 0; i < p->disks->len; i++) {
        const struct checkpoint_disk *part = &g_array_index(p->disks, struct checkpoint_disk, i);

        if (!part->disk)
            checkpoint_record_add_disk(rest, part->name, part->id);
    }
    if (rest->disks->len == 0)
        g_clear_pointer(&rest, checkpoint_record_free);
    return rest;
}

static char *text_of_rest(void *opaque)
{
    struct deletion *deletion = opaque;

    return checkpoint_record_text(deletion->rest);
}

static void deleted(void *opaque)
{
    struct deletion *deletion = opaque;
    struct checkpoint *p = deletion->checkpoint;
    const struct server_event event = {
        .kind = EVENT_CHECKPOINT_DELETED, .name = p->record->name, .reason = deletion->reason};

    if (deletion->reason)
        server_emit(p->all->server, &event);
    if (deletion->rest)
        g_ptr_array_add(p->all->rests, g_steal_pointer(&deletion->rest));
    checkpoint_forget(p);
}

static void not_deleted(void *opaque)
{
    struct deletion *deletion = opaque;

    exists(deletion->checkpoint);
}

static void deletion_free(void *opaque)
{
    struct deletion *deletion = opaque;

    checkpoint_record_free(deletion->rest);
    g_free(deletion->reason);
    g_free(deletion);
}

static int stage_bitmap_removals(struct instant *i, const struct checkpoint *p, GError **err)
{
    for (guint k = 0; k < p->disks->len; k++) {
        const struct checkpoint_disk *part = &g_array_index(p->disks, struct checkpoint_disk, k);
        g_autofree char *why = NULL;
        struct dirty_bitmap *db = checkpoint_bitmap(part, &why);

        if (!db)
            continue;
        dirty_bitmap_unref(db);
        if (instant_checkpoint_bitmap_remove(i, part->disk, part->bitmap, err) < 0)
            return -1;
    }
    return 0;
}

static int stage_deletion(struct instant *i, struct checkpoint *p, const char *reason, GError **err)
{
    struct deletion *deletion = g_new0(struct deletion, 1);

    *deletion = (struct deletion){.checkpoint = p, .reason = g_strdup(reason), .rest = rest_of(p)};
    p->state = CHECKPOINT_ENDS;
    instant_on_commit(i, deleted, deletion);
    instant_on_abort(i, not_deleted, deletion);
    instant_on_end(i, deletion_free, deletion);
    if (stage_bitmap_removals(i, p, err) < 0)
        return -1;
    return stage_record(i, p, deletion->rest ? text_of_rest : NULL, deletion, err);
}

int checkpoint_stage_delete(struct checkpoints *c, struct instant *i, const char *name,
                            const char *session, const char *reason, GError **err)
{
    struct checkpoint *p = find_to_change(c, name, session, err);

    return p ? stage_deletion(i, p, reason, err) : -1;
}

/* ---- the start ---- */

/* Another disk has the name of the one that it was made on. */
static bool is_other_disk(const struct checkpoint_disk *part)
{
    return part->disk && part->id != 0 && part->id != disk_store_id(part->disk);
}

/* A bitmap that does not record says nothing of what has changed, nor does one of another disk. (One that
 * is inconsistent may stand for a bitmap that was set aside with its image: it says so.) */
static void take_bitmap(struct checkpoint_disk *part)
{
    struct dirty_bitmap *db = part->disk ? disk_find_bitmap(part->disk, part->bitmap) : NULL;
    struct dirty_bitmap_info info = {.recording = false};

    if (db) {
        dirty_bitmap_flags(db, &info);
        dirty_bitmap_unref(db);
    }
    part->gone = (!info.recording || is_other_disk(part)) && !info.inconsistent;
    if (!part->gone)
        disk_bitmap_set_readonly(part->disk, part->bitmap);
    else if (part->disk)
        log_error("checkpoint %s: disk %s: its bitmap is gone", part->bitmap, part->name);
}

/* Take one; stage its deletion, if it is not to be. */
static int take(struct checkpoints *c, struct checkpoint_record *record, struct instant *i,
                bool lives, GError **err)
{
    struct checkpoint *p = checkpoint_add(c, record);

    p->state = CHECKPOINT_EXISTS;
    for (guint k = 0; k < p->disks->len; k++)
        take_bitmap(&g_array_index(p->disks, struct checkpoint_disk, k));
    if (lives)
        return 0;
    if (!record->deleted)
        log_info("checkpoint %s: removed, because its backup session '%s' was not committed",
                 record->name, record->session);
    return stage_deletion(i, p, NULL, err);
}

/* Its bitmaps, whichever they are, are ordinary ones from now on. */
static int remove_unreadable(struct checkpoints *c, const char *name, struct instant *i,
                             const GError *why, GError **err)
{
    const struct state_record record = {.kind = CHECKPOINT_KIND, .name = name};
    g_autoptr(GPtrArray) disks = server_disks(c->server);

    log_error("checkpoint %s: its record cannot be used and is removed: %s", name, why->message);
    return disks->len > 0 ? instant_record(i, disks->pdata[0], &record, err) : 0;
}

static int restore_all(struct checkpoints *c, const GArray *records, struct instant *i,
                       bool (*is_session)(void *opaque, const char *id), void *opaque, GError **err)
{
    for (guint k = 0; k < records->len; k++) {
        const struct store_record *found = &g_array_index(records, struct store_record, k);
        g_autoptr(GError) why = NULL;
        struct checkpoint_record *r = checkpoint_record_parse(found->name, found->text, &why);
        bool lives =
            r && !r->deleted && (!r->session || (is_session && is_session(opaque, r->session)));
        int result = r ? take(c, r, i, lives, err) : remove_unreadable(c, found->name, i, why, err);

        if (result < 0)
            return -1;
    }
    return 0;
}

int checkpoints_restore(struct checkpoints *c, bool (*is_session)(void *opaque, const char *id),
                        void *opaque, GError **err)
{
    struct store *store = server_options(c->server)->store;
    g_autoptr(GArray) records = store ? store_records(store, CHECKPOINT_KIND) : NULL;
    struct instant *i;

    if (!records || records->len == 0)
        return 0;
    i = instant_new();
    if (restore_all(c, records, i, is_session, opaque, err) == 0)
        return instant_commit(i, err);
    instant_abort(i);
    return -1;
}
