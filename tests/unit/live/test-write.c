/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Writing to live images of all kinds: random operations against a model, which QEMU's tools judge; and by hand
 * what each kind of entry becomes.
 */
#include "tests/rigs/live-disk.h"

#include <errno.h>
#include <string.h>

/* ---- kinds of images ---- */

static void run_kind(const struct live_disk_kind *kind, bool filled)
{
    struct live_disk d;

    if (!live_disk_make(&d, kind, filled))
        return;
    for (unsigned round = 0; round < 2; round++) {
        live_disk_open(&d, true);
        for (unsigned i = 0; i < 60; i++)
            live_disk_random(&d);
        live_disk_check(&d);
        g_assert_cmpstr(d.told->str, ==, "");
        live_disk_close(&d);
        live_disk_judge(&d);
    }
    live_disk_end(&d);
}

static void test_kind(gconstpointer kind)
{
    run_kind(kind, true);
}

static void test_kind_empty(gconstpointer kind)
{
    run_kind(kind, false);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < live_disk_n_kinds; i++) {
        const struct live_disk_kind *kind = &live_disk_kinds[i];
        g_autofree char *path = g_strdup_printf("/write/kinds/%s", kind->name);
        g_autofree char *empty = g_strdup_printf("/write/kinds-empty/%s", kind->name);

        g_test_add_data_func(path, kind, test_kind);
        g_test_add_data_func(empty, kind, test_kind_empty);
    }
    return g_test_run();
}
