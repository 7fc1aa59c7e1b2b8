/* SPDX-License-Identifier: BSD-3-Clause */
/* New views get their disk's scratch, which may have to be made first. Nothing of the instant has
 * been done by then: if it fails, nothing has changed. */
#include "server/disk/disk-scratch.h"
#include "server/disk/stage.h"

static bool prepare(struct instant *i)
{
    bool any = false;

    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->asks = st->views->len > 0;
        any |= st->asks;
    }
    return any;
}

static int share(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        for (unsigned n = 0; n < st->views->len; n++) {
            struct view *v = st->views->pdata[n];

            v->scratch = disk_scratch_share(st->disk, err);
            if (!v->scratch)
                return -1;
        }
    }
    return 0;
}

const struct phase phase_scratch = {
    .working = "its scratch file is being made",
    .prepare = prepare,
    .flip = share,
};
