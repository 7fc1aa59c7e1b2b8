/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All short sequences of what a guest does to an image of 8 clusters, on images of each kind, and power lost at each
 * moment of the last step (the earlier ones are the last ones of shorter sequences): tests/rigs/live-power.h.
 * By default all of two steps and some of three on a few kinds, some of two on the others. With $FLEECE_LONG all of three,
 * and some of four.
 */
#include "tests/rigs/live-power.h"

#include <stdlib.h>
#include <string.h>

/* Ranges in quarters of a cluster. */
struct template
{
    enum live_step_kind kind;
    unsigned flags;
    unsigned from, length;
    int more; /* bytes more at both ends */
};

static const struct template templates[] = {
    {LIVE_STEP_WRITE, 0, 8, 4, 0},                         /* 2, all of it */
    {LIVE_STEP_WRITE, 0, 13, 2, -10},                      /* in 3 */
    {LIVE_STEP_WRITE, 0, 1, 2, 30},                        /* in 0, which is data */
    {LIVE_STEP_WRITE, 0, 6, 8, 7},                         /* from 1 to 3 */
    {LIVE_STEP_WRITE, 0, 17, 2, 0},                        /* in 4 */
    {LIVE_STEP_WRITE, 0, 22, 4, 3},                        /* in 5 and 6, which are zero */
    {LIVE_STEP_WRITE, LIVE_FUA, 29, 2, 0},                 /* in 7 */
    {LIVE_STEP_ZERO, 0, 2, 10, 5},                         /* from 0 to 2 */
    {LIVE_STEP_ZERO, LIVE_MAY_TRIM, 12, 8, 0},             /* 3 and 4, all of them */
    {LIVE_STEP_ZERO, LIVE_FUA | LIVE_MAY_TRIM, 16, 13, 0}, /* from 4 to the beginning of 7 */
    {LIVE_STEP_TRIM, 0, 0, 14, 0},                         /* from 0 to the beginning of 3 */
    {LIVE_STEP_FLUSH, 0, 0, 0, 0},
    {LIVE_STEP_WRITE_BACK, 0, 0, 0, 0},
    {LIVE_STEP_RESIZE, 0, 0, 0, 0},
    {LIVE_STEP_REOPEN, 0, 0, 0, 0},
};
#define N G_N_ELEMENTS(templates)

static struct live_step make_step(const struct template *t, unsigned cluster)
{
    struct live_step s = {.kind = t->kind, .flags = t->flags};

    /* So much that an image of small clusters needs another table. */
    if (t->kind == LIVE_STEP_RESIZE)
        s.length = cluster == 512 ? 60 * 512 : 3 * cluster;
    if (t->length == 0)
        return s;
    s.offset = (uint64_t)((int64_t)t->from * (cluster / 4) - t->more);
    s.length = (uint64_t)((int64_t)t->length * (cluster / 4) + 2 * t->more);
    return s;
}

/* The sequence whose digits, in the base of N, are the steps: the last digit is the first step. */
static void run_sequence(struct live_power *p, unsigned number, unsigned length)
{
    live_power_start(p);
    for (unsigned i = 0; i < length; i++, number /= N) {
        struct live_step s = make_step(&templates[number % N], p->images.kind->cluster);

        g_assert_cmpint(live_power_step(p, &s, i + 1 == length), ==, 0);
    }
    live_power_stop(p, false);
}

static unsigned power(unsigned exponent)
{
    return exponent ? (unsigned)N * power(exponent - 1) : 1;
}

static unsigned all(struct live_power *p, unsigned length)
{
    for (unsigned i = 0; i < power(length); i++)
        run_sequence(p, i, length);
    return power(length);
}

static unsigned some(struct live_power *p, unsigned length, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        run_sequence(p, (unsigned)g_test_rand_int_range(0, (gint32)power(length)), length);
    return n;
}

static bool is_long(void)
{
    return g_getenv("FLEECE_LONG") != NULL;
}

static void test_kind(gconstpointer data)
{
    const struct live_kind *kind = data;
    struct live_power p;
    unsigned sequences;

    if (!live_power_begin(&p, kind))
        return;
    p.seed = (uint64_t)g_test_rand_int();
    p.ask_every = is_long() ? 500 : 2000;
    p.reopen_every = 7;
    sequences = all(&p, 1);
    if (is_long())
        sequences += all(&p, 2) + all(&p, 3) + some(&p, 4, 3000);
    else if (kind->whole)
        sequences += all(&p, 2) + some(&p, 3, 100);
    else if (kind->slow)
        sequences += some(&p, 2, 15);
    else
        sequences += some(&p, 2, 50) + some(&p, 3, 20);
    g_test_message("%s: %u sequences, %" G_GUINT64_FORMAT
                   " crashes, the guest went on after %" G_GUINT64_FORMAT
                   ", QEMU was asked about %" G_GUINT64_FORMAT,
                   kind->name, sequences, (guint64)p.states, (guint64)p.reopened, (guint64)p.asked);
    g_assert_cmpuint(p.states, >, 50);
    live_power_end(&p);
}

/* A disk that grows so much that its L1 table moves. */
static void test_grow(gconstpointer data)
{
    const struct live_kind *kind = data;
    const struct live_step steps[] = {
        {LIVE_STEP_WRITE, 0, 700, 900},   {LIVE_STEP_RESIZE, 0, 0, 70 * 64 * 512},
        {LIVE_STEP_WRITE, 0, 3000, 5000}, {LIVE_STEP_WRITE, 0, 66 * 64 * 512, 300},
        {LIVE_STEP_FLUSH, 0, 0, 0},       {LIVE_STEP_ZERO, LIVE_MAY_TRIM, 1000, 4096},
        {LIVE_STEP_REOPEN, 0, 0, 0},
    };
    struct live_power p;

    if (!live_power_begin(&p, kind))
        return;
    p.seed = (uint64_t)g_test_rand_int();
    for (unsigned first = 0; first < 2; first++) {
        live_power_start(&p);
        for (unsigned i = first; i < G_N_ELEMENTS(steps); i++)
            g_assert_cmpint(live_power_step(&p, &steps[i], true), ==, 0);
        live_power_stop(&p, false);
    }
    g_test_message("%" G_GUINT64_FORMAT " crashes", (guint64)p.states);
    live_power_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < live_n_kinds; i++) {
        g_autofree char *path = g_strdup_printf("/crash/%s", live_kinds[i].name);

        g_test_add_data_func(path, &live_kinds[i], test_kind);
    }
    g_test_add_data_func("/crash/grow", live_kind_named("512"), test_grow);
    g_test_add_data_func("/crash/grow-backing", live_kind_named("v2-backing"), test_grow);
    return g_test_run();
}
