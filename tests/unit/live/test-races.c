/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Several threads at one live image: sectors of their own in clusters that they share, so that what
 * one of them loses for another is seen; and by hand the moments at which something may come in
 * between.
 */
#include "common/live/live-change.h"
#include "tests/rigs/live-disk.h"
#include "tests/rigs/live-hooks.h"

#include <stdatomic.h>
#include <string.h>

#define K       (1 << 10)
#define C       (64 * K) /* bytes of a cluster */
#define SECTOR  512
#define GUESTS  4
#define AREA    ((size_t)2 << 20) /* of the disk, that guests use: they meet often */
#define SECTORS (AREA / SECTOR)

/* ---- guests with sectors of their own ---- */

struct guest {
    struct live_disk *d;
    unsigned number; /* its sectors are those whose number has this rest */
    unsigned rounds;
    GThread *thread;
    GRand *rand;
};

/* Sectors of 64 KiB lie side by side, and each guest has every fourth one. */
static size_t random_sector(struct guest *g)
{
    size_t n = (size_t)g_rand_int_range(g->rand, 0, SECTORS / GUESTS);

    return (n * GUESTS + g->number) * SECTOR;
}

static void check_sector(struct guest *g, size_t offset)
{
    uint8_t bytes[SECTOR];

    g_assert_cmpint(live_pread(g->d->image, bytes, SECTOR, offset), ==, 0);
    for (unsigned i = 0; i < SECTOR; i++)
        if (bytes[i] != g->d->model[offset + i])
            g_error("guest %u at %zu: %u instead of %u", g->number, offset + i, bytes[i],
                    g->d->model[offset + i]);
}

static gpointer run_guest(gpointer opaque)
{
    struct guest *g = opaque;

    for (unsigned i = 0; i < g->rounds; i++) {
        size_t offset = random_sector(g);

        switch (g_rand_int_range(g->rand, 0, 8)) {
        case 0:
            live_disk_zero(g->d, SECTOR, offset, LIVE_MAY_TRIM);
            break;
        case 1:
            live_disk_trim(g->d, SECTOR, offset);
            break;
        case 2:
        case 3:
            break;
        default:
            live_disk_write(g->d, SECTOR, offset, (uint8_t)g_rand_int(g->rand), 0);
        }
        check_sector(g, offset);
        if (g_rand_int_range(g->rand, 0, 100) == 0)
            g_assert_cmpint(live_flush(g->d->image), ==, 0);
    }
    return NULL;
}

static void test_kind(gconstpointer kind)
{
    struct guest guests[GUESTS];
    struct q2_error err;
    struct live_disk d;

    if (!live_disk_make(&d, kind, true))
        return;
    live_disk_open(&d, true);
    g_assert_cmpint(live_start(d.image, &err), ==, 0);
    for (unsigned i = 0; i < GUESTS; i++) {
        guests[i] = (struct guest){.d = &d, .number = i, .rounds = 400};
        guests[i].rand = g_rand_new_with_seed((guint32)g_test_rand_int());
        guests[i].thread = g_thread_new("guest", run_guest, &guests[i]);
    }
    for (unsigned i = 0; i < GUESTS; i++) {
        g_thread_join(guests[i].thread);
        g_rand_free(guests[i].rand);
    }
    live_disk_check(&d);
    live_disk_close(&d);
    live_disk_judge(&d);
    live_disk_end(&d);
}

/* ---- by hand ---- */

static bool make(struct live_disk *d, const char *commands)
{
    if (!live_disk_begin(d))
        return false;
    qcow2_rig_run(&d->rig, "%s", commands);
    return true;
}

static void open_hooked(struct live_disk *d)
{
    live_disk_open_ops(d, true, &live_hooked);
    live_hooks_reset();
}

static void end(struct live_disk *d)
{
    g_assert_true(live_hooks_ran());
    live_hooks_reset();
    live_disk_check(d);
    live_disk_close(d);
    live_disk_judge(d);
    live_disk_end(d);
}

/* What one thread does while another one is between two steps. */
struct intruder {
    struct live_disk *d;
    size_t length, offset;
    bool trims;
    GThread *thread;
    atomic_bool done;
};

static gpointer intrude(gpointer opaque)
{
    struct intruder *i = opaque;

    if (i->trims)
        g_assert_cmpint(live_trim(i->d->image, i->length, i->offset, 0), ==, 0);
    else
        live_disk_write(i->d, i->length, i->offset, 77, 0);
    atomic_store(&i->done, true);
    return NULL;
}

