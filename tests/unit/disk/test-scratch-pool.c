/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Scratch at its edges: runs of slots that come and go in every order, the budget, and a file
 * system that has little room. Functions of this file stand in for the C library's calls that ask
 * or change the file system.
 */
#include "server/disk/scratch-buffer.h"
#include "tests/rigs/scratch-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNIT UINT64_C(4096)
/* Slots in a buffer. */
#define SLOTS (BUFFER_BYTES / UNIT)

/* What those functions shall do. */
static struct {
    uint64_t room;     /* bytes outside the last 5 % */
    int reserve_error; /* of more than `reservable` bytes */
    uint64_t reservable;
    uint64_t punched;              /* bytes */
    void (*writing)(void *opaque); /* called once, in front of a write */
    void *opaque;
} fs;

int fstatvfs(int fd, struct statvfs *s)
{
    const unsigned long blocks = 1000 * 1000;

    memset(s, 0, sizeof *s);
    s->f_frsize = 4096;
    s->f_blocks = blocks;
    s->f_bavail = blocks / 20 + fs.room / 4096;
    return 0;
}

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (mode & FALLOC_FL_PUNCH_HOLE)
        fs.punched += (uint64_t)length;
    else if (fs.reserve_error && (uint64_t)length > fs.reservable)
        return errno = fs.reserve_error, -1;
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

ssize_t pwrite(int fd, const void *buf, size_t length, off_t offset)
{
    void (*writing)(void *) = g_steal_pointer(&fs.writing);

    if (writing)
        writing(fs.opaque);
    return syscall(SYS_pwrite64, fd, buf, length, offset);
}

static void rig_begin(struct scratch_rig *r, uint64_t limit)
{
    memset(&fs, 0, sizeof fs);
    fs.room = UINT64_C(1) << 40;
    scratch_rig_begin(r, UNIT, limit);
}

/* Take n slots, in one go, which begin at `first`. */
static void take(struct scratch_rig *r, unsigned n, uint32_t first)
{
    uint32_t have;

    g_assert_cmpint(scratch_rig_take(r, n, &have), ==, n);
    g_assert_cmpuint(have, ==, first);
}

static void give(struct scratch_rig *r, uint32_t slot, unsigned n)
{
    scratch_give(r->scratch, slot, n);
}

/* Slot by slot, each with a value of its own. */
static void put(struct scratch_rig *r, uint32_t slot, unsigned n, int add)
{
    g_autofree char *data = g_malloc(n * UNIT);

    for (unsigned i = 0; i < n; i++)
        memset(data + i * UNIT, (int)(slot + i) + add, UNIT);
    g_assert_cmpint(scratch_write(r->scratch, slot, data, n), ==, 0);
}

static void expect(struct scratch_rig *r, uint32_t slot, unsigned n, int add)
{
    g_autofree char *data = g_malloc(n * UNIT);

    g_assert_cmpint(scratch_read(r->scratch, slot, data, 0, (uint32_t)(n * UNIT)), ==, 0);
    for (uint64_t i = 0; i < n * UNIT; i++)
        g_assert_cmpint(data[i], ==, (char)(slot + i / UNIT + (unsigned)add));
}

/* ---- runs ---- */

/* A take never goes across two buffers; writes and reads do. */
static void test_across_segments(void)
{
    struct scratch_rig r;
    uint32_t first;

    rig_begin(&r, 0);
    take(&r, 10, 0);
    g_assert_cmpint(scratch_rig_take(&r, 30, &first), ==, SLOTS - 10);
    take(&r, SLOTS, SLOTS);
    take(&r, 3, 2 * SLOTS);
    put(&r, 0, 2 * SLOTS + 3, 1);
    expect(&r, 0, 2 * SLOTS + 3, 1);
    expect(&r, SLOTS - 1, 2, 1);
    give(&r, 0, 2 * SLOTS + 3);
    scratch_rig_end(&r);
}

/* Slots of a run that came back are handed out one after the other, and never more than it has. */
static void test_runs(void)
{
    struct scratch_rig r;
    uint32_t first;

    rig_begin(&r, 0);
    take(&r, SLOTS, 0);
    put(&r, 0, SLOTS, 1);
    give(&r, 4, 6);
    g_assert_cmpuint(fs.punched, ==, 6 * UNIT);
    take(&r, 2, 4);
    take(&r, 1, 6);
    put(&r, 4, 3, 51);
    g_assert_cmpint(scratch_rig_take(&r, 9, &first), ==, 3);
    g_assert_cmpuint(first, ==, 7);
    put(&r, 7, 3, 51);
    take(&r, 1, SLOTS);
    put(&r, SLOTS, 1, 1);
    expect(&r, 0, 4, 1);
    expect(&r, 4, 6, 51);
    expect(&r, 10, SLOTS - 10, 1);
    give(&r, 0, SLOTS + 1);
    scratch_rig_end(&r);
}

