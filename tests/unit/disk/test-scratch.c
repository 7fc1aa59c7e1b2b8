/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scratch files: what is still in memory, what is in the file, and what happens on the way.
 */
#include "server/disk/scratch-buffer.h"
#include "tests/rigs/scratch-rig.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNIT 4096u
/* Slots in a buffer. */
#define SLOTS (BUFFER_BYTES / UNIT)

/* The size of the unlinked file: bytes up to the last one written. */
static off_t file_size(const struct scratch_rig *r)
{
    for (int fd = 3; fd < 100; fd++) {
        g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
        g_autofree char *target = g_file_read_link(link, NULL);
        struct stat st;

        if (target && g_str_has_prefix(target, r->dir) && fstat(fd, &st) == 0)
            return st.st_size;
    }
    g_assert_not_reached();
}

static uint32_t take(struct scratch_rig *r, unsigned n)
{
    uint32_t first = 0;

    g_assert_cmpint(scratch_rig_take(r, n, &first), ==, n);
    return first;
}

static void put(struct scratch_rig *r, uint32_t slot, int value)
{
    char block[UNIT];

    memset(block, value, sizeof block);
    g_assert_cmpint(scratch_write(r->scratch, slot, block, 1), ==, 0);
}

static void expect(struct scratch_rig *r, uint32_t slot, int value)
{
    char block[UNIT];

    g_assert_cmpint(scratch_read(r->scratch, slot, block, 0, sizeof block), ==, 0);
    for (unsigned i = 0; i < sizeof block; i++)
        g_assert_cmpint(block[i], ==, value);
}

/* Nothing is written before a buffer is full; then all of it is, at once. */
static void test_gathers(void)
{
    struct scratch_rig r;

    scratch_rig_begin(&r, UNIT, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        g_assert_cmpint(file_size(&r), ==, 0);
        g_assert_cmpuint(take(&r, 1), ==, i);
        put(&r, i, (int)i + 1);
        expect(&r, i, (int)i + 1);
    }
    g_assert_cmpint(file_size(&r), ==, BUFFER_BYTES);
    for (unsigned i = 0; i < SLOTS; i++)
        expect(&r, i, (int)i + 1);
    scratch_give(r.scratch, 0, SLOTS);
    g_assert_cmpint(file_size(&r), ==, 0);
    scratch_rig_end(&r);
}

/* Slots are written out of order, and a reader goes across the border of file and memory. */
static void test_across(void)
{
    struct scratch_rig r;
    g_autofree char *all = g_malloc(2 * BUFFER_BYTES);

    scratch_rig_begin(&r, UNIT, 0);
    for (unsigned i = 0; i < SLOTS + 2; i++)
        take(&r, 1);
    for (unsigned i = SLOTS + 2; i-- > 0;)
        put(&r, i, (int)i + 1);
    g_assert_cmpint(file_size(&r), ==, BUFFER_BYTES);
    g_assert_cmpint(scratch_read(r.scratch, 1, all, 100, SLOTS * UNIT), ==, 0);
    for (unsigned i = 0; i < SLOTS * UNIT; i++)
        g_assert_cmpint(all[i], ==, (int)((i + 100) / UNIT) + 2);
    scratch_give(r.scratch, 0, SLOTS + 2);
    scratch_rig_end(&r);
}

/* A slot that comes back while it is in memory is not handed out before its buffer is written: the
 * buffer would be written over its next data. */
static void test_back_early(void)
{
    struct scratch_rig r;

    scratch_rig_begin(&r, UNIT, 0);
    for (unsigned i = 0; i < SLOTS - 1; i++) {
        take(&r, 1);
        put(&r, i, 1);
    }
    scratch_give(r.scratch, 3, 1);
    g_assert_cmpuint(take(&r, 1), ==, SLOTS - 1);
    put(&r, SLOTS - 1, 1);
    g_assert_cmpint(file_size(&r), ==, BUFFER_BYTES);
    g_assert_cmpuint(take(&r, 1), ==, 3);
    put(&r, 3, 2);
    expect(&r, 3, 2);
    expect(&r, 2, 1);
    expect(&r, 4, 1);
    scratch_give(r.scratch, 0, SLOTS);
    scratch_rig_end(&r);
}

/* The file takes no more. What was kept is still there, and nothing more is taken. When all slots
 * have come back, all is as at the beginning. */
