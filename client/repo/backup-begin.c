/* SPDX-License-Identifier: BSD-3-Clause */
/* The beginning of a backup: which disks, at which level, and the session. */
#include "client/base/error.h"
#include "client/qmp/inventory.h"
#include "client/repo/backup-private.h"

#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

/* ---- which disks ---- */

static bool is_listed(char *const *names, const char *name)
{
    return names && g_strv_contains((const char *const *)names, name);
}

/* A name that is wrong would be a disk that is not backed up, or is. */
static bool are_there(const inventory *i, char *const *names, GError **err)
{
    for (; names && *names; names++) {
        if (!inventory_find_disk(i, *names, err))
            return false;
    }
    return true;
}

/* The names of the disks to be backed up, borrowed from the inventory, up to a NULL. */
static GPtrArray *choose_disks(const struct backup_options *o, const inventory *i, GError **err)
{
    g_autoptr(GPtrArray) names = g_ptr_array_new();

    if (!are_there(i, o->include, err) || !are_there(i, o->exclude, err))
        return NULL;
    for (guint n = 0; n < i->disks->len; n++) {
        const char *name = g_array_index(i->disks, struct disk_entry, n).name;

        if ((!o->include || is_listed(o->include, name)) && !is_listed(o->exclude, name))
            g_ptr_array_add(names, (void *)name);
    }
    if (names->len == 0) {
        client_fail(err, CLIENT_ERROR_FAILED, "there is no disk to be backed up");
        return NULL;
    }
    g_ptr_array_add(names, NULL);
    return g_steal_pointer(&names);
}

/* ---- the plan ---- */

static GPtrArray *plan(struct backup_run *r, const char *const *disks, GError **err)
{
    struct plan_input in;
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) checkpoints = backup_plan_input(r, &in, &reply, err);

    return checkpoints ? backup_plan(&in, r->o->level, r->o->since, disks, err) : NULL;
}

/* Ask the server what there is, and choose. NULL and *err. */
static GPtrArray *make_plan(struct backup_run *r, GError **err)
{
    GError *error = NULL;
    inventory *i = inventory_get(r->qmp, &error);
    GPtrArray *names = i ? choose_disks(r->o, i, &error) : NULL;
    GPtrArray *choices = names ? plan(r, (const char *const *)names->pdata, &error) : NULL;

    if (names)
        g_ptr_array_unref(names);
    if (i)
        inventory_free(i);
    if (g_error_matches(error, CLIENT_ERROR, CLIENT_ERROR_COMMAND_NOT_FOUND))
        g_prefix_error(&error, "this server has no backup sessions, as nbdfleece has them; "
                               "fleecectl pull copies from any NBD server: ");
    if (error)
        g_propagate_error(err, error);
    return choices;
}

/* ---- the session ---- */

static struct backup_record *new_record(const struct backup_run *r)
{
    g_autofree char *uuid = g_uuid_string_random();
    int64_t id = r->result->repo->next_id;
    g_autofree char *name = g_strdup_printf("%s%05" PRId64 "-%.8s", r->prefix, id, uuid);

    return backup_record_new(id, uuid, name);
}

/* What the server says of a disk decides. 0, or -1 and *err where that is not what was wanted. */
static int follow(const struct backup_run *r, struct backup_choice *c, GError **err)
{
    const struct session_disk *d = backup_session_disk(r->session, c->disk);

    if (!d)
        return client_fail(err, CLIENT_ERROR_FAILED, "disk %s: it is not in the session", c->disk);
    if (strcmp(d->mode, "full") != 0) {
        if (c->level == REPO_FULL)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "disk %s: it was asked for in full, and "
                               "the server gives changes",
                               c->disk);
        return 0;
    }
    if (c->level == REPO_FULL)
        return 0;
    backup_choice_make_full(c, d->reason ? d->reason : "the server gives it in full");
    if (r->o->level != BACKUP_INC)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED, "disk %s: no incremental backup is possible: %s",
                       c->disk, c->reason);
}