/* When all slots have come back, slots that came back earlier are forgotten, in memory or not. */
static void test_starts_over(void)
{
    struct scratch_rig r;

    rig_begin(&r, 0);
    take(&r, SLOTS, 0);
    put(&r, 0, SLOTS, 1);
    take(&r, SLOTS - 1, SLOTS);
    give(&r, 3, 2);     /* in the file */
    give(&r, SLOTS, 2); /* in memory */
    give(&r, 0, 3);
    give(&r, 5, SLOTS - 5);
    give(&r, SLOTS + 2, SLOTS - 3);
    for (uint32_t i = 0; i < 3 * SLOTS; i++) {
        take(&r, 1, i);
        put(&r, i, 1, 1);
    }
    expect(&r, 0, 3 * SLOTS, 1);
    give(&r, 0, 3 * SLOTS);
    scratch_rig_end(&r);
}

static void give_all_back(void *opaque)
{
    struct scratch_rig *r = opaque;

    give(r, 0, SLOTS);
    take(r, 1, SLOTS); /* not slot 0, whose buffer is about to be written */
    put(r, SLOTS, 1, 1);
}

/* All slots come back while their buffer is on its way into the file. */
static void test_back_while_written(void)
{
    struct scratch_rig r;

    rig_begin(&r, 0);
    take(&r, SLOTS, 0);
    fs.opaque = &r;
    fs.writing = give_all_back;
    put(&r, 0, SLOTS, 1);
    g_assert_null(fs.writing);
    expect(&r, SLOTS, 1, 1);
    take(&r, 1, 0); /* now it is free */
    give(&r, SLOTS, 1);
    give(&r, 0, 1);
    scratch_rig_end(&r);
}

/* ---- two buffers in memory ---- */

static void test_two_in_memory(void)
{
    struct scratch_rig r;

    rig_begin(&r, 0);
    take(&r, SLOTS, 0);
    put(&r, 0, SLOTS - 1, 1);
    take(&r, SLOTS, SLOTS);
    put(&r, SLOTS, SLOTS - 1, 1);
    expect(&r, 0, SLOTS - 1, 1);
    expect(&r, SLOTS, SLOTS - 1, 1);
    /* The newer one goes to the file first. What came back of the older one waits for that one. */
    give(&r, 3, 1);
    put(&r, 2 * SLOTS - 1, 1, 1);
    expect(&r, 0, SLOTS - 1, 1);
    expect(&r, SLOTS, SLOTS, 1);
    take(&r, 1, 2 * SLOTS);
    /* A slot beside the older buffer does not belong to it. */
    give(&r, SLOTS, 1);
    take(&r, 1, SLOTS);
    put(&r, SLOTS, 1, 1);
    put(&r, SLOTS - 1, 1, 1);
    take(&r, 1, 3);
    put(&r, 3, 1, 1);
    expect(&r, 0, 2 * SLOTS, 1);
    give(&r, 0, 2 * SLOTS + 1);
    scratch_rig_end(&r);
}

/* A run of which a part is in memory waits as a whole. */
static void test_run_half_in_memory(void)
{
    struct scratch_rig r;

    rig_begin(&r, 0);
    take(&r, SLOTS, 0);
    put(&r, 0, SLOTS, 1);
    take(&r, 4, SLOTS);
    put(&r, SLOTS, 4, 1);
    give(&r, SLOTS - 2, 4);
    take(&r, 1, SLOTS + 4);
    give(&r, 0, SLOTS - 2);
    give(&r, SLOTS + 2, 3);
    scratch_rig_end(&r);
}

/* ---- the budget ---- */

/* As much as the limit is handed out, and no more, whatever is asked for at once. A limit's part of
 * a block counts for nothing. */