static void write_and_flush(void *opaque)
{
    struct intruder *i = opaque;

    intrude(i);
    g_assert_cmpint(live_flush(i->d->image), ==, 0);
}

/* The place of the second cluster, which is not its own, is given up, counted down, and a hole
 * before it has been read. */
static void read_given_up(struct live_disk *d)
{
    struct intruder i = {d,     C,    C,
                         false, NULL, false}; /* the whole, so that it is not read there, too */
    uint8_t bytes[8 * K];
    uint64_t host = qcow2_rig_get(&d->rig, d->name, qcow2_rig_l2(&d->rig, d->name, 1), 8);

    open_hooked(d);
    live_hooks_before(LIVE_CALL_READ, host & 0xffffffffff, write_and_flush, &i);
    g_assert_cmpint(live_pread(d->image, bytes, sizeof(bytes), C), ==, 0);
    g_assert_cmpint(memcmp(bytes, d->model + C, sizeof(bytes)), ==, 0);
    g_assert_cmpstr(d->told->str, ==, "");
    end(d);
}

static void test_read_compressed(void)
{
    struct live_disk d;

    if (!make(&d, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                  "qemu-io -f qcow2 -c 'write -q -c -P 9 64k 64k' disk.qcow2"))
        return;
    read_given_up(&d);
}

static void test_read_shared(void)
{
    struct live_disk d;
    uint64_t at, word;

    if (!make(&d, "qemu-img create -q -f qcow2 disk.qcow2 8M && "
                  "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' disk.qcow2"))
        return;
    at = qcow2_rig_l2(&d.rig, d.name, 1);
    word = qcow2_rig_get(&d.rig, d.name, at, 8);
    qcow2_rig_put(&d.rig, d.name, at, 8, word & ~(UINT64_C(1) << 63));
    read_given_up(&d);
}

/* Another thread, until it waits for the range. */
static void start_and_wait(void *opaque)
{
    struct intruder *i = opaque;
    gint64 limit = g_get_monotonic_time() + 60 * G_TIME_SPAN_SECOND;

    i->thread = g_thread_new("intruder", intrude, i);
    while (range_lock_waiting(&i->d->image->ranges->lock) == 0) {
        g_assert_cmpint(g_get_monotonic_time(), <, limit);
        g_assert_false(atomic_load(&i->done));
        g_thread_yield();
    }
}

#define OVER_DATA                                                                                  \
    "qemu-img create -q -f raw base 8M && qemu-io -f raw -c 'write -q -P 9 0 8M' base && "         \
    "qemu-img create -q -f qcow2 -b base -F raw disk.qcow2"

/* Two first writers of one cluster: the second one has to see what the first one made. */
static void test_two_writers(void)
{
    struct live_disk d;
    struct intruder i = {&d, 4 * K, 40 * K, false, NULL, false};

    if (!make(&d, OVER_DATA))
        return;
    open_hooked(&d);
    live_hooks_before(LIVE_CALL_READ, 20 * K, start_and_wait, &i);
    live_disk_write(&d, 4 * K, 4 * K, 1, 0);
    g_thread_join(i.thread);
    end(&d);
}

/* A trim of the cluster that is being written for the first time: one of them comes first. */
static void test_write_and_trim(void)
{
    struct live_disk d;
    struct intruder i = {&d, C, 0, true, NULL, false};
    uint8_t bytes[C];

    if (!make(&d, OVER_DATA))
        return;
    open_hooked(&d);
    live_hooks_before(LIVE_CALL_READ, 20 * K, start_and_wait, &i);
    live_disk_write(&d, 4 * K, 4 * K, 1, 0);
    g_thread_join(i.thread);
    /* The write came first. */
    g_assert_cmpint(live_pread(d.image, bytes, C, 0), ==, 0);
    for (unsigned n = 0; n < C; n++)
        g_assert_cmpuint(bytes[n], ==, 0);
    memset(d.model, 0, C);
    end(&d);
}

int main(int argc, char *argv[])
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/races/read-compressed", test_read_compressed);
    g_test_add_func("/races/read-shared", test_read_shared);
    g_test_add_func("/races/two-writers", test_two_writers);
    g_test_add_func("/races/write-and-trim", test_write_and_trim);
    for (unsigned i = 0; i < live_disk_n_kinds; i++) {
        g_autofree char *path = g_strdup_printf("/races/kinds/%s", live_disk_kinds[i].name);

        g_test_add_data_func(path, &live_disk_kinds[i], test_kind);
    }
    return g_test_run();
}
