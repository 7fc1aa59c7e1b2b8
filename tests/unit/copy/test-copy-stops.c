/* SPDX-License-Identifier: BSD-3-Clause */
/* Copies that fail at each call, and that are cancelled at each call and wherever they wait. */
#include "tests/rigs/copy-rig.h"

#include "common/util/error.h"

#include <string.h>

#define MiB (UINT64_C(1) << 20)
/* A cancelled copy ends within a second; on a machine that is busy it may take ten. */
#define CANCEL_US (10 * G_USEC_PER_SEC)

/* Where something happens. */
struct place {
    enum rig_call call;
    unsigned n;
    bool came;
};

static struct rig_options options(bool ordered)
{
    struct rig_options o = rig_options_usual();

    o.size = MiB + 1234;
    o.ordered = ordered;
    o.copy.trim = true;
    return o;
}

/* The n-th call fails, or, where there are not so many, the last one may be what it likes. */
static int fail_there(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    struct place *p = r->hook_data;

    if (call != p->call || n != p->n)
        return 0;
    p->came = true;
    return fail(err, "%s fails", rig_call_names[call]);
}

/* It is known a moment after its threads have started. */
static void cancel(struct copy_rig *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->copy)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    copy_cancel(r->copy);
}

static int cancel_there(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    struct place *p = r->hook_data;

    (void)err;
    if (call != p->call || n != p->n)
        return 0;
    p->came = true;
    cancel(r);
    return 0;
}

/* As a source or target that waits for somebody who does not come. */
static int wait_there(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    struct place *p = r->hook_data;

    if (call != p->call || n != p->n)
        return 0;
    pthread_mutex_lock(&r->lock);
    p->came = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
    rig_wait_cancelled(r);
    return fail(err, "%s did not wait to the end", rig_call_names[call]);
}

/* One lane makes the number of calls of each kind the same each time. But for those of the conductor:
 * how many of them there are depends on its speed, and so does how many trims come before the end. */
static bool is_certain(enum rig_call call)
{
    return call != RIG_BELOW && call != RIG_SYNC && call != RIG_MARK && call != RIG_TRIM;
}

/* ---- failures ---- */

/* Whether it came so far. */
static bool fail_at(struct rig_options o, enum rig_call call, unsigned n)
{
    struct place p = {call, n, false};
    struct copy_rig *r = rig_new(&o, 7);
    struct copy_progress progress;
    g_autoptr(GError) err = NULL;

    r->hook = fail_there;
    r->hook_data = &p;
    rig_start(r);
    err = rig_end(r, &progress);
    if (p.came && !(call == RIG_TRIM && r->finished)) {
        g_autofree char *text = g_strdup_printf("%s fails", rig_call_names[call]);

        g_assert_nonnull(err);
        g_assert_cmpstr(err->message, ==, text);
        rig_check_failed(r);
    } else {
        g_assert_no_error(err);
        if (!p.came)
            rig_check(r, &progress);
    }
    rig_free(r);
    return p.came;
}

static void test_failures(void)
{
    for (enum rig_call call = 0; call < RIG_CALLS; call++) {
        unsigned most = is_certain(call) ? G_MAXUINT : 8, found = 0;

        for (unsigned n = 0; n < most; n++) {
            struct rig_options o = options(n % 2);

            o.copy.lanes = n % 3 == 2 ? 3 : 1;
            o.copy.memory = o.copy.lanes * (128 << 10);
            if (fail_at(o, call, n))
                found++;
            else if (o.copy.lanes == 1 && is_certain(call))
                break;
        }
        g_test_message("%s: %u", rig_call_names[call], found);
        if (is_certain(call))
            g_assert_cmpuint(found, >, 0);
    }
}

/* ---- cancels ---- */