static void test_limit(void)
{
    struct scratch_rig r;
    uint32_t first;

    rig_begin(&r, 10 * UNIT + 100);
    g_assert_cmpint(scratch_rig_take(&r, 7, &first), ==, 7);
    g_assert_cmpint(scratch_rig_take(&r, 7, &first), ==, 3);
    g_assert_cmpint(scratch_rig_take(&r, 1, &first), ==, -ENOSPC);
    g_assert_cmpuint(scratch_pool_used(r.pool), ==, 10 * UNIT);
    give(&r, 9, 1);
    g_assert_cmpint(scratch_rig_take(&r, 7, &first), ==, 1);
    give(&r, 0, 9);
    give(&r, first, 1);
    g_assert_cmpuint(scratch_pool_used(r.pool), ==, 0);
    scratch_rig_end(&r);
}

/* The pool tells when use passes 90 %, and again only after use was below 80 %. */
static void test_low(void)
{
    struct scratch_rig r;
    uint32_t slots[92];
    unsigned n = 0;

    rig_begin(&r, 100 * UNIT);
    while (n < 90)
        g_assert_cmpint(scratch_rig_take(&r, 1, &slots[n++]), ==, 1);
    g_assert_cmpuint(r.low, ==, 0);
    while (n < 92)
        g_assert_cmpint(scratch_rig_take(&r, 1, &slots[n++]), ==, 1);
    g_assert_cmpuint(r.low, ==, 1);
    while (n > 80)
        give(&r, slots[--n], 1);
    while (n < 92)
        g_assert_cmpint(scratch_rig_take(&r, 1, &slots[n++]), ==, 1);
    g_assert_cmpuint(r.low, ==, 1);
    while (n > 79)
        give(&r, slots[--n], 1);
    while (n < 92)
        g_assert_cmpint(scratch_rig_take(&r, 1, &slots[n++]), ==, 1);
    g_assert_cmpuint(r.low, ==, 2);
    while (n > 0)
        give(&r, slots[--n], 1);
    scratch_rig_end(&r);
}

/* ---- a file system with little room ---- */

/* The last 5 % of the file system stay free. Up to there all is used, in smaller and smaller
 * pieces. */
static void test_last_five_percent(void)
{
    struct scratch_rig r;
    uint32_t first;
    char why[120];

    rig_begin(&r, 0);
    for (uint32_t i = 0; i < 4; i++) /* what was reserved at first */
        take(&r, SLOTS, i * SLOTS);
    fs.room = 5 * UNIT;
    g_assert_cmpint(scratch_rig_take(&r, SLOTS, &first), ==, 4);
    fs.room = UNIT;
    g_assert_cmpint(scratch_rig_take(&r, SLOTS, &first), ==, 1);
    fs.room = UNIT - 1;
    g_assert_cmpint(scratch_take(r.scratch, 1, &first, why), ==, -ENOSPC);
    g_assert_cmpstr(why, ==, "scratch: less than 5 % of the file system would stay free");
    g_assert_cmpuint(r.low, ==, 1);
    give(&r, 0, 4 * SLOTS + 5);
    scratch_rig_end(&r);
}

/* No more is handed out than could be reserved. */
static void test_cannot_reserve(void)
{
    struct scratch_rig r;
    uint32_t first;
    char why[120];

    rig_begin(&r, 0);
    for (uint32_t i = 0; i < 4; i++)
        take(&r, SLOTS, i * SLOTS);
    fs.reserve_error = ENOSPC;
    fs.reservable = 3 * UNIT;
    g_assert_cmpint(scratch_rig_take(&r, SLOTS, &first), ==, 2);
    fs.reservable = 0;
    g_assert_cmpint(scratch_take(r.scratch, 1, &first, why), ==, -ENOSPC);
    g_assert_cmpstr(why, ==, "scratch: reserving 4096 bytes: No space left on device");
    /* A file system that cannot reserve at all does without. */
    fs.reserve_error = EOPNOTSUPP;
    g_assert_cmpint(scratch_rig_take(&r, 1, &first), ==, 1);
    give(&r, 0, 4 * SLOTS + 3);
    scratch_rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/scratch-pool/across-buffers", test_across_segments);
    g_test_add_func("/scratch-pool/runs", test_runs);
    g_test_add_func("/scratch-pool/starts-over", test_starts_over);
    g_test_add_func("/scratch-pool/back-while-written", test_back_while_written);
    g_test_add_func("/scratch-pool/two-in-memory", test_two_in_memory);
    g_test_add_func("/scratch-pool/run-half-in-memory", test_run_half_in_memory);
    g_test_add_func("/scratch-pool/limit", test_limit);
    g_test_add_func("/scratch-pool/low", test_low);
    g_test_add_func("/scratch-pool/last-five-percent", test_last_five_percent);
    g_test_add_func("/scratch-pool/cannot-reserve", test_cannot_reserve);
    return g_test_run();
}
