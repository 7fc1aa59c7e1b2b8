/* SPDX-License-Identifier: BSD-3-Clause */
/* Views that leave the chain with this instant, and those that an earlier one could not take out. */
#include "server/disk/stage.h"
#include "server/disk/view-chain.h"
#include "server/disk/view-map.h"

static bool prepare(struct instant *i)
{
    bool any = false;

    for (unsigned k = 0; k < i->stages->len; k++) {
        struct stage *st = i->stages->pdata[k];

        st->closes = st->leaving->len > 0 || st->disk->strays->len > 0;
        any |= st->closes;
    }
    return any;
}

/* From here on nothing is kept into them. If writes under way do not end, the deletion has failed
 * before this, and the views are as they were. */
static int retire(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = i->stages->pdata[k];

        for (unsigned n = 0; n < st->leaving->len; n++)
            view_set_state(st->leaving->pdata[n], VIEW_RETIRING);
    }
    return 0;
}

/* They leave the chain when the gate is shut the next time (stage.c). */
static void empty_strays(struct disk *d, const atomic_bool *stop)
{
    for (unsigned k = 0; k < d->strays->len; k++) {
        struct view *v = d->strays->pdata[k];

        view_hand_over(v, stop);
        v->empty = !atomic_load(stop);
    }
}

static int work(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = i->stages->pdata[k];

        for (unsigned n = 0; n < st->leaving->len; n++)
            view_hand_over(st->leaving->pdata[n], &i->cancelled);
        empty_strays(st->disk, &i->cancelled);
        if (st->leaving->len > 0)
            disk_at(st->disk, POINT_HANDED_OVER, 0);
    }
    return 0;
}

const struct phase phase_leave = {
    .working = "a view's blocks go to older views",
    .prepare = prepare,
    .flip = retire,
    .work = work,
};
