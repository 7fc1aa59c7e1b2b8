/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/repo-guard.h"
#include "client/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Bytes at the beginning of a manifest that have its format. */
#define HEAD 512

/* Also one whose manifest is damaged further on counts. */
static bool is_repository(const char *folder)
{
    g_autofree char *path = g_build_filename(folder, "manifest.json", NULL);
    char head[HEAD + 1];
    FILE *f = fopen(path, "re");
    size_t n = f ? fread(head, 1, HEAD, f) : 0;

    if (f)
        fclose(f);
    head[n] = '\0';
    return strstr(head, "\"nbdfleece-repository\"");
}

static bool is_same_file(const char *path, const struct stat *st)
{
    struct stat other;

    return stat(path, &other) == 0 && other.st_dev == st->st_dev && other.st_ino == st->st_ino;
}

/* Is it a file of a member, or the checksums of one? */
static bool has_file(const struct repository *r, const struct stat *st)
{
    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++) {
            const struct repo_disk *d = m->disks->pdata[k];
            g_autofree char *path = repo_path(r, d->file), *sums = repo_sums_path(r, d->file);

            if (is_same_file(path, st) || is_same_file(sums, st))
                return true;
        }
    }
    return false;
}

int repo_guard_target(const struct repository *r, const char *target, GError **err)
{
    char *path = realpath(target, NULL); /* also of links: what they lead to is written */
    g_autofree char *folder = path ? g_path_get_dirname(path) : NULL;
    g_autofree char *above = path ? g_path_get_dirname(folder) : NULL;
    struct stat st;
    bool is_file = path && stat(path, &st) == 0 && S_ISREG(st.st_mode);

    free(path);
    if (!is_file || (!is_repository(folder) && !is_repository(above) && !(r && has_file(r, &st))))
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: it is in a repository, in which nothing is written over", target);
}
