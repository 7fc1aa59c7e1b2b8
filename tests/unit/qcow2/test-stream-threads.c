/* SPDX-License-Identifier: BSD-3-Clause */
/* Several threads write into one file, while tables below them are closed. */
#include "tests/rigs/stream-rig.h"

#define LANES 4
#define STEP  (384 * KIB)

/* Ranges are handed out in ascending order, and end in any. */
struct work {
    struct stream_rig rig;
    pthread_mutex_t lock;
    uint64_t next;        /* lock */
    uint64_t busy[LANES]; /* lock; where each is; UINT64_MAX: nowhere */
    uint64_t stride;      /* from one range to the next */
};

struct worker {
    struct work *work;
    unsigned lane;
};

/* The next range of a lane, whose last one is done; false: there is none. */
static bool take(struct work *w, unsigned lane, uint64_t *at)
{
    uint64_t below = UINT64_MAX;
    bool more;

    pthread_mutex_lock(&w->lock);
    *at = w->next;
    more = *at < w->rig.o.size;
    w->busy[lane] = more ? *at : UINT64_MAX;
    w->next += more ? w->stride : 0;
    for (unsigned i = 0; i < LANES; i++)
        below = MIN(below, w->busy[i]);
    stream_rig_below(&w->rig, MIN(below, w->next));
    pthread_mutex_unlock(&w->lock);
    return more;
}

static gpointer work(gpointer data)
{
    struct worker *me = data;
    struct work *w = me->work;
    uint64_t at;

    while (take(w, me->lane, &at)) {
        uint64_t length = MIN(STEP, w->rig.o.size - at);

        if (at / w->stride % 5 == 4)
            stream_rig_zero(&w->rig, me->lane, at, length);
        else
            stream_rig_write(&w->rig, me->lane, DATA_MIXED, at, length);
    }
    return NULL;
}

static void write_by_all(const struct q2_stream_options *o, uint64_t stride)
{
    struct work w = {.stride = stride};
    struct worker workers[LANES];
    GThread *threads[LANES];

    if (!stream_can_check())
        return;
    stream_rig_new(&w.rig, o);
    if (o->backing)
        stream_rig_base(&w.rig, MIN(o->size / 2, GIB));
    pthread_mutex_init(&w.lock, NULL);
    for (unsigned i = 0; i < LANES; i++) /* none of them is further than the first range */
        w.busy[i] = 0;
    for (unsigned i = 0; i < LANES; i++) {
        workers[i] = (struct worker){&w, i};
        threads[i] = g_thread_new("lane", work, &workers[i]);
    }
    for (unsigned i = 0; i < LANES; i++)
        g_thread_join(threads[i]);
    pthread_mutex_destroy(&w.lock);
    stream_rig_finish(&w.rig);
    stream_rig_check(&w.rig);
    stream_rig_free(&w.rig);
}

static void test_raw(void)
{
    write_by_all(&(struct q2_stream_options){.size = 40 * MIB + 100, .lanes = LANES}, STEP);
}

static void test_compressed(void)
{
    for (int way = Q2_ZLIB; way <= Q2_ZSTD; way++)
        write_by_all(&(struct q2_stream_options){.size = 40 * MIB + 100,
                                                 .lanes = LANES,
                                                 .compress = true,
                                                 .compression = way,
                                                 .detect_zeroes = true},
                     STEP);
}

/* Few clusters in each of many tables, over a base. */
static void test_sparse(void)
{
    write_by_all(&(struct q2_stream_options){.size = 20 * GIB + 512,
                                             .lanes = LANES,
                                             .backing = "base.raw",
                                             .backing_format = "raw",
                                             .detect_zeroes = true},
                 205 * MIB / 65536 * 65536);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/threads/raw", test_raw);
    g_test_add_func("/threads/compressed", test_compressed);
    g_test_add_func("/threads/sparse", test_sparse);
    return g_test_run();
}
