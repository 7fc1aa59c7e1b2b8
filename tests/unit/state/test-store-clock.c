/* SPDX-License-Identifier: BSD-3-Clause */
/* A wall clock that jumps while a server runs, and before the next one starts. */
#include "tests/rigs/store-rig.h"

#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define HOUR 3600

static atomic_int jump; /* seconds by which the clock is wrong */

/* This takes the place of libc's. */
int clock_gettime(clockid_t clock, struct timespec *t);
int clock_gettime(clockid_t clock, struct timespec *t)
{
    int result = (int)syscall(SYS_clock_gettime, clock, t);

    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)
        t->tv_sec += jump;
    return result;
}

/* A server that has changed one block, while the clock was wrong by so much. */
static struct store_rig *changed_at(int seconds)
{
    struct store_rig *r = rig_new();
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    jump = 0;
    rig_start(r, 1);
    bits[0] = rig_add(d, "b");
    jump = seconds;
    rig_change(d, bits, 0, 1);
    return r;
}

static void start_at(struct store_rig *r, int seconds)
{
    jump = seconds;
    rig_start(r, 1);
}

/* Nanoseconds since 1970 on a clock that is wrong by so much. */
static int64_t wall_clock(int seconds)
{
    struct timespec t;

    syscall(SYS_clock_gettime, CLOCK_REALTIME, &t);
    return (t.tv_sec + seconds) * INT64_C(1000000000) + t.tv_nsec;
}

/* The clock of this file is the one that the store looks at. */
static void expect_changed_at(const struct rig_disk *d, int seconds)
{
    g_assert_cmpint(ABS(d->modified - wall_clock(seconds)), <, INT64_C(600000000000));
}

/* It goes on: that is what a clock does while no server runs. */
static void test_forth(void)
{
    struct store_rig *r = changed_at(0);

    rig_kill(r);
    start_at(r, HOUR);
    rig_expect(&r->disks[0], "b", 65536);
    rig_free(r);
}

/* The server's last change lies in the future: an mtime before it need not be the server's. */
static void test_back(void)
{
    struct store_rig *r = changed_at(0);
    struct rig_disk *d = &r->disks[0];

    rig_kill(r);
    start_at(r, -HOUR);
    rig_expect_inconsistent(d, "b", "it is not known when it last changed the image");
    rig_free(r);
}

/* The same, with a jump there and back while the server ran: somebody else's write at the right time
 * is long before the server's last change. */
static void test_there_and_back(void)
{
    struct store_rig *r = changed_at(HOUR);
    struct rig_disk *d = &r->disks[0];

    expect_changed_at(d, HOUR);
    rig_kill(r);
    jump = 0;
    d->modified = wall_clock(0);
    g_free(d->content);
    d->content = g_strdup("somebody else's");
    start_at(r, 0);
    rig_expect_inconsistent(d, "b", "it is not known when it last changed the image");
    rig_free(r);
}

/* Set back while the server ran: the last change is what counts, not the latest stamp. */
static void test_back_in_use(void)
{
    struct store_rig *r = changed_at(0);
    struct rig_disk *d = &r->disks[0];
    struct bitmap *bits[] = {NULL, NULL};

    bits[0] = d->bits->pdata[0];
    jump = -HOUR;
    rig_change(d, bits, MIB, 1);
    expect_changed_at(d, -HOUR);
    rig_kill(r);
    d->modified = wall_clock(-HOUR + 5);
    g_free(d->content);
    d->content = g_strdup("somebody else's");
    start_at(r, -HOUR);
    rig_expect_inconsistent(d, "b", "");
    rig_free(r);
}

/* After a stop nothing depends on the clock. */
static void test_stopped(void)
{
    static const int jumps[] = {HOUR, -HOUR, 0};
    struct store_rig *r = changed_at(0);

    for (unsigned i = 0; i < G_N_ELEMENTS(jumps); i++) {
        rig_stop(r);
        start_at(r, jumps[i]);
        rig_expect(&r->disks[0], "b", 65536);
    }
    rig_free(r);
}

/* After a power loss, by a clock that was set back the image was changed in this boot. */
static void test_power_loss(void)
{
    struct store_rig *r = changed_at(0);
    struct rig_disk *d = &r->disks[0];

    rig_kill(r);
    rig_reboot(r);
    start_at(r, -400 * 24 * HOUR);
    rig_expect_inconsistent(d, "b", "somebody else has changed the image since");
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/store-clock/forth", test_forth);
    g_test_add_func("/store-clock/back", test_back);
    g_test_add_func("/store-clock/there-and-back", test_there_and_back);
    g_test_add_func("/store-clock/back-in-use", test_back_in_use);
    g_test_add_func("/store-clock/stopped", test_stopped);
    g_test_add_func("/store-clock/power-loss", test_power_loss);
    return g_test_run();
}
