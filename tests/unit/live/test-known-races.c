/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What other programs have done wrong with qcow2 images when several requests were under way: a test for
 * the kind of each mistake (see test-known-bugs.c). Threads meet at each step, so that their requests are at the same
 * clusters at the same time.
 */
#include "tests/rigs/live-picture.h"

#include <pthread.h>
#include <string.h>

#define KIB     1024u
#define MIB     (KIB * KIB)
#define THREADS 4u

/* ---- threads that do their steps together ---- */

struct crew {
    struct live_picture p;
    unsigned steps;
    void (*step)(struct crew *c, unsigned thread, unsigned step);
    pthread_mutex_t lock;
    pthread_cond_t all_here;
    unsigned here, turn;
};

struct member {
    struct crew *crew;
    unsigned number;
};

static void meet(struct crew *c)
{
    pthread_mutex_lock(&c->lock);
    if (++c->here == THREADS) {
        c->here = 0;
        c->turn++;
        pthread_cond_broadcast(&c->all_here);
    } else {
        for (unsigned turn = c->turn; turn == c->turn;)
            pthread_cond_wait(&c->all_here, &c->lock);
    }
    pthread_mutex_unlock(&c->lock);
}

static gpointer member_run(gpointer data)
{
    struct member *m = data;

    for (unsigned step = 0; step < m->crew->steps; step++) {
        meet(m->crew);
        m->crew->step(m->crew, m->number, step);
    }
    return NULL;
}

/* On an image that the thread of live_start serves, too; it is open at the end. */
static void crew_run(struct crew *c)
{
    struct member members[THREADS];
    GThread *threads[THREADS];
    struct q2_error err = {0};

    live_picture_open(&c->p);
    g_assert_cmpint(live_start(c->p.image, &err), ==, 0);
    for (unsigned i = 0; i < THREADS; i++) {
        members[i] = (struct member){c, i};
        threads[i] = g_thread_new("crew", member_run, &members[i]);
    }
    for (unsigned i = 0; i < THREADS; i++)
        g_thread_join(threads[i]);
}

/* ---- the mistakes ---- */

/* QEMU 4.1: what one of two first writers of a cluster had written was zeroed by the other. */
static void first_writers(struct crew *c, unsigned thread, unsigned step)
{
    uint64_t offset = step * 64 * KIB + (thread + step) % THREADS * 16 * KIB + 100;

    live_picture_write(&c->p, offset, 16 * KIB - 200, (uint8_t)(step * THREADS + thread + 1));
}

static void run_first_writers(const char *make)
{
    struct crew c = {.steps = 32, .step = first_writers};

    if (!live_picture_begin(&c.p, "%s", make))
        return;
    crew_run(&c);
    live_picture_look(&c.p);
    live_picture_end(&c.p);
}

static void test_first_writers(void)
{
    run_first_writers("qemu-img create -q -f qcow2 i 2M");
    run_first_writers("qemu-img create -q -f qcow2 -o extended_l2=on i 2M");
    run_first_writers("qemu-img create -q -f qcow2 base 2M && "
                      "qemu-io -f qcow2 -c 'write -q -P 200 0 2M' base && "
                      "qemu-img create -q -f qcow2 -b base -F qcow2 i");
    run_first_writers("qemu-img create -q -f qcow2 base 2M && "
                      "qemu-io -f qcow2 -c 'write -q -P 200 0 2M' base && "
                      "qemu-img convert -c -O qcow2 base i");
}

/* QEMU, since 2011: a write links a cluster over an entry that a discard has cleared meanwhile; and then two
 * clusters of the disk have one place. Here each cluster is written by one thread, discarded by another,
 * and others take new places. */
static void write_and_discard(struct crew *c, unsigned thread, unsigned step)
{
    uint64_t shared = step % 8 * 64 * KIB, own = (8 + step) * 64 * KIB;
    uint8_t bytes[4096];

    memset(bytes, 0x11, sizeof(bytes));
    switch (thread) {
    case 0:
        g_assert_cmpint(live_pwrite(c->p.image, bytes, sizeof(bytes), shared + 8192, 0), ==, 0);
        break;
    case 1:
        g_assert_cmpint(live_trim(c->p.image, 64 * KIB, shared, 0), ==, 0);
        break;
    case 2:
        g_assert_cmpint(live_zero(c->p.image, 64 * KIB, shared, LIVE_MAY_TRIM), ==, 0);
        if (step % 5 == 0)
            g_assert_cmpint(live_flush(c->p.image), ==, 0);
        break;
    default:
        live_picture_write(&c->p, own, 64 * KIB, (uint8_t)(step + 0x20));
        break;
    }
}

