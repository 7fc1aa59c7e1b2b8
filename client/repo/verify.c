/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Members are looked at by ID, so that what a file stands on comes before it: a disk is good if its
 * own file is, and the one below it. Each file is read once, however many members stand on it.
 */
#include "client/repo/verify.h"
#include "client/repo/disk-file.h"
#include "client/repo/verify-data.h"

#include <inttypes.h>

struct verify {
    const struct repository *r;
    const struct verify_options *options;
    const struct verify_ops *ops;
    void *opaque;
    GHashTable *wanted; /* struct repo_disk *: those to be looked at */
    GHashTable *bad;    /* those that are not good */
    GHashTable *below;  /* those that others stand on */
};

/* ---- which ---- */

/* What stands below a disk that is wanted already is wanted, too. */
static void want_chain(struct verify *v, const struct repo_disk *d)
{
    while (d && g_hash_table_add(v->wanted, (void *)d)) {
        d = repo_disk_below(v->r, d);
        if (d)
            g_hash_table_add(v->below, (void *)d);
    }
}

static void choose(struct verify *v, const struct repo_member *only)
{
    for (guint i = 0; i < v->r->members->len; i++) {
        const struct repo_member *m = v->r->members->pdata[i];

        for (guint k = 0; (!only || m == only) && k < m->disks->len; k++)
            want_chain(v, m->disks->pdata[k]);
    }
}

static void tell_total(const struct verify *v)
{
    uint64_t total = 0;
    GHashTableIter iter;
    void *key;

    g_hash_table_iter_init(&iter, v->wanted);
    while (g_hash_table_iter_next(&iter, &key, NULL))
        total += ((const struct repo_disk *)key)->bytes;
    if (v->ops->total && v->options->deep)
        v->ops->total(v->opaque, total);
}

/* ---- one disk ---- */

/* Add what an error says to what is wrong. */
static void add_wrong(GPtrArray *wrong, GError *error)
{
    g_ptr_array_add(wrong, g_strdup(error->message));
    g_error_free(error);
}

static int look(struct verify *v, const struct verify_result *result, struct verify_data *data,
                GError **err)
{
    const struct repo_disk *d = result->disk;
    bool chain = !result->broken && !g_hash_table_contains(v->below, d);
    GError *error = NULL;

    if (repo_file_look(v->r, d, repo_disk_below(v->r, d), &error) < 0) {
        add_wrong(result->wrong, error);
        return 0;
    }
    if (verify_sums(data, d, &error) < 0)
        add_wrong(result->wrong, error);
    if (v->options->deep && result->wrong->len == 0 && verify_image(data, d, chain, &error) < 0)
        add_wrong(result->wrong, error);
    if (!data->stopped)
        return 0;
    g_propagate_error(err, g_steal_pointer(&data->stopped)); /* what it ended is not wrong */
    return -1;
}

static int verify_disk(struct verify *v, const struct repo_member *m, const struct repo_disk *d,
                       struct verify_data *data, GError **err)
{
    g_autoptr(GPtrArray) wrong = g_ptr_array_new_with_free_func(g_free);
    const struct repo_disk *below = repo_disk_below(v->r, d);
    struct verify_result result = {.member = m, .disk = d, .wrong = wrong};

    if (below && g_hash_table_contains(v->bad, below))
        result.broken = below;
    if (look(v, &result, data, err) < 0)
        return -1;
    if (wrong->len > 0 || result.broken)
        g_hash_table_add(v->bad, (void *)d);
    return v->ops->disk(v->opaque, &result, err);
}

/* ---- all ---- */

static int verify_all(struct verify *v, GError **err)
{
    struct verify_data data = {.r = v->r,
                               .deep = v->options->deep,
                               .threads = v->options->threads,
                               .progress = v->ops->progress,
                               .opaque = v->opaque};

    for (guint i = 0; i < v->r->members->len; i++) {
        const struct repo_member *m = v->r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++) {
            if (g_hash_table_contains(v->wanted, m->disks->pdata[k]) &&
                verify_disk(v, m, m->disks->pdata[k], &data, err) < 0)
                return -1;
        }
    }
    return 0;
}

int verify_run(const struct repository *r, const struct repo_member *only,
               const struct verify_options *options, const struct verify_ops *ops, void *opaque,
               GError **err)
{
    g_autoptr(GHashTable) wanted = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) bad = g_hash_table_new(NULL, NULL);
    g_autoptr(GHashTable) below = g_hash_table_new(NULL, NULL);
    struct verify v = {.r = r,
                       .options = options,
                       .ops = ops,
                       .opaque = opaque,
                       .wanted = wanted,
                       .bad = bad,
                       .below = below};

    choose(&v, only);
    tell_total(&v);
    return verify_all(&v, err);
}
