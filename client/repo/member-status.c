/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/member-status.h"
#include "client/repo/disk-file.h"
#include "client/repo/verify-record.h"

#include <string.h>
#include <sys/stat.h>

#define OK "ok"

struct member_status {
    GHashTable *words; /* struct repo_disk * → a word of this file */
};

static const char *look(const struct repository *r, const verify_record *v,
                        const struct repo_member *m, const struct repo_disk *d)
{
    g_autofree char *path = repo_path(r, d->file);
    const struct verified *last = verify_record_get(v, m, d);
    struct stat st;

    if (stat(path, &st) < 0)
        return "missing";
    if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != d->bytes)
        return "wrong size";
    return last && last->wrong->len > 0 ? "damaged" : OK;
}

/* What a disk stands on comes before it. Its own file is told of first. */
static void take_disk(member_status *s, const struct repository *r, const verify_record *v,
                      const struct repo_member *m, struct repo_disk *d)
{
    const struct repo_disk *below = repo_disk_below(r, d);
    const char *word = look(r, v, m, d);

    if (strcmp(word, OK) == 0 && below && strcmp(member_status_word(s, below), OK) != 0)
        word = "broken chain";
    g_hash_table_insert(s->words, d, (char *)word);
}

member_status *member_status_take(const struct repository *r)
{
    member_status *s = g_new0(member_status, 1);
    g_autoptr(verify_record) v = verify_record_read(r);

    s->words = g_hash_table_new(NULL, NULL);
    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++)
            take_disk(s, r, v, m, m->disks->pdata[k]);
    }
    return s;
}

void member_status_free(member_status *s)
{
    g_hash_table_unref(s->words);
    g_free(s);
}

const char *member_status_word(const member_status *s, const struct repo_disk *d)
{
    return g_hash_table_lookup(s->words, d);
}
