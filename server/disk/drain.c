/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/disk/drain.h"
#include "common/util/error.h"

int fail_drain(const struct disk *d, GError **err)
{
    return fail(err, "disk %s: writes under way did not end within %d s", d->node.name,
                (int)(d->drain_usec / G_USEC_PER_SEC));
}

int disk_close_gate(struct disk *d, GError **err)
{
    if (!gate_close(&d->gate, g_get_monotonic_time() + d->drain_usec))
        return fail_drain(d, err);
    return 0;
}
