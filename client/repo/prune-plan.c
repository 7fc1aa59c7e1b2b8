/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/prune-plan.h"
#include "client/base/error.h"

#include <inttypes.h>
#include <string.h>

#define SUFFIX ".qcow2"

/* A file of clusters that all hold data is larger than its disk by the tables: an entry of 8 bytes and a
 * count of 2 for each 64 KiB. This is more than that. */
#define TABLES_PART  4096
#define TABLES_LEAST (1 << 20)

static void rewrite_free(void *data)
{
    struct prune_rewrite *w = data;

    g_free(w->file);
    g_free(w->base);
    g_free(w->since);
    g_free(w);
}

void prune_plan_free(struct prune_plan *p)
{
    if (!p)
        return;
    g_ptr_array_unref(p->gone);
    g_ptr_array_unref(p->rewrites);
    g_free(p);
}

/* What a plan is made of. */
struct planner {
    const struct repository *r;
    const unsigned *stays;
    struct prune_plan *plan;
};

/* The member with this ID, whose place in `members` is below `end`; *at is its place. */
static struct repo_member *find_older(const struct repository *r, guint end, int64_t id, guint *at)
{
    for (guint i = end; i-- > 0;) {
        struct repo_member *m = r->members->pdata[i];

        if (m->id == id) {
            *at = i;
            return m;
        }
    }
    return NULL;
}

static const struct prune_rewrite *find_rewrite(const struct prune_plan *p,
                                                const struct repo_disk *disk)
{
    for (guint i = 0; i < p->rewrites->len; i++) {
        const struct prune_rewrite *w = p->rewrites->pdata[i];

        if (w->disk == disk)
            return w;
    }
    return NULL;
}

/* How many times a file has been written anew, as its name says: 0 of "vda/00042-inc.qcow2", 1 of
 * "vda/00042-inc.1.qcow2". */
static unsigned generation(const char *file)
{
    g_autofree char *stem = g_strndup(file, strlen(file) - strlen(SUFFIX));
    const char *dot = strrchr(stem, '.');
    guint64 n = 0;

    if (dot && !strchr(dot, '/') && g_ascii_string_to_unsigned(dot + 1, 10, 0, 999999, &n, NULL))
        return (unsigned)n;
    return 0;
}

/* The name of a file that is written anew: that of no other file before. */
static char *next_name(const struct repo_member *m, const struct repo_disk *d,
                       enum repo_level level)
{
    g_autofree char *plain = repo_file_name(d->disk, m->id, level);

    return g_strdup_printf("%.*s.%u" SUFFIX, (int)(strlen(plain) - strlen(SUFFIX)), plain,
                           generation(d->file) + 1);
}

static uint64_t most_bytes(uint64_t taken, uint64_t disk_size)
{
    return MIN(taken, disk_size + disk_size / TABLES_PART) + TABLES_LEAST;
}

/* The way from a file down to the next one that stays. */
struct descent {
    const struct repo_member *base_member; /* NULL: none stays */
    const struct repo_disk *base;
    unsigned depth; /* files between */
    uint64_t taken; /* bytes of the file and of those */
};

static int descend(const struct planner *n, guint at, const struct repo_disk *d,
                   struct descent *way, GError **err)
{
    const struct repo_disk *below = d;

    *way = (struct descent){.taken = d->bytes};
    while (below->parent >= 0) {
        struct repo_member *m = find_older(n->r, at, below->parent, &at);
        const struct repo_disk *next = m ? repo_member_disk(m, d->disk) : NULL;

        if (!next)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s: its parent, %" PRId64 ", is not there or is not older",
                               below->file, below->parent);
        below = next;
        if (n->stays[at]) {
            way->base_member = m;
            way->base = below;
            break;
        }
        way->depth++;
        way->taken += below->bytes;
    }
    return 0;
}

static struct prune_rewrite *rewrite_new(struct repo_member *m, struct repo_disk *d,
                                         const struct descent *way, const char *base)
{
    struct prune_rewrite *w = g_new0(struct prune_rewrite, 1);

    w->member = m;
    w->disk = d;
    w->level = way->base ? d->level : REPO_FULL;
    w->file = next_name(m, d, w->level);
    w->parent = way->base ? way->base_member->id : -1;
    w->base = g_strdup(base);
    w->since = way->base ? g_strdup(way->base_member->checkpoint) : NULL;
    w->depth = way->depth;
    w->need = most_bytes(way->taken, d->size);
    return w;
}

/* Plan for one file of a member that stays, after all older ones. */
static int plan_disk(struct planner *n, guint at, struct repo_disk *d, GError **err)
{
    const struct prune_rewrite *moved;
    struct prune_rewrite *w;
    struct descent way;

    if (descend(n, at, d, &way, err) < 0)
        return -1;
    moved = way.base ? find_rewrite(n->plan, way.base) : NULL;
    if (way.depth == 0 && !moved)
        return 0;
    w = rewrite_new(n->r->members->pdata[at], d, &way,
                    moved      ? moved->file
                    : way.base ? way.base->file
                               : NULL);
    g_ptr_array_add(n->plan->rewrites, w);
    n->plan->need += w->need;
    n->plan->freed += d->bytes;
    return 0;
}

static int plan_member(struct planner *n, guint at, GError **err)
{
    struct repo_member *m = n->r->members->pdata[at];

    if (!n->stays[at])
        g_ptr_array_add(n->plan->gone, m);
    for (guint i = 0; i < m->disks->len; i++) {
        struct repo_disk *d = m->disks->pdata[i];

        if (!g_str_has_suffix(d->file, SUFFIX))
            return client_fail(err, CLIENT_ERROR_FAILED, "%s: not the name of a qcow2 file",
                               d->file);
        if (!n->stays[at])
            n->plan->freed += d->bytes;
        else if (plan_disk(n, at, d, err) < 0)
            return -1;
    }
    return 0;
}

struct prune_plan *prune_plan_new(const struct repository *r, const unsigned *stays, GError **err)
{
    struct prune_plan *p = g_new0(struct prune_plan, 1);
    struct planner n = {.r = r, .stays = stays, .plan = p};

    p->gone = g_ptr_array_new();
    p->rewrites = g_ptr_array_new_with_free_func(rewrite_free);
    for (guint i = 0; i < r->members->len; i++) {
        if (plan_member(&n, i, err) < 0) {
            prune_plan_free(p);
            return NULL;
        }
    }
    return p;
}
