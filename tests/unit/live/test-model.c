/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Long lives of small images of each kind: random steps, with little memory for tables, that grow the disk and open it
 * anew at times; and QEMU says in the end that the image is clean, and reads the same disk.
 */
#include "tests/rigs/live-power.h"

#include <errno.h>
#include <string.h>

#define ROUNDS 3

/* Beside those of live-images.h: what takes long where power is lost at each moment. */
static const struct live_kind more_kinds[] = {
    {.name = "2m", .cluster = 2 << 20},
    {.name = "2m-extended-backing",
     .cluster = 2 << 20,
     .options = ",extended_l2=on",
     .backing = "raw",
     .backing_half_clusters = 11},
    {.name = "counts-2", .cluster = 1024, .options = ",refcount_bits=2"},
    {.name = "counts-4", .cluster = 512, .options = ",refcount_bits=4"},
    {.name = "counts-8-lazy", .cluster = 4096, .options = ",refcount_bits=8,lazy_refcounts=on"},
    {.name = "counts-32", .cluster = 65536, .options = ",refcount_bits=32"},
    {.name = "preallocated", .cluster = 4096, .options = ",preallocation=metadata"},
    {.name = "preallocated-full", .cluster = 512, .options = ",preallocation=full"},
    {.name = "zstd", .cluster = 65536, .options = ",compression_type=zstd", .compressed = true},
    {.name = "v2-compressed",
     .cluster = 4096,
     .options = ",compat=0.10",
     .old = true,
     .compressed = true},
    {.name = "data-file-extended",
     .cluster = 16384,
     .options = ",data_file=d.raw,extended_l2=on",
     .data_file = true},
};

static uint64_t below(uint64_t n)
{
    return (uint64_t)(g_test_rand_double() * (double)n);
}

static struct live_step random_step(const struct live_power *p)
{
    static const enum live_step_kind kinds[] = {
        LIVE_STEP_WRITE, LIVE_STEP_WRITE, LIVE_STEP_WRITE, LIVE_STEP_WRITE,
        LIVE_STEP_WRITE, LIVE_STEP_WRITE, LIVE_STEP_ZERO,  LIVE_STEP_ZERO,
        LIVE_STEP_TRIM,  LIVE_STEP_TRIM,  LIVE_STEP_FLUSH, LIVE_STEP_WRITE_BACK,
    };
    struct live_step s = {.kind = kinds[below(G_N_ELEMENTS(kinds))]};
    unsigned cluster = p->images.kind->cluster;
    uint64_t grain = below(2) ? 1 : below(2) ? 512 : cluster, most;

    if (below(40) == 0)
        return (struct live_step){.kind = LIVE_STEP_REOPEN};
    if (below(60) == 0)
        return (struct live_step){.kind = LIVE_STEP_RESIZE,
                                  .length = 512 * (1 + below(cluster / 100))};
    if (s.kind == LIVE_STEP_FLUSH || s.kind == LIVE_STEP_WRITE_BACK)
        return s;
    s.offset = below(p->guest.size) / grain * grain;
    most = below(4) ? cluster : 3 * cluster;
    most = 1 + below(most);
    s.length = MIN(most, p->guest.size - s.offset);
    s.flags = s.kind == LIVE_STEP_ZERO ? (unsigned)below(8) : below(10) == 0 ? LIVE_FUA : 0;
    return s;
}

/* QEMU has the last word. */
static void ask(struct live_power *p)
{
    g_autofree char *folder = qcow2_rig_path(&p->images.rig, "work");
    struct qcow2_rig work = {.folder = folder};
    size_t size;

    qcow2_rig_run(&work, "qemu-img check -q -f qcow2 i.qcow2");
    g_autofree uint8_t *disk = qcow2_rig_disk(&work, "i.qcow2", &size);
    g_assert_cmpuint(size, ==, p->guest.size);
    g_assert_true(memcmp(disk, p->guest.disk, size) == 0);
}

static void live(struct live_power *p, unsigned steps)
{
    const struct live_step reopen = {.kind = LIVE_STEP_REOPEN};

    live_power_start(p);
    for (unsigned i = 0; i < steps; i++) {
        struct live_step s = random_step(p);
        int r = live_power_step(p, &s, false);

        if (r < 0 && !(r == -ENOTSUP && (s.flags & LIVE_FAST)))
            live_power_complain(p, "a step fails", g_strerror(-r));
    }
    g_assert_cmpint(live_power_step(p, &reopen, false), ==, 0);
    ask(p);
    live_power_stop(p, false);
}

static void test_kind(gconstpointer data)
{
    const struct live_kind *kind = data;
    unsigned steps = kind->cluster > 65536 ? 60 : 250;
    struct live_power p;

    if (!live_power_begin(&p, kind))
        return;
    p.options.table_memory = 1;
    for (unsigned i = 0; i < (g_getenv("FLEECE_LONG") ? 100 : ROUNDS); i++)
        live(&p, steps);
    live_power_end(&p);
}

static void add(const struct live_kind *kinds, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *path = g_strdup_printf("/model/%s", kinds[i].name);

        g_test_add_data_func(path, &kinds[i], test_kind);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add(live_kinds, live_n_kinds);
    add(more_kinds, G_N_ELEMENTS(more_kinds));
    return g_test_run();
}