static void test_write_fails(void)
{
    struct scratch_rig r;
    struct rlimit limit, small;
    char why[120];
    uint32_t slot;

    signal(SIGXFSZ, SIG_IGN);
    scratch_rig_begin(&r, UNIT, 0);
    g_assert_cmpint(getrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    small = limit;
    small.rlim_cur = UNIT;
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &small), ==, 0);
    for (unsigned i = 0; i < SLOTS; i++) {
        take(&r, 1);
        put(&r, i, (int)i + 1);
    }
    g_assert_cmpint(setrlimit(RLIMIT_FSIZE, &limit), ==, 0);
    for (unsigned i = 0; i < SLOTS; i++)
        expect(&r, i, (int)i + 1);
    g_assert_cmpint(file_size(&r), <=, UNIT); /* a reader does not try again */
    g_assert_cmpint(scratch_take(r.scratch, 1, &slot, why), ==, -EIO);
    g_assert_cmpstr(why, ==, "scratch: a write failed before: File too large");
    scratch_give(r.scratch, 0, SLOTS);
    g_assert_cmpuint(take(&r, 1), ==, 0);
    put(&r, 0, 9);
    expect(&r, 0, 9);
    scratch_give(r.scratch, 0, 1);
    scratch_rig_end(&r);
}

/* Slots larger than a buffer go to the file themselves. */
static void test_large_slots(void)
{
    struct scratch_rig r;
    const uint32_t unit = 2 * BUFFER_BYTES;
    g_autofree char *block = g_malloc(unit), *back = g_malloc(unit);

    scratch_rig_begin(&r, unit, 0);
    memset(block, 7, unit);
    g_assert_cmpuint(take(&r, 1), ==, 0);
    g_assert_cmpint(scratch_write(r.scratch, 0, block, 1), ==, 0);
    g_assert_cmpint(file_size(&r), ==, unit);
    g_assert_cmpint(scratch_read(r.scratch, 0, back, 0, unit), ==, 0);
    g_assert_cmpmem(block, unit, back, unit);
    g_assert_cmpuint(take(&r, 1), ==, 1); /* nothing was written there */
    g_assert_cmpint(scratch_read(r.scratch, 1, back, 0, unit), <, 0);
    scratch_give(r.scratch, 0, 2);
    scratch_rig_end(&r);
}

/* ---- many threads ---- */

struct load {
    struct scratch_rig *rig;
    unsigned number;
};

/* Take, write, look, give back, again and again, some kept for a while. */
static void *churn(void *opaque)
{
    const struct load *l = opaque;
    g_autoptr(GRand) rng = g_rand_new_with_seed(l->number);
    uint32_t held[40];
    unsigned n_held = 0;

    for (unsigned i = 0; i < 4000; i++) {
        unsigned victim = (unsigned)g_rand_int_range(rng, 0, G_N_ELEMENTS(held));

        if (victim < n_held) {
            expect(l->rig, held[victim], (int)(l->number * 10 + held[victim] % 10));
            scratch_give(l->rig->scratch, held[victim], 1);
            held[victim] = held[--n_held];
        } else {
            uint32_t slot = take(l->rig, 1);
            put(l->rig, slot, (int)(l->number * 10 + slot % 10));
            held[n_held++] = slot;
        }
    }
    while (n_held > 0)
        scratch_give(l->rig->scratch, held[--n_held], 1);
    return NULL;
}

static void test_threads(void)
{
    struct scratch_rig r;
    GThread *threads[4];
    struct load loads[4];

    scratch_rig_begin(&r, UNIT, 0);
    for (unsigned i = 0; i < 4; i++) {
        loads[i] = (struct load){&r, i + 1};
        threads[i] = g_thread_new(NULL, churn, &loads[i]);
    }
    for (unsigned i = 0; i < 4; i++)
        g_thread_join(threads[i]);
    g_assert_cmpuint(scratch_pool_used(r.pool), ==, 0);
    scratch_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/scratch/gathers", test_gathers);
    g_test_add_func("/scratch/across", test_across);
    g_test_add_func("/scratch/back-early", test_back_early);
    g_test_add_func("/scratch/write-fails", test_write_fails);
    g_test_add_func("/scratch/large-slots", test_large_slots);
    g_test_add_func("/scratch/threads", test_threads);
    return g_test_run();
}
