/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/instant.h"

int view_delete(struct view *v, GError **err)
{
    struct instant *i = instant_new();

    if (instant_view_delete(i, v, err) < 0) {
        instant_abort(i);
        return -1;
    }
    return instant_commit(i, err);
}
