/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The end of a scratch: as many slots as a view's map can name, and no more. Nobody has 16 TiB for
 * that, so the file begins near there.
 */
#include "server/disk/scratch.c"

#include "server/disk/disk-private.h"

#include <glib/gstdio.h>

/* Slots that are left before the last. */
#define LEFT 21u

static struct scratch *near_its_end(struct scratch_pool *p)
{
    GError *err = NULL;
    struct scratch *s = scratch_new(p, 4096, &err);

    g_assert_no_error(err);
    s->cannot_reserve = true; /* a file system may not take so large a file */
    s->next = s->reserved = SCRATCH_MAX_SLOTS - LEFT;
    s->taken = 1; /* else it would start over */
    return s;
}

static void test_end(void)
{
    g_autofree char *dir = g_dir_make_tmp("scratch-XXXXXX", NULL);
    struct scratch_pool *p = scratch_pool_new(dir, 0, NULL, NULL);
    struct scratch *s = near_its_end(p);
    uint32_t first = 0, got = 0;
    char why[120] = "";
    int n;

    while ((n = scratch_take(s, 64, &first, why)) > 0) {
        g_assert_cmpuint(first, ==, SCRATCH_MAX_SLOTS - LEFT + got);
        got += (unsigned)n;
        /* Its entry in a map is none that means something else. */
        g_assert_cmpuint((uint32_t)(BLOCK_KEPT_SLOT + first + (unsigned)n - 1), >=,
                         BLOCK_KEPT_SLOT);
    }
    g_assert_cmpint(n, ==, -ENOSPC);
    g_assert_cmpstr(why, ==, "scratch: no more than 4294967280 blocks a disk can be kept");
    g_assert_cmpuint(got, ==, LEFT);
    s->taken = 0;
    scratch_pool_release(p, (uint64_t)LEFT * 4096);
    scratch_free(s);
    scratch_pool_free(p);
    g_rmdir(dir);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/scratch-end/slots", test_end);
    return g_test_run();
}
