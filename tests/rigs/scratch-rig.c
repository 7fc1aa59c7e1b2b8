/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/scratch-rig.h"

#include <glib/gstdio.h>

static void on_low(void *opaque, uint64_t used, uint64_t limit)
{
    ((struct scratch_rig *)opaque)->low++;
}

void scratch_rig_begin(struct scratch_rig *r, uint32_t unit, uint64_t limit)
{
    g_autoptr(GError) err = NULL;

    r->low = 0;
    r->dir = g_dir_make_tmp("scratch-XXXXXX", &err);
    g_assert_no_error(err);
    r->pool = scratch_pool_new(r->dir, limit, on_low, r);
    r->scratch = scratch_new(r->pool, unit, &err);
    g_assert_no_error(err);
}

void scratch_rig_end(struct scratch_rig *r)
{
    scratch_free(r->scratch);
    scratch_pool_free(r->pool);
    g_rmdir(r->dir);
    g_free(r->dir);
}

int scratch_rig_take(struct scratch_rig *r, unsigned n, uint32_t *first)
{
    char why[120];

    return scratch_take(r->scratch, n, first, why);
}
