/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a backup: it becomes a member, and its session is committed; or it comes to nothing. */
#include "client/base/error.h"
#include "client/repo/backup-private.h"

#include <inttypes.h>
#include <string.h>

/* ---- the member ---- */

static struct repo_member *make_member(const struct backup_run *r)
{
    struct repo_member *m = repo_member_new();

    m->id = r->record->id;
    m->uuid = g_strdup(r->record->uuid);
    m->time = r->session->time;
    m->checkpoint = g_strdup(r->session->id);
    m->session = g_strdup(r->session->id);
    for (guint i = 0; i < r->record->disks->len; i++) {
        struct record_disk *d = g_ptr_array_index(r->record->disks, i);

        g_ptr_array_add(m->disks, g_steal_pointer(&d->done));
    }
    return m;
}

/* Whether the manifest in the folder has the member after all, or may have it after a power cut: a sync
 * that failed leaves it open. Where that cannot be told, it counts as having it. */
static bool may_be_in_manifest(const struct backup_run *r)
{
    const struct repository *repo = r->result->repo;
    struct repository *now = repo->unsure ? NULL : repository_open(repo->path, REPO_LOOK, NULL);
    bool is_in = !now || backup_find_uuid(now, r->record->uuid);

    repository_close(now);
    return is_in;
}

/* Make it a member. NULL and *err: nothing has come of it, and what began is given up, but where
 * nobody can tell: then the next run finds out. */
static struct repo_member *save_member(struct backup_run *r, GError **err)
{
    struct repository *repo = r->result->repo;
    struct repo_member *m = make_member(r);
    GError *error = NULL;

    g_ptr_array_add(repo->members, m);
    repo->next_id = m->id + 1;
    if (repository_save(repo, &error) == 0)
        return m;
    g_ptr_array_remove_index(repo->members, repo->members->len - 1);
    repo->next_id--;
    if (may_be_in_manifest(r)) {
        client_fail(err, CLIENT_ERROR_PARTLY,
                    "whether backup %" PRId64 " is in the repository, the next run finds out: %s",
                    r->record->id, error->message);
        g_error_free(error);
    } else {
        backup_give_up(r, &error);
        g_propagate_error(err, error);
    }
    return NULL;
}

/* ---- the session ---- */

/* The server does not commit it. Is it because it has aborted it? Then the member has no
 * checkpoint, and the record is settled. */
static int settle_aborted(struct backup_run *r, struct repo_member *m, GError **err)
{
    enum session_fate fate;

    if (session_fate(r->qmp, r->session->id, &fate, err) < 0)
        return -1;
    if (fate != SESSION_ABORTED)
        return client_fail(err, CLIENT_ERROR_FAILED, "the next run tries again");
    g_clear_pointer(&m->checkpoint, g_free);
    if (repository_save(r->result->repo, err) < 0)
        return -1;
    return backup_record_remove(r->result->repo, err);
}

static int partly(const struct repo_member *m, const char *what, const GError *why, GError **err)
{
    return client_fail(err, CLIENT_ERROR_PARTLY,
                       "backup %" PRId64 " is in the repository, but %s: %s", m->id, what,
                       why->message);
}

static int commit_session(struct backup_run *r, struct repo_member *m, GError **err)
{
    g_autoptr(GError) why = NULL;
    g_autoptr(GError) ignored = NULL;

    if (backup_session_commit(r->session, &why) == 0)
        return 0;
    settle_aborted(r, m, &ignored); /* else running.json tells the next run */
    return partly(m, "its session could not be committed", why, err);
}

/* ---- checkpoints ---- */

static GPtrArray *spare_checkpoints(struct backup_run *r, GError **err)
{
    struct plan_input in;
    g_autoptr(JsonNode) reply = NULL;
    g_autoptr(GArray) checkpoints = backup_plan_input(r, &in, &reply, err);

    return checkpoints ? backup_spare_checkpoints(&in, r->prefix, r->o->keep) : NULL;
}

/* No member has it any more. */
static void forget_checkpoint(const struct repository *repo, const char *name)
{
    for (guint i = 0; i < repo->members->len; i++) {
        struct repo_member *m = g_ptr_array_index(repo->members, i);

        if (g_strcmp0(m->checkpoint, name) == 0)
            g_clear_pointer(&m->checkpoint, g_free);
    }
}

static int delete_checkpoint(struct backup_run *r, const char *name, GError **err)
{
    JsonObject *arguments = json_object_new();
    g_autoptr(JsonNode) reply = NULL;

    json_object_set_string_member(arguments, "name", name);
    reply = qmp_command(r->qmp, "checkpoint-delete", arguments, err);
    if (!reply) {
        g_prefix_error(err, "checkpoint %s: ", name);
        return -1;
    }
    forget_checkpoint(r->result->repo, name);
    return 0;
}

/* Delete all that is spare, also where one of them fails. 0, or -1 and *err, the first error. */
static int delete_spare(struct backup_run *r, GError **err)
{
    g_autoptr(GPtrArray) spare = spare_checkpoints(r, err);
    GError *first = NULL;

    if (!spare)
        return -1;
    for (guint i = 0; i < spare->len; i++)
        delete_checkpoint(r, g_ptr_array_index(spare, i), first ? NULL : &first);
    if (spare->len > 0)
        repository_save(r->result->repo, first ? NULL : &first);
    if (!first)
        return 0;
    g_propagate_error(err, first);
    return -1;
}

/* What comes after the backup. 0, or -1 and *err: the next run does what is left. */
static int tidy(struct backup_run *r, GError **err)
{
    struct repository *repo = r->result->repo;
    int rc = delete_spare(r, err);

    if (rc == 0 && r->result->resumed)
        rc = repository_clean(repo, NULL, err);
    if (backup_record_remove(repo, rc == 0 ? err : NULL) < 0)
        rc = -1;
    return rc;
}

int backup_commit(struct backup_run *r, GError **err)
{
    g_autoptr(GError) why = NULL;
    struct repo_member *m = save_member(r, err);

    if (!m)
        return -1;
    r->result->member = m;
    if (commit_session(r, m, err) < 0)
        return -1;
    if (tidy(r, &why) < 0)
        return partly(m, "not all that comes after is done", why, err);
    return 0;
}

/* ---- it comes to nothing ---- */

/* Undo all. *why: what a person should know beside the error. */
static void undo(struct backup_run *r, GError **why)
{
    struct repository *repo = r->result->repo;
    int rc = r->session ? backup_session_abort(r->session, why)
                        : session_abort(r->qmp, r->record->session, why);

    if (rc < 0)
        return;
    if (backup_clean(repo, r->record, *why ? NULL : why) == 0)
        backup_record_remove(repo, *why ? NULL : why);
}

void backup_give_up(struct backup_run *r, GError **error)
{
    g_autoptr(GError) why = NULL;
    bool unreachable = g_error_matches(*error, CLIENT_ERROR, CLIENT_ERROR_UNREACHABLE);
    char *text;

    if (!r->record)
        return;
    if (r->o->resume && r->pulling)
        client_fail(&why, CLIENT_ERROR_FAILED, "run it with --resume again to go on");
    else
        undo(r, &why);
    if (!why || (unreachable && !r->o->resume) || strstr((*error)->message, r->record->session))
        return; /* it is said already */
    text = g_strdup_printf("%s (%s)", (*error)->message, why->message);
    g_free((*error)->message);
    (*error)->message = text;
}
