/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/backup-plan.h"
#include "client/base/error.h"
#include "client/qmp/backups.h"

#include <inttypes.h>
#include <string.h>

/* ---- choices ---- */

struct backup_choice *backup_choice_new(const char *disk)
{
    struct backup_choice *c = g_new0(struct backup_choice, 1);

    c->disk = g_strdup(disk);
    backup_choice_make_full(c, NULL);
    return c;
}

void backup_choice_free(struct backup_choice *c)
{
    g_free(c->disk);
    g_free(c->since);
    g_free(c->reason);
    g_free(c);
}

void backup_choice_make_full(struct backup_choice *c, const char *reason)
{
    char *copy = g_strdup(reason);

    c->level = REPO_FULL;
    c->parent = -1;
    g_clear_pointer(&c->since, g_free);
    g_free(c->reason);
    c->reason = copy;
}

static void free_choice(void *choice)
{
    backup_choice_free(choice);
}

/* ---- what can be a base ---- */

static const struct checkpoint_entry *find_checkpoint(const struct plan_input *in, const char *name)
{
    for (guint i = 0; i < in->checkpoints->len; i++) {
        const struct checkpoint_entry *c =
            &g_array_index(in->checkpoints, struct checkpoint_entry, i);

        if (strcmp(c->name, name) == 0)
            return c;
    }
    return NULL;
}

static const struct checkpoint_part *find_part(const struct checkpoint_entry *c, const char *disk)
{
    for (guint i = 0; i < c->parts->len; i++) {
        const struct checkpoint_part *p = &g_array_index(c->parts, struct checkpoint_part, i);

        if (strcmp(p->disk, disk) == 0)
            return p;
    }
    return NULL;
}

/* Why the member's checkpoint is none that the server can begin from on this disk; NULL: it can. */
static char *checkpoint_fault(const struct plan_input *in, const struct repo_member *m,
                              const char *disk)
{
    const struct checkpoint_entry *c;
    const struct checkpoint_part *part;

    if (!m->checkpoint)
        return g_strdup("its checkpoint has been deleted");
    c = find_checkpoint(in, m->checkpoint);
    if (!c)
        return g_strdup_printf("the server has no checkpoint %s", m->checkpoint);
    part = find_part(c, disk);
    if (!part)
        return g_strdup_printf("checkpoint %s has no part of the disk", m->checkpoint);
    if (!part->valid)
        return g_strdup_printf("checkpoint %s is not valid: %s", m->checkpoint,
                               part->reason ? part->reason : "the server does not say why");
    return NULL;
}

/* Why the disk as the member has it cannot be read any more; NULL: it can, as far as its files
 * tell. Parents are older, so that this ends. */
static char *chain_fault(const struct plan_input *in, const struct repo_member *m, const char *disk)
{
    unsigned files = 0;

    for (;;) {
        const struct repo_disk *d = repo_member_disk(m, disk);
        int64_t parent = d ? d->parent : -1;
        char *fault = d ? in->fault(in->opaque, m, d)
                        : g_strdup_printf("backup %" PRId64 " does not have the disk", m->id);

        if (fault)
            return fault;
        if (++files >= BACKUP_CHAIN_MAX)
            return g_strdup_printf("its chain has %d files already", BACKUP_CHAIN_MAX);
        if (parent < 0)
            return NULL;
        if (parent >= m->id || !repository_find(in->repo, parent))
            return g_strdup_printf("backup %" PRId64 ", below it, is gone", parent);
        m = repository_find(in->repo, parent);
    }
}

char *backup_parent_fault(const struct plan_input *in, int64_t parent, const char *disk)
{
    const struct repo_member *m = repository_find(in->repo, parent);

    return m ? chain_fault(in, m, disk) : g_strdup_printf("backup %" PRId64 " is gone", parent);
}

/* Why a new backup of the disk cannot be put upon the member; NULL: it can. */
static char *base_fault(const struct plan_input *in, const struct repo_member *m, const char *disk)
{
    char *fault = checkpoint_fault(in, m, disk);

    return fault ? fault : chain_fault(in, m, disk);
}

/* ---- the plan ---- */

static bool is_wanted(const struct repo_member *m, const struct repo_disk *d,
                      enum backup_level level, int64_t since)
{
    return d && (since < 0 || m->id == since) && (level != BACKUP_DIFF || d->level == REPO_FULL);
}