static bool cancel_at(struct rig_options o, enum rig_call call, unsigned n)
{
    struct place p = {call, n, false};
    struct copy_rig *r = rig_new(&o, 7);
    g_autoptr(GError) err = NULL;

    r->hook = cancel_there;
    r->hook_data = &p;
    rig_start(r);
    err = rig_end(r, NULL);
    if (p.came) {
        g_assert_nonnull(err);
        g_assert_nonnull(strstr(err->message, "cancelled"));
        g_assert_cmpuint(r->cancels, ==, 2);
        g_assert_cmpuint(r->under_way, ==, 0);
        if (call != RIG_FINISH && call != RIG_TRIM && call != RIG_MARK)
            g_assert_false(r->finished);
    } else {
        g_assert_no_error(err);
    }
    rig_free(r);
    return p.came;
}

static void test_cancels(void)
{
    for (enum rig_call call = 0; call < RIG_CALLS; call++) {
        unsigned most = is_certain(call) ? G_MAXUINT : 8, found = 0;

        for (unsigned n = 0; n < most; n++) {
            struct rig_options o = options(n % 2);

            o.copy.lanes = 1 + n % 3;
            o.copy.memory = o.copy.lanes * (128 << 10);
            if (cancel_at(o, call, n))
                found++;
            else if (o.copy.lanes == 1 && is_certain(call))
                break;
        }
        if (is_certain(call))
            g_assert_cmpuint(found, >, 0);
    }
}

/* ---- cancels of what waits ---- */

static void cancel_waiting(struct rig_options o, enum rig_call call)
{
    struct place p = {call, 0, false};
    struct copy_rig *r = rig_new(&o, 7);
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND, start;
    g_autoptr(GError) err = NULL;
    bool came;

    r->hook = wait_there;
    r->hook_data = &p;
    rig_start(r);
    pthread_mutex_lock(&r->lock);
    while (!p.came)
        rig_wait(r, end);
    came = p.came;
    pthread_mutex_unlock(&r->lock);
    g_assert_true(came);
    start = g_get_monotonic_time();
    copy_cancel(r->copy);
    err = rig_end(r, NULL);
    g_assert_cmpint(g_get_monotonic_time() - start, <, CANCEL_US);
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(err->message, "cancelled"));
    rig_check_failed(r);
    rig_free(r);
}

static void test_waiting(void)
{
    static const enum rig_call calls[] = {RIG_EXTENTS, RIG_READ_START, RIG_READ_WAIT, RIG_WRITE,
                                          RIG_ZERO,    RIG_BELOW,      RIG_FINISH};

    for (gsize i = 0; i < G_N_ELEMENTS(calls); i++) {
        cancel_waiting(options(false), calls[i]);
        cancel_waiting(options(true), calls[i]);
    }
}

/* ---- the conductor's calls ---- */

/* The only lane does not go on beyond the middle of the disk before the place has been reached. */
static void hold_lane(struct copy_rig *r, enum rig_call call, unsigned n)
{
    struct place *p = r->hook_data;
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;

    pthread_mutex_lock(&r->lock);
    while (call == RIG_READ_WAIT && n > 70 && r->calls[p->call] <= p->n)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
}

static int fail_held(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    hold_lane(r, call, n);
    return fail_there(r, call, n, err);
}

static int cancel_held(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    hold_lane(r, call, n);
    return cancel_there(r, call, n, err);
}

static int wait_held(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    struct place *p = r->hook_data;

    hold_lane(r, call, n);
    if (call != p->call || n != p->n)
        return 0;
    cancel(r);
    return wait_there(r, call, n, err);
}

