/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view.h"

#include "server/disk/disk-scratch.h"
#include "server/disk/node-stats.h"
#include "server/disk/view-map.h"

struct view *view_new(struct disk *d, const char *name, const struct view_options *options,
                      GError **err)
{
    struct view *v = g_new0(struct view, 1);

    v->node.kind = NODE_VIEW;
    v->node.name = g_strdup(name);
    node_ios_init(&v->node.ios);
    v->disk = d;
    v->size = atomic_load(&d->size);
    v->blocks = (v->size >> d->unit_shift) + ((v->size & (d->unit - 1)) != 0);
    v->options = *options;
    if (v->options.quota)
        view_quota_ref(v->options.quota);
    pthread_mutex_init(&v->lock, NULL);
    if (view_map_make(v, err) < 0) {
        view_free(v);
        return NULL;
    }
    return v;
}

void view_free(struct view *v)
{
    view_quota_unref(v->options.quota);
    view_map_free(v, v->left || !v->disk->keeps);
    if (v->scratch)
        disk_scratch_release(v->disk);
    pthread_mutex_destroy(&v->lock);
    node_ios_destroy(&v->node.ios);
    log_limit_end(&v->node.open_errors);
    log_limit_end(&v->read_errors);
    log_limit_end(&v->keep_errors);
    g_free(v->node.name);
    g_free(v);
}

static void free_now(void *view)
{
    view_free(view);
}

void view_free_later(struct view *v)
{
    grace_call(&v->disk->readers, free_now, v);
}

struct node *view_node(struct view *v)
{
    return &v->node;
}

struct disk *view_disk(struct view *v)
{
    return v->disk;
}

const char *view_name(const struct view *v)
{
    return v->node.name;
}

void view_claim(struct view *v, bool claimed)
{
    v->claimed = claimed;
}

void view_set_quota(struct view *v, struct view_quota *q)
{
    v->options.quota = view_quota_ref(q);
    view_quota_inherit(q, atomic_load(&v->kept) << v->disk->unit_shift);
}

void view_use_begin(struct view *v)
{
    atomic_fetch_add(&v->uses, 1);
}

void view_use_end(struct view *v)
{
    atomic_fetch_sub(&v->uses, 1);
}

GPtrArray *disk_views(struct disk *d)
{
    GPtrArray *views;

    pthread_mutex_lock(&d->lock);
    views = g_ptr_array_copy(d->views, NULL, NULL);
    pthread_mutex_unlock(&d->lock);
    return views;
}

void view_info(struct view *v, struct view_info *info)
{
    *info = (struct view_info){
        .size = v->size,
        .scratch_bytes = atomic_load(&v->kept) << v->disk->unit_shift,
        .scratch_limit = v->options.scratch_limit,
        .on_error = v->options.on_error,
        .instant_usec = v->instant_usec,
        .broken = atomic_load(&v->state) == VIEW_BROKEN,
        .in_use = atomic_load(&v->uses) > 0,
    };
    pthread_mutex_lock(&v->lock);
    g_strlcpy(info->reason, v->reason, sizeof info->reason);
    pthread_mutex_unlock(&v->lock);
}