/* A base that is not the newest is worth a word: more than usual is read. */
static void note_older_base(struct backup_run *r, const struct backup_choice *c)
{
    if (c->level != REPO_FULL && c->reason)
        backup_note(
            r, "disk %s: it is put on backup %" PRId64 ", because nothing newer can be used: %s",
            c->disk, c->parent, c->reason);
}

static int is_there(const struct backup_choice *c, const char *path, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "disk %s: %s: it exists, and is in no backup: move it away", c->disk, path);
}

/* What the record names is removed where it comes to nothing: so it must not be there yet. */
static int check_absent(const struct backup_run *r, const struct backup_choice *c, GError **err)
{
    g_autofree char *file = backup_file(r->record, c);
    g_autofree char *path = repo_path(r->result->repo, file);
    g_autofree char *sums = repo_sums_path(r->result->repo, file);
    struct stat st;

    if (lstat(path, &st) == 0)
        return is_there(c, path, err);
    if (lstat(sums, &st) == 0)
        return is_there(c, sums, err);
    return 0;
}

/* Takes over the choices, one by one. */
static int add_disks(struct backup_run *r, GPtrArray *choices, GError **err)
{
    while (choices->len > 0) {
        struct backup_choice *c = g_ptr_array_steal_index(choices, 0);

        backup_record_add(r->record, c);
        if (check_absent(r, c, err) < 0)
            return -1;
    }
    return 0;
}

/* What the server says of each disk decides. *changed: it is not what was planned. */
static int follow_all(struct backup_run *r, bool *changed, GError **err)
{
    *changed = false;
    for (guint i = 0; i < r->record->disks->len; i++) {
        const struct record_disk *d = g_ptr_array_index(r->record->disks, i);
        enum repo_level level = d->choice->level;

        if (follow(r, d->choice, err) < 0)
            return -1;
        if (d->choice->level != level && check_absent(r, d->choice, err) < 0)
            return -1;
        *changed = *changed || d->choice->level != level;
        note_older_base(r, d->choice);
    }
    return 0;
}

static int follow_server(struct backup_run *r, GError **err)
{
    bool changed;

    if (follow_all(r, &changed, err) == 0)
        return changed ? backup_record_save(r->record, r->result->repo, err) : 0;
    g_ptr_array_set_size(r->record->disks, 0); /* nothing of them is there */
    return -1;
}

/* Nothing is on the server: nothing is left but the record, perhaps. */
static void forget_record(struct backup_run *r)
{
    g_autoptr(GError) ignored = NULL;

    backup_record_remove(r->result->repo, &ignored); /* else the next run does it */
    g_clear_pointer(&r->record, backup_record_free);
}

static int begin_session(struct backup_run *r, GError **err)
{
    g_autoptr(GPtrArray) choices = g_ptr_array_new();
    bool begun;

    for (guint i = 0; i < r->record->disks->len; i++) {
        const struct record_disk *d = g_ptr_array_index(r->record->disks, i);

        g_ptr_array_add(choices, d->choice);
    }
    r->session =
        backup_session_begin(r->qmp, r->record->session, choices, r->o->lease, &begun, err);
    if (r->session)
        return 0;
    if (!begun)
        forget_record(r);
    return -1;
}

int backup_begin(struct backup_run *r, GError **err)
{
    g_autoptr(GPtrArray) choices = make_plan(r, err);

    if (!choices)
        return -1;
    r->record = new_record(r);
    if (add_disks(r, choices, err) < 0 || backup_record_save(r->record, r->result->repo, err) < 0) {
        forget_record(r);
        return -1;
    }
    if (begin_session(r, err) < 0)
        return -1;
    if (r->session->quiesce_error)
        backup_note(r, "guests were not quiesced: %s", r->session->quiesce_error);
    return follow_server(r, err);
}
