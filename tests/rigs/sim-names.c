/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-names.h"

#include <string.h>

static void sim_entry_free(void *opaque)
{
    struct sim_entry *e = opaque;

    g_free(e->name);
    if (e->inode)
        sim_inode_unref(e->inode);
    g_free(e);
}

void sim_change_free(void *opaque)
{
    struct sim_change *c = opaque;

    g_free(c->name);
    g_free(c->from);
    if (c->inode)
        sim_inode_unref(c->inode);
    g_free(c);
}

GPtrArray *sim_entries_new(void)
{
    return g_ptr_array_new_with_free_func(sim_entry_free);
}

struct sim_entry *sim_entry_find(GPtrArray *entries, const char *name)
{
    for (unsigned k = 0; k < entries->len; k++) {
        struct sim_entry *e = entries->pdata[k];

        if (strcmp(e->name, name) == 0)
            return e;
    }
    return NULL;
}

static void sim_entry_end(GPtrArray *entries, const char *name)
{
    struct sim_entry *e = sim_entry_find(entries, name);

    if (e)
        g_ptr_array_remove(entries, e);
}

void sim_entry_put(GPtrArray *entries, const char *name, struct sim_inode *inode)
{
    struct sim_entry *e = g_new0(struct sim_entry, 1);

    e->inode = inode ? sim_inode_ref(inode) : NULL;
    e->name = g_strdup(name);
    sim_entry_end(entries, name);
    g_ptr_array_add(entries, e);
}

void sim_change_apply(GPtrArray *entries, const struct sim_change *c)
{
    if (c->end) {
        sim_entry_end(entries, c->name);
        return;
    }
    if (c->from)
        sim_entry_end(entries, c->from);
    sim_entry_put(entries, c->name, c->inode);
}

bool sim_in_folder(const char *name, const char *folder)
{
    const char *slash = strrchr(name, '/');

    if (!*folder)
        return !slash;
    return slash && (size_t)(slash - name) == strlen(folder) &&
           strncmp(name, folder, strlen(folder)) == 0;
}

bool sim_has_its_folder(GPtrArray *names, const char *name)
{
    g_autofree char *folder = g_path_get_dirname(name);

    return strcmp(folder, ".") == 0 || sim_entry_find(names, folder);
}
