/* SPDX-License-Identifier: BSD-3-Clause */
/* Work that can fail or take long, and must be done before the gates are shut for the instant. */
#include "server/disk/stage.h"

static bool has_work(struct instant *i)
{
    for (unsigned k = 0; k < i->stages->len; k++) {
        struct disk *d = ((struct stage *)i->stages->pdata[k])->disk;

        g_assert(!i->state || !d->state || i->store == d->store);
        if (d->state) {
            i->state = d->state;
            i->store = d->store;
        }
    }
    return i->state || i->on_prepare->len > 0;
}

static void add_changes(const struct stage *st, GArray *changes)
{
    struct state_change change = {.disk = st->disk};

    for (unsigned k = 0; k < st->removed->len; k++) {
        change.bitmap = ((struct dirty_bitmap *)st->removed->pdata[k])->name;
        g_array_append_val(changes, change);
    }
    for (unsigned k = 0; k < st->bitmaps->len; k++) {
        const struct staged_bitmap *s = st->bitmaps->pdata[k];

        change.bitmap = s->db->name;
        change.bits = s->bits;
        change.recording = s->recording;
        g_array_append_val(changes, change);
    }
}

static int prepare_state(struct instant *i, GError **err)
{
    g_autoptr(GArray) changes = g_array_new(FALSE, FALSE, sizeof(struct state_change));

    for (unsigned k = 0; k < i->stages->len; k++) {
        const struct stage *st = i->stages->pdata[k];

        if (st->disk->state)
            add_changes(st, changes);
    }
    if (i->state->prepare(i->store, (void *)changes->data, changes->len, &i->transaction, err) < 0)
        return -1;
    i->prepared = true;
    return 0;
}

/* The store comes last, because what it has written is the most work to take back. */
static int prepare_all(struct instant *i, GError **err)
{
    for (unsigned k = 0; k < i->on_prepare->len; k++) {
        struct prepare_hook h = g_array_index(i->on_prepare, struct prepare_hook, k);

        if (h.fn(h.opaque, err) < 0)
            return -1;
    }
    return i->state ? prepare_state(i, err) : 0;
}

const struct phase phase_prepare = {
    .working = "what it changes is being written",
    .prepare = has_work,
    .work = prepare_all,
};

void stage_end_state(struct instant *i, bool done)
{
    if (i->prepared && done)
        i->state->flipped(i->store, i->transaction);
    else if (i->prepared)
        i->state->abort(i->store, i->transaction);
}