/* No member can be looked at as a base: why. */
static char *no_base(enum backup_level level, int64_t since)
{
    const char *what = level == BACKUP_DIFF ? "full backup" : "backup";

    return since >= 0 ? g_strdup_printf("backup %" PRId64 " is no %s of it", since, what)
                      : g_strdup_printf("there is no %s of it yet", what);
}

/* The newest member that can be the base for a disk. NULL: none. *reason, which the caller frees, is
 * why it is not a newer one (NULL: it is the newest). */
static const struct repo_member *find_base(const struct plan_input *in, enum backup_level level,
                                           int64_t since, const char *disk, char **reason)
{
    const GPtrArray *members = in->repo->members;

    *reason = NULL;
    for (guint i = members->len; i-- > 0;) {
        const struct repo_member *m = g_ptr_array_index(members, i);
        g_autofree char *fault = NULL;

        if (!is_wanted(m, repo_member_disk(m, disk), level, since))
            continue;
        fault = base_fault(in, m, disk);
        if (!fault)
            return m;
        if (!*reason)
            *reason = g_strdup_printf("backup %" PRId64 ": %s", m->id, fault);
    }
    if (!*reason)
        *reason = no_base(level, since);
    return NULL;
}

static int choose(const struct plan_input *in, enum backup_level level, int64_t since,
                  struct backup_choice *c, GError **err)
{
    g_autofree char *reason = NULL;
    const struct repo_member *base;

    if (level == BACKUP_FULL)
        return 0;
    base = find_base(in, level, since, c->disk, &reason);
    if (!base && level == BACKUP_INC)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "disk %s: no incremental backup is possible: %s", c->disk, reason);
    if (base) {
        c->level = level == BACKUP_DIFF ? REPO_DIFF : REPO_INC;
        c->parent = base->id;
        c->since = g_strdup(base->checkpoint);
    }
    c->reason = g_steal_pointer(&reason);
    return 0;
}

GPtrArray *backup_plan(const struct plan_input *in, enum backup_level level, int64_t since,
                       const char *const *disks, GError **err)
{
    g_autoptr(GPtrArray) choices = g_ptr_array_new_with_free_func(free_choice);

    if (since >= 0 && !repository_find(in->repo, since)) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s: there is no backup %" PRId64, in->repo->path,
                    since);
        return NULL;
    }
    for (; *disks; disks++) {
        struct backup_choice *c = backup_choice_new(*disks);

        g_ptr_array_add(choices, c);
        if (choose(in, level, since, c, err) < 0)
            return NULL;
    }
    return g_steal_pointer(&choices);
}

/* ---- checkpoints ---- */

/* Add to the set `needed` what is needed for the disks of members from the newest on. `full`: look
 * at full ones only. */
static void need_of_disks(const struct plan_input *in, bool full, GHashTable *needed)
{
    const GPtrArray *members = in->repo->members;
    g_autoptr(GHashTable) served = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = members->len; i-- > 0;) {
        const struct repo_member *m = g_ptr_array_index(members, i);

        for (guint k = 0; k < m->disks->len; k++) {
            const struct repo_disk *d = g_ptr_array_index(m->disks, k);
            g_autofree char *fault = NULL;

            if (g_hash_table_contains(served, d->disk) || (full && d->level != REPO_FULL))
                continue;
            fault = base_fault(in, m, d->disk);
            if (fault)
                continue;
            g_hash_table_add(served, d->disk);
            g_hash_table_add(needed, m->checkpoint);
        }
    }
}

static void need_of_newest(const struct plan_input *in, unsigned keep, GHashTable *needed)
{
    const GPtrArray *members = in->repo->members;

    for (guint i = members->len; i-- > 0 && keep > 0;) {
        const struct repo_member *m = g_ptr_array_index(members, i);

        if (!m->checkpoint || !find_checkpoint(in, m->checkpoint))
            continue;
        g_hash_table_add(needed, m->checkpoint);
        keep--;
    }
}

GPtrArray *backup_spare_checkpoints(const struct plan_input *in, const char *prefix, unsigned keep)
{
    g_autoptr(GHashTable) needed = g_hash_table_new(g_str_hash, g_str_equal);
    GPtrArray *spare = g_ptr_array_new_with_free_func(g_free);

    need_of_newest(in, keep, needed);
    need_of_disks(in, false, needed);
    need_of_disks(in, true, needed);
    for (guint i = 0; i < in->checkpoints->len; i++) {
        const char *name = g_array_index(in->checkpoints, struct checkpoint_entry, i).name;

        if (g_str_has_prefix(name, prefix) && !g_hash_table_contains(needed, name))
            g_ptr_array_add(spare, g_strdup(name));
    }
    return spare;
}
