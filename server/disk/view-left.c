/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/view-left.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/disk-private.h"
#include "server/disk/lasting.h"
#include "server/disk/scratch-file.h"

#include <string.h>

static bool is_any(const GPtrArray *views, const char *id)
{
    for (unsigned k = 0; k < views->len; k++) {
        const struct view *v = views->pdata[k];

        if (v->file && strcmp(v->file->id, id) == 0)
            return true;
    }
    return false;
}

static bool uses(const struct disk *d, const char *id)
{
    const char *scratch = d->scratch ? scratch_id(d->scratch) : NULL;

    return is_any(d->views, id) || is_any(d->strays, id) || (scratch && strcmp(scratch, id) == 0);
}

static bool is_used(const GPtrArray *disks, const char *id)
{
    for (unsigned k = 0; k < disks->len; k++)
        if (uses(disks->pdata[k], id))
            return true;
    return false;
}

/* The scratch file can be found by it alone, wherever an earlier server had its scratch. Where that server
 * is still about to die, the next start removes both. */
static void remove_one(const struct state_lasting *all, const char *id)
{
    struct lasting_head head;

    if (lasting_peek(all, id, &head) && head.kind == LASTING_SCRATCH &&
        !scratch_file_remove_left(&head.scratch))
        lasting_put_aside(all, id);
    else
        lasting_remove(all, id);
}

static void remove_unused(const struct state_lasting *all, const GPtrArray *disks)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(GPtrArray) ids = lasting_list(all, &error);

    if (!ids)
        log_error("views of the last server: %s", error->message);
    for (unsigned k = 0; ids && k < ids->len; k++)
        if (!is_used(disks, ids->pdata[k]))
            remove_one(all, ids->pdata[k]);
}

void disks_remove_left(const GPtrArray *disks)
{
    g_autoptr(GPtrArray) ids = g_ptr_array_new();
    const struct disk *any = NULL;

    for (unsigned k = 0; k < disks->len; k++) {
        const struct disk *d = disks->pdata[k];

        if (d->state.lasting)
            any = d;
        if (d->scratch && scratch_id(d->scratch))
            g_ptr_array_add(ids, (gpointer)scratch_id(d->scratch));
    }
    if (!any)
        return;
    remove_unused(any->state.lasting, disks);
    scratch_files_sweep(any->pool->dir, any->state.lasting->folder, ids);
}