static void run_write_and_discard(const char *make)
{
    struct crew c = {.steps = 100, .step = write_and_discard};

    if (!live_picture_begin(&c.p, "%s", make))
        return;
    crew_run(&c);
    /* Of the shared ones, each sector is what was written, or zero, or as it was. */
    for (unsigned at = 0; at < 8 * 64 * KIB; at += 512) {
        uint8_t sector[512];

        g_assert_cmpint(live_pread(c.p.image, sector, 512, at), ==, 0);
        g_assert_true(sector[0] == 0 || sector[0] == 0x11 || sector[0] == c.p.disk[at]);
        memcpy(c.p.disk + at, sector, 512);
    }
    live_picture_look(&c.p);
    live_picture_end(&c.p);
}

static void test_write_and_discard(void)
{
    run_write_and_discard("qemu-img create -q -f qcow2 i 7M");
    run_write_and_discard("qemu-img create -q -f qcow2 base 7M && "
                          "qemu-io -f qcow2 -c 'write -q -P 200 0 7M' base && "
                          "qemu-img create -q -f qcow2 -b base -F qcow2 i");
    run_write_and_discard("qemu-img create -q -f qcow2 base 7M && "
                          "qemu-io -f qcow2 -c 'write -q -P 200 0 7M' base && "
                          "qemu-img convert -c -O qcow2 base i");
}

/* qcow2-rs: two that needed an L2 table waited for each other. Here each write needs one, and there is
 * memory for a few only. */
static void far_writes(struct crew *c, unsigned thread, unsigned step)
{
    uint64_t table = (step * THREADS + thread) * 37 % 200;

    live_picture_write(&c->p, table * 32 * KIB + thread * 700, 600, (uint8_t)(step + 1));
    if (step % 7 == thread)
        g_assert_cmpint(live_flush(c->p.image), ==, 0);
}

static void test_tables_at_once(void)
{
    struct crew c = {.steps = 150, .step = far_writes};

    if (!live_picture_begin(&c.p, "qemu-img create -q -f qcow2 -o cluster_size=512 i 8M"))
        return;
    c.p.options.table_memory = 1;
    crew_run(&c);
    live_picture_look(&c.p);
    live_picture_end(&c.p);
}

/* cloud-hypervisor 8624, and what a reader sees: who reads a compressed cluster that is overwritten, and whose place is
 * given back, reads the old one or the new one. */
static void read_and_overwrite(struct crew *c, unsigned thread, unsigned step)
{
    uint64_t offset = step * 64 * KIB;
    uint8_t bytes[2048], new = (uint8_t)(step + 100), old = (uint8_t)(step + 1);

    if (thread == 0) {
        g_autofree uint8_t *whole = g_malloc(64 * KIB);

        memset(whole, new, 64 * KIB);
        g_assert_cmpint(live_pwrite(c->p.image, whole, 64 * KIB, offset, 0), ==, 0);
        g_assert_cmpint(live_flush(c->p.image), ==, 0);
        return;
    }
    for (unsigned i = 0; i < 30; i++) {
        g_assert_cmpint(live_pread(c->p.image, bytes, sizeof(bytes), offset + i * 2048), ==, 0);
        for (unsigned j = 0; j < sizeof(bytes); j++)
            g_assert_true(bytes[j] == old || bytes[j] == new);
    }
}

static void test_read_and_overwrite(void)
{
    struct crew c = {.steps = 32, .step = read_and_overwrite};

    if (!live_picture_begin(&c.p, "qemu-img create -q -f qcow2 i 2M && for i in $(seq 0 31); do "
                                  "qemu-io -f qcow2 -c \"write -q -c -P $((i+1)) $((i*64))k 64k\" "
                                  "i || exit; done"))
        return;
    crew_run(&c);
    for (unsigned i = 0; i < 32; i++)
        memset(c.p.disk + i * 64 * KIB, (int)(i + 100), 64 * KIB);
    live_picture_look(&c.p);
    live_picture_end(&c.p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/known-races/first-writers", test_first_writers);
    g_test_add_func("/known-races/write-and-discard", test_write_and_discard);
    g_test_add_func("/known-races/tables-at-once", test_tables_at_once);
    g_test_add_func("/known-races/read-and-overwrite", test_read_and_overwrite);
    return g_test_run();
}
