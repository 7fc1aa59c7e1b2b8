/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The checkpoints of a server. A checkpoint's bitmaps are found by their name and their disk's number:
 * while a checkpoint has one, nobody else can remove it (it is readonly), and nobody gets another one of
 * that name. What other disk has the disk's name now is told by the number, at the start.
 */
#include "server/backup/checkpoints-private.h"

#include <string.h>

static void checkpoint_free(void *opaque)
{
    struct checkpoint *p = opaque;

    checkpoint_record_free(p->record);
    g_array_unref(p->disks);
    g_free(p);
}

static void rest_free(void *record)
{
    checkpoint_record_free(record);
}

struct checkpoints *checkpoints_new(struct server *s)
{
    struct checkpoints *c = g_new0(struct checkpoints, 1);

    c->server = s;
    c->list = g_ptr_array_new_with_free_func(checkpoint_free);
    c->rests = g_ptr_array_new_with_free_func(rest_free);
    return c;
}

bool checkpoints_free(struct checkpoints *c)
{
    for (guint i = 0; i < c->list->len; i++)
        if (((struct checkpoint *)c->list->pdata[i])->state != CHECKPOINT_EXISTS)
            return false;
    g_ptr_array_unref(c->list);
    g_ptr_array_unref(c->rests);
    g_free(c);
    return true;
}

struct checkpoint *checkpoint_add(struct checkpoints *c, struct checkpoint_record *record)
{
    struct checkpoint *p = g_new0(struct checkpoint, 1);

    p->all = c;
    p->record = record;
    p->disks = g_array_new(FALSE, FALSE, sizeof(struct checkpoint_disk));
    for (guint i = 0; i < record->disks->len; i++) {
        const char *name = record->disks->pdata[i];
        const struct checkpoint_disk part = {.disk = server_find_disk(c->server, name),
                                             .name = name,
                                             .bitmap = record->name,
                                             .id = checkpoint_record_disk_id(record, i)};

        g_array_append_val(p->disks, part);
    }
    g_ptr_array_add(c->list, p);
    return p;
}

void checkpoint_forget(struct checkpoint *p)
{
    g_ptr_array_remove(p->all->list, p);
}

/* ---- finding ---- */

struct checkpoint *checkpoint_find(struct checkpoints *c, const char *name)
{
    for (guint i = 0; i < c->list->len; i++) {
        struct checkpoint *p = c->list->pdata[i];

        if (strcmp(p->record->name, name) == 0)
            return p;
    }
    return NULL;
}

static const struct checkpoint_disk *find_part(const struct checkpoint *p, const struct disk *d)
{
    for (guint i = 0; i < p->disks->len; i++) {
        const struct checkpoint_disk *part = &g_array_index(p->disks, struct checkpoint_disk, i);

        if (part->disk == d)
            return part;
    }
    return NULL;
}

struct dirty_bitmap *checkpoint_bitmap(const struct checkpoint_disk *part, char **why)
{
    bool there = part->disk && !part->gone;
    struct dirty_bitmap *db = there ? disk_find_bitmap(part->disk, part->bitmap) : NULL;
    g_autofree char *reason = db ? dirty_bitmap_reason(db) : NULL;

    *why = NULL;
    if (!part->disk)
        *why = g_strdup("the disk is not served");
    else if (!db)
        *why = g_strdup("its bitmap is gone");
    else if (reason)
        *why = g_strdup_printf("its bitmap is inconsistent: %s", reason);
    return db;
}

struct dirty_bitmap *checkpoint_base(struct checkpoints *c, const char *name, struct disk *d,
                                     char **why)
{
    struct checkpoint *p = checkpoint_find(c, name);
    const struct checkpoint_disk *part = p ? find_part(p, d) : NULL;
    struct dirty_bitmap *db;

    *why = NULL;
    if (!p || p->state == CHECKPOINT_BEGINS)
        *why = g_strdup_printf("there is no checkpoint '%s'", name);
    else if (p->record->session)
        *why = g_strdup_printf("checkpoint '%s' is not committed", name);
    else if (p->state == CHECKPOINT_ENDS)
        *why = g_strdup_printf("checkpoint '%s' is being deleted", name);
    else if (!part)
        *why = g_strdup_printf("checkpoint '%s' has no part of disk %s", name, disk_name(d));
    if (*why)
        return NULL;
    db = checkpoint_bitmap(part, why);
    if (db && *why)
        g_clear_pointer(&db, dirty_bitmap_unref);
    return db;
}

bool checkpoint_has_bitmap(struct checkpoints *c, const struct disk *d, const char *name)
{
    struct checkpoint *p = checkpoint_find(c, name);

    return p && find_part(p, d);
}

struct disk *checkpoint_record_disk(const struct checkpoint *p)
{
    g_autoptr(GPtrArray) all = server_disks(p->all->server);

    for (guint i = 0; i < p->disks->len; i++) {
        struct disk *d = g_array_index(p->disks, struct checkpoint_disk, i).disk;

        if (d)
            return d;
    }
    return all->len > 0 ? all->pdata[0] : NULL;
}

void checkpoint_disks(struct checkpoints *c, const char *name, GPtrArray *disks)
{
    struct checkpoint *p = checkpoint_find(c, name);
    struct disk *any = p ? checkpoint_record_disk(p) : NULL;

    if (any)
        g_ptr_array_add(disks, any);
    for (guint i = 0; p && i < p->disks->len; i++) {
        struct disk *d = g_array_index(p->disks, struct checkpoint_disk, i).disk;

        if (d)
            g_ptr_array_add(disks, d);
    }
}

GArray *checkpoints_list(struct checkpoints *c)
{
    GArray *list = g_array_new(FALSE, FALSE, sizeof(struct checkpoint_info));
    const char *parent = NULL;

    for (guint i = 0; i < c->list->len; i++) {
        const struct checkpoint *p = c->list->pdata[i];
        const struct checkpoint_info info = {
            .name = p->record->name,
            .description = p->record->description,
            .parent = parent,
            .time_usec = p->record->time_usec,
            .disks = p->disks,
        };

        if (p->record->session || p->state == CHECKPOINT_BEGINS)
            continue;
        g_array_append_val(list, info);
        parent = info.name;
    }
    return list;
}
