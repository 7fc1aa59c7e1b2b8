/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests that stand still around the flip. Each one for which `freeze` was called is thawed, whatever
 * fails. */
#include "server/disk/stage.h"

static bool has_hooks(struct instant *i)
{
    return i->quiesce->len > 0;
}

static int freeze_all(struct instant *i, GError **err)
{
    while (i->quiesced < i->quiesce->len) {
        struct quiesce_hook h = g_array_index(i->quiesce, struct quiesce_hook, i->quiesced++);

        if (h.freeze(h.opaque, err) < 0)
            return -1;
    }
    return 0;
}

const struct phase phase_quiesce = {
    .working = "guests are being quiesced",
    .prepare = has_hooks,
    .work = freeze_all,
};

static bool is_quiesced(struct instant *i)
{
    return i->quiesced > 0;
}

static int thaw_all(struct instant *i, GError **err)
{
    while (i->quiesced > 0) {
        struct quiesce_hook h = g_array_index(i->quiesce, struct quiesce_hook, --i->quiesced);

        h.thaw(h.opaque);
    }
    return 0;
}

const struct phase phase_thaw = {
    .working = "guests are being thawed",
    .prepare = is_quiesced,
    .work = thaw_all,
    .must_work = true,
};
