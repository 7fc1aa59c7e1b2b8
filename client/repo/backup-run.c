/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/backup-private.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

void backup_note(struct backup_run *r, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_ptr_array_add(r->result->notes, g_strdup_vprintf(format, args));
    va_end(args);
}

struct repo_member *backup_find_uuid(const struct repository *r, const char *uuid)
{
    for (guint i = 0; i < r->members->len; i++) {
        struct repo_member *m = g_ptr_array_index(r->members, i);

        if (strcmp(m->uuid, uuid) == 0)
            return m;
    }
    return NULL;
}

/* A struct plan_input's `fault`: `opaque` is the run. */
static char *file_fault(void *opaque, const struct repo_member *m, const struct repo_disk *d)
{
    const struct backup_run *r = opaque;
    g_autofree char *path = repo_path(r->result->repo, d->file);
    struct stat st;

    if (lstat(path, &st) < 0)
        return g_strdup_printf("%s: %s", d->file, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return g_strdup_printf("%s is no file", d->file);
    if ((uint64_t)st.st_size != d->bytes)
        return g_strdup_printf("%s has %" PRIu64 " bytes, not %" PRIu64, d->file,
                               (uint64_t)st.st_size, d->bytes);
    return verify_record_fault(r->verified, m, d);
}

static struct plan_input plan_input(struct backup_run *r, const GArray *checkpoints)
{
    /* The lock keeps verify away meanwhile. */
    if (!r->verified)
        r->verified = verify_record_read(r->result->repo);
    return (struct plan_input){
        .repo = r->result->repo, .checkpoints = checkpoints, .fault = file_fault, .opaque = r};
}

GArray *backup_plan_input(struct backup_run *r, struct plan_input *in, JsonNode **reply,
                          GError **err)
{
    GArray *checkpoints = checkpoints_get(r->qmp, reply, err);

    *in = plan_input(r, checkpoints);
    return checkpoints;
}

char *backup_base_fault(struct backup_run *r, const struct backup_choice *choice)
{
    const struct plan_input in = plan_input(r, NULL);

    return choice->level == REPO_FULL ? NULL
                                      : backup_parent_fault(&in, choice->parent, choice->disk);
}

char *backup_file(const struct backup_record *record, const struct backup_choice *choice)
{
    return repo_file_name(choice->disk, record->id, choice->level);
}

int backup_clean(struct repository *repo, const struct backup_record *record, GError **err)
{
    for (guint i = 0; i < record->disks->len; i++) {
        const struct record_disk *d = g_ptr_array_index(record->disks, i);
        g_autofree char *file = backup_file(record, d->choice);

        if (repository_clean_link(repo, file, d->done != NULL, err) < 0)
            return -1;
    }
    return repository_clean(repo, NULL, err);
}
