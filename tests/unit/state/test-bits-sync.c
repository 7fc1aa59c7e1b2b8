/* SPDX-License-Identifier: BSD-3-Clause */
/* Large bitmaps with few bits: what is clean is not read. */
#include "tests/rigs/store-rig.h"

#include "server/state/store-break.h"

#define GIB (1024 * MIB)

/* What lies between is not read; what is far from it is there all the same, in files as in a copy. */
static void test_far_apart(void)
{
    static const uint64_t at[] = {0, 2 * GIB, 100 * GIB, 129 * GIB, 400 * GIB, 512 * GIB - 1};
    struct store_rig *r = rig_new_many(1, 512 * GIB);
    struct rig_disk *d = &r->disks[0];
    struct bitmap *old[] = {NULL, NULL}, *bits[] = {NULL, NULL};
    g_autoptr(GError) error = NULL;
    struct state_change c;

    rig_start(r, 1);
    old[0] = rig_add(d, "a");
    rig_change(d, old, at[0], 1);
    g_assert_cmpint(store_sync_bits(d->state.disk), ==, 0);
    for (unsigned i = 1; i < G_N_ELEMENTS(at); i++)
        rig_change(d, old, at[i], 1);
    /* A copy: its bits are set before it has files. */
    bits[0] = store_ops.bits_new(d->state.disk, d->size, 65536, &error);
    g_assert_no_error(error);
    bitmap_merge(bits[0], old[0]);
    g_assert_cmpint(store_ops.bits_attach(d->state.disk, bits[0], NULL), ==, 0);
    c = rig_say(d, "b", bits[0]);
    g_assert_cmpint(rig_commit(r, &c, 1, NULL), ==, 0);
    g_ptr_array_add(d->bits, bits[0]);
    rig_restart(r, 1);
    rig_expect(d, "a", G_N_ELEMENTS(at) * 65536);
    rig_expect(d, "b", G_N_ELEMENTS(at) * 65536);
    for (unsigned i = 0; i < G_N_ELEMENTS(at); i++)
        g_assert_true(bitmap_test(rig_found(d, "b")->bits, at[i]));
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bits-sync/far-apart", test_far_apart);
    return g_test_run();
}
