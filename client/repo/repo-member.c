/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/repo-member.h"

#include <string.h>

static const char *const names[] = {
    [REPO_FULL] = "full",
    [REPO_INC] = "inc",
    [REPO_DIFF] = "diff",
};

const char *repo_level_name(enum repo_level level)
{
    return names[level];
}

bool repo_level_parse(const char *name, enum repo_level *level)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *level = (enum repo_level)i;
            return true;
        }
    }
    return false;
}

struct repo_disk *repo_disk_new(void)
{
    struct repo_disk *d = g_new0(struct repo_disk, 1);

    d->parent = -1;
    return d;
}

void repo_disk_free(struct repo_disk *d)
{
    if (!d)
        return;
    g_free(d->disk);
    g_free(d->file);
    g_free(d->since);
    g_free(d->reason);
    g_free(d->sums);
    g_free(d);
}

struct repo_member *repo_member_new(void)
{
    struct repo_member *m = g_new0(struct repo_member, 1);

    m->disks = g_ptr_array_new_with_free_func((GDestroyNotify)repo_disk_free);
    return m;
}

void repo_member_free(struct repo_member *m)
{
    if (!m)
        return;
    g_free(m->uuid);
    g_free(m->checkpoint);
    g_free(m->session);
    g_ptr_array_unref(m->disks);
    g_free(m);
}

struct repo_disk *repo_member_disk(const struct repo_member *m, const char *disk)
{
    for (guint i = 0; i < m->disks->len; i++) {
        struct repo_disk *d = m->disks->pdata[i];

        if (strcmp(d->disk, disk) == 0)
            return d;
    }
    return NULL;
}

enum repo_level repo_member_level(const struct repo_member *m)
{
    bool full = true, diff = false;

    for (guint i = 0; i < m->disks->len; i++) {
        const struct repo_disk *d = m->disks->pdata[i];

        full = full && d->level == REPO_FULL;
        diff = diff || d->level == REPO_DIFF;
    }
    return full ? REPO_FULL : diff ? REPO_DIFF : REPO_INC;
}
