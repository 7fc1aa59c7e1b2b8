/* SPDX-License-Identifier: BSD-3-Clause */
/* The limit of the rate: how long it takes, among several; and finding zeroes. */
#include "common/copy/rate.h"
#include "common/copy/copy.h"
#include "common/copy/zeroes.h"

#include <string.h>

#include <pthread.h>

#define KiB UINT64_C(1024)

/* GLib's threads are not seen by TSan. */
static pthread_t begin_thread(void *(*function)(void *), void *opaque)
{
    pthread_t thread;

    g_assert_cmpint(pthread_create(&thread, NULL, function, opaque), ==, 0);
    return thread;
}

struct taker {
    struct copy_rate *rate;
    gint *stop;
    unsigned takes;
    uint64_t bytes;
    bool result;
};

static void *take_all(void *opaque)
{
    struct taker *t = opaque;

    t->result = true;
    for (unsigned i = 0; i < t->takes && t->result; i++)
        t->result = copy_rate_take(t->rate, t->bytes, t->stop);
    return NULL;
}

/* 4 threads that take 1 MiB together, at 2 MiB a second: half a second, less the first share and
 * what a full bucket holds. Nothing is said of how late it may be. */
static void test_shared(void)
{
    gint stop = 0;
    struct copy_rate *r = copy_rate_new(2048 * KiB);
    struct taker takers[4];
    pthread_t threads[4];
    gint64 start = g_get_monotonic_time();

    for (int i = 0; i < 4; i++) {
        takers[i] = (struct taker){r, &stop, 16, 16 * KiB, false};
        threads[i] = begin_thread(take_all, &takers[i]);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        g_assert_true(takers[i].result);
    }
    g_assert_cmpint(g_get_monotonic_time() - start, >=,
                    (gint64)(500 - 8 - 50) * G_TIME_SPAN_MILLISECOND);
    copy_rate_free(r);
}

/* What nobody took for long is not there later: 400 KiB after a pause of half a second take as long
 * as without it. */
static void test_no_hoard(void)
{
    gint stop = 0;
    struct copy_rate *r = copy_rate_new(1000 * KiB);
    struct taker t = {r, &stop, 41, 10 * KiB, false};
    gint64 start;

    g_assert_true(copy_rate_take(r, 1, &stop));
    g_assert_true(copy_rate_take(r, 500 * KiB, &stop));
    g_assert_true(copy_rate_take(r, 1, &stop)); /* half a second has passed */
    start = g_get_monotonic_time();
    take_all(&t);
    g_assert_cmpint(g_get_monotonic_time() - start, >=,
                    (gint64)(400 - 50) * G_TIME_SPAN_MILLISECOND);
    copy_rate_free(r);
}

/* Who waits for hours is woken. */
static void test_stop(void)
{
    gint stop = 0;
    struct copy_rate *r = copy_rate_new(1);
    struct taker t = {r, &stop, 2, 100000, false};
    pthread_t thread = begin_thread(take_all, &t);

    g_atomic_int_set(&stop, 1);
    copy_rate_wake(r);
    pthread_join(thread, NULL);
    g_assert_false(t.result);
    copy_rate_free(r);
    g_assert_null(copy_rate_new(0));
    copy_rate_free(NULL);
}

/* Each place where one byte may be is looked at, in blocks of each length. */
static void test_zeroes(void)
{
    static uint8_t bytes[200];

    for (size_t length = 0; length <= sizeof bytes; length++) {
        g_assert_true(all_zeroes(bytes, length));
        for (size_t i = 0; i < sizeof bytes; i++) {
            bytes[i] = 1;
            g_assert_true(all_zeroes(bytes, length) == (i >= length));
            bytes[i] = 0;
        }
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/rate/shared", test_shared);
    g_test_add_func("/rate/no-hoard", test_no_hoard);
    g_test_add_func("/rate/stop", test_stop);
    g_test_add_func("/rate/zeroes", test_zeroes);
    return g_test_run();
}
