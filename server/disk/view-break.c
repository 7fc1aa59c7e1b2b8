/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/lasting.h"
#include "server/disk/view-chain.h"

/* Before anybody sees the view broken, and goes on without keeping blocks for it. */
static void break_file(struct lasting *file, const char *reason)
{
    struct lasting_view *head = &file->head->view;

    g_strlcpy(head->reason, reason, sizeof head->reason);
    atomic_store(&head->state, VIEW_BROKEN);
}

void view_break(struct view *v, const char *reason)
{
    pthread_mutex_lock(&v->lock);
    if (v->file && atomic_load(&v->state) != VIEW_BROKEN)
        break_file(v->file, reason);
    if (atomic_exchange(&v->state, VIEW_BROKEN) != VIEW_BROKEN) {
        g_strlcpy(v->reason, reason, sizeof v->reason);
        if (v->disk->events.view_broken)
            v->disk->events.view_broken(v->disk->events.opaque, v->node.name, v->disk->node.name,
                                        reason);
    }
    pthread_mutex_unlock(&v->lock);
}