static void test_conductor(void)
{
    static int (*const hooks[])(struct copy_rig *, enum rig_call, unsigned,
                                GError **) = {fail_held, cancel_held, wait_held};
    static const enum rig_call calls[] = {RIG_BELOW, RIG_SYNC, RIG_MARK};

    for (gsize i = 0; i < G_N_ELEMENTS(hooks) * G_N_ELEMENTS(calls); i++) {
        struct place p = {calls[i % G_N_ELEMENTS(calls)], 0, false};
        struct rig_options o = options(false);
        struct copy_rig *r;
        g_autoptr(GError) err = NULL;

        o.size = 8 * MiB;
        o.told = 100;
        o.zero = 0;
        o.copy.lanes = 1;
        o.copy.memory = 128 << 10;
        r = rig_new(&o, 7);
        r->hook = hooks[i / G_N_ELEMENTS(calls)];
        r->hook_data = &p;
        rig_start(r);
        err = rig_end(r, NULL);
        g_assert_true(p.came);
        g_assert_nonnull(err);
        g_assert_nonnull(strstr(err->message, i < G_N_ELEMENTS(calls) ? "fails" : "cancelled"));
        rig_check_failed(r);
        rig_free(r);
    }
}

/* A failure of one lane wakes what the others wait for. */
static int one_fails(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    struct place *p = r->hook_data;

    if (call != p->call)
        return 0;
    if (n > 0) {
        rig_wait_cancelled(r);
        return fail(err, "too late");
    }
    pthread_mutex_lock(&r->lock);
    while (r->calls[call] < 3)
        pthread_cond_wait(&r->changed, &r->lock);
    pthread_mutex_unlock(&r->lock);
    return fail(err, "the first one");
}

static void test_first_counts(void)
{
    static const enum rig_call calls[] = {RIG_READ_START, RIG_READ_WAIT, RIG_WRITE};

    for (gsize i = 0; i < G_N_ELEMENTS(calls); i++) {
        struct rig_options o = options(false);
        struct place p = {calls[i], 0, false};
        struct copy_rig *r = rig_new(&o, 7);
        g_autoptr(GError) err = NULL;

        r->hook = one_fails;
        r->hook_data = &p;
        rig_start(r);
        err = rig_end(r, NULL);
        g_assert_nonnull(err);
        g_assert_cmpstr(err->message, ==, "the first one");
        rig_check_failed(r);
        rig_free(r);
    }
}

/* Lanes that wait for their share of a rate are woken. */
static void test_rate_waits(void)
{
    struct rig_options o = options(false);
    struct copy_rate *rate = copy_rate_new(10);
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND, start;
    struct copy_rig *r;
    g_autoptr(GError) err = NULL;

    o.copy.rate = rate;
    r = rig_new(&o, 7);
    rig_start(r);
    pthread_mutex_lock(&r->lock);
    while (r->calls[RIG_READ_START] == 0)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
    start = g_get_monotonic_time();
    copy_cancel(r->copy);
    copy_cancel(r->copy);
    err = rig_end(r, NULL);
    g_assert_cmpint(g_get_monotonic_time() - start, <, CANCEL_US);
    g_assert_nonnull(err);
    rig_check_failed(r);
    rig_free(r);
    copy_rate_free(rate);
}

/* After its end a copy cannot be cancelled any more. */
static void test_late_cancel(void)
{
    struct rig_options o = options(false);
    struct copy_rig *r = rig_new(&o, 7);
    struct copy_progress p;
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;
    GPollFD fd;
    GError *err;

    rig_start(r);
    fd = (GPollFD){.fd = copy_fd(r->copy), .events = G_IO_IN};
    while (g_poll(&fd, 1, 1000) != 1)
        g_assert_cmpint(g_get_monotonic_time(), <, end);
    copy_cancel(r->copy);
    err = rig_end(r, &p);
    g_assert_no_error(err);
    rig_check(r, &p);
    rig_free(r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy-stops/failures", test_failures);
    g_test_add_func("/copy-stops/cancels", test_cancels);
    g_test_add_func("/copy-stops/waiting", test_waiting);
    g_test_add_func("/copy-stops/conductor", test_conductor);
    g_test_add_func("/copy-stops/first-counts", test_first_counts);
    g_test_add_func("/copy-stops/rate", test_rate_waits);
    g_test_add_func("/copy-stops/late-cancel", test_late_cancel);
    return g_test_run();
}
