/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies of a simulated storage, as they are and as a power loss leaves them: see sim-storage.h. */
#include "tests/rigs/sim-storage-private.h"

#include <string.h>

/* The copy of an inode, the same one each time it is met. */
static struct sim_inode *copy_of(GHashTable *copies, struct sim_inode *i)
{
    struct sim_inode *copy;

    if (!i)
        return NULL;
    copy = g_hash_table_lookup(copies, i);
    if (!copy) {
        copy = sim_inode_copy(i);
        g_hash_table_insert(copies, i, copy);
    }
    return copy;
}

static void copy_entries(GPtrArray *to, GPtrArray *from, GHashTable *copies)
{
    for (unsigned k = 0; k < from->len; k++) {
        struct sim_entry *e = from->pdata[k];

        sim_entry_put(to, e->name, copy_of(copies, e->inode));
    }
}

static void inode_unref(void *inode)
{
    sim_inode_unref(inode);
}

static GHashTable *copies_new(void)
{
    return g_hash_table_new_full(NULL, NULL, NULL, inode_unref);
}

struct storage *sim_storage_copy(struct storage *s)
{
    struct sim_storage *m = sim_of(s), *copy = sim_of(sim_storage_new());
    g_autoptr(GHashTable) copies = copies_new();

    pthread_mutex_lock(&m->lock);
    copy_entries(copy->seen, m->seen, copies);
    copy_entries(copy->medium, m->medium, copies);
    for (unsigned k = 0; k < m->changes->len; k++) {
        struct sim_change *c = m->changes->pdata[k], *own = g_new0(struct sim_change, 1);
        struct sim_inode *i = copy_of(copies, c->inode);

        *own = (struct sim_change){g_strdup(c->name), g_strdup(c->from),
                                   i ? sim_inode_ref(i) : NULL, c->end};
        g_ptr_array_add(copy->changes, own);
    }
    pthread_mutex_unlock(&m->lock);
    return &copy->storage;
}

typedef bool (*same_inodes)(const struct sim_inode *a, const struct sim_inode *b);

static bool same_inode(const struct sim_inode *a, const struct sim_inode *b, same_inodes same)
{
    return a && b ? same(a, b) : !a && !b;
}

static bool same_entries(const GPtrArray *a, const GPtrArray *b, same_inodes same)
{
    if (a->len != b->len)
        return false;
    for (unsigned k = 0; k < a->len; k++) {
        const struct sim_entry *x = a->pdata[k], *y = b->pdata[k];

        if (strcmp(x->name, y->name) != 0 || !same_inode(x->inode, y->inode, same))
            return false;
    }
    return true;
}

static bool same_changes(const GPtrArray *a, const GPtrArray *b)
{
    if (a->len != b->len)
        return false;
    for (unsigned k = 0; k < a->len; k++) {
        const struct sim_change *x = a->pdata[k], *y = b->pdata[k];

        if (strcmp(x->name, y->name) != 0 || g_strcmp0(x->from, y->from) != 0 || x->end != y->end ||
            !same_inode(x->inode, y->inode, sim_inode_same))
            return false;
    }
    return true;
}

/* Nobody else uses them: no lock. */
bool sim_storage_same(struct storage *a, struct storage *b)
{
    struct sim_storage *m = sim_of(a), *n = sim_of(b);

    return same_entries(m->seen, n->seen, sim_inode_same) &&
           same_entries(m->medium, n->medium, sim_inode_same) &&
           same_changes(m->changes, n->changes);
}

bool sim_storage_looks_same(struct storage *a, struct storage *b)
{
    return same_entries(sim_of(a)->seen, sim_of(b)->seen, sim_inode_looks_same);
}

/* Names of which each change since the last sync has happened or not; or, as with a journal of the
 * file system, only the first of them have. */
static GPtrArray *names_after(struct sim_storage *m, GRand *rand)
{
    GPtrArray *names = sim_entries_new();
    bool in_order = g_rand_boolean(rand);
    unsigned first = (unsigned)g_rand_int_range(rand, 0, (int)m->changes->len + 1);

    for (unsigned k = 0; k < m->medium->len; k++) {
        struct sim_entry *e = m->medium->pdata[k];

        sim_entry_put(names, e->name, e->inode);
    }
    for (unsigned k = 0; k < m->changes->len; k++)
        if (in_order ? k < first : g_rand_boolean(rand))
            sim_change_apply(names, m->changes->pdata[k]);
    return names;
}

struct storage *sim_storage_lose_power(struct storage *s, uint32_t seed)
{
    struct sim_storage *m = sim_of(s), *after = sim_of(sim_storage_new());
    g_autoptr(GRand) rand = g_rand_new_with_seed(seed);
    g_autoptr(GPtrArray) names = NULL;

    pthread_mutex_lock(&m->lock);
    names = names_after(m, rand);
    for (unsigned k = 0; k < names->len; k++) {
        struct sim_entry *e = names->pdata[k];
        struct sim_inode *i = e->inode ? sim_inode_lose_power(e->inode, rand) : NULL;

        if (sim_has_its_folder(names, e->name)) {
            sim_entry_put(after->seen, e->name, i);
            sim_entry_put(after->medium, e->name, i);
        }
        if (i)
            sim_inode_unref(i);
    }
    pthread_mutex_unlock(&m->lock);
    return &after->storage;
}

void sim_storage_settle(struct storage *s)
{
    struct sim_storage *m = sim_of(s);

    pthread_mutex_lock(&m->lock);
    g_ptr_array_set_size(m->changes, 0);
    g_ptr_array_set_size(m->medium, 0);
    for (unsigned k = 0; k < m->seen->len; k++) {
        struct sim_entry *e = m->seen->pdata[k];

        if (e->inode)
            sim_inode_sync(e->inode);
        sim_entry_put(m->medium, e->name, e->inode);
    }
    pthread_mutex_unlock(&m->lock);
}
