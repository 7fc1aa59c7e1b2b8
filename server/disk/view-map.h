/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A view's map: an entry for each block (view-keep.c). It is in a file that survives the process
 * (lasting.h), where the disk's store has one and there is memory for it, else in memory of the process.
 *
 * Nobody reads or changes an entry before its part of the map is touched (view.touched): a page of the file
 * would take memory even if it were only read, and there may be none. view_touch reserves pages; one that
 * there is no memory for becomes memory of the process, and the file is incomplete.
 */
#ifndef DISK_VIEW_MAP_H
#define DISK_VIEW_MAP_H

#include "server/disk/disk-private.h"
#include "server/disk/lasting.h"

/* Give a view without a map an empty one; its disk, size, blocks and options are set. -1 and *err. */
int view_map_make(struct view *v, GError **err);
/* Give it the map of a file, which becomes the view's, also on failure. What the map has is checked by
 * the caller. -1 and *err. */
int view_map_open(struct view *v, struct lasting *file, GError **err);
/* `remove`: its file goes, too. */
void view_map_free(struct view *v, bool remove);

/* The view can no longer be had back when the process has died. Under the shut gate, or before it is
 * in the chain. */
static inline void view_map_incomplete(struct view *v)
{
    if (v->file)
        atomic_store(&v->file->head->view.incomplete, 1);
}

/* Was its file cut short? Asked after it was read. Any thread. */
static inline bool view_map_is_lost(const struct view *v)
{
    return __builtin_expect(v->file != NULL, 0) && lasting_is_lost(v->file);
}

/* Note the view's state where the process's death leaves it. Before anybody acts on it. */
static inline void view_set_state(struct view *v, enum view_state state)
{
    if (v->file)
        atomic_store(&v->file->head->view.state, state);
    atomic_store(&v->state, state);
}

#endif
