/* SPDX-License-Identifier: BSD-3-Clause */
/* The engine's threads, held at a call of the source or the target: what is below the position, what is marked,
 * and what is trimmed. */
#include "common/copy/copy-private.h"
#include "common/util/error.h"
#include "tests/rigs/copy-rig.h"

#include <sched.h>
#include <string.h>

#define MiB (UINT64_C(1) << 20)

/* The first sync waits until everything has come into the target: lanes do not wait for it. */
static int slow_sync(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;

    (void)err;
    pthread_mutex_lock(&r->lock);
    while (call == RIG_READ_WAIT && n > 70 && r->calls[RIG_SYNC] == 0)
        rig_wait(r, end);
    while (call == RIG_SYNC && n == 0 && memcmp(r->done, r->expected, r->o.size) != 0)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

/* Copy a disk of 8 MiB in batches of 64 KiB, with a hook. */
static void copy_hooked(unsigned lanes, bool ordered,
                        int (*hook)(struct copy_rig *, enum rig_call, unsigned, GError **))
{
    struct rig_options o = rig_options_usual();
    struct copy_rig *r;
    struct copy_progress p;
    unsigned count = 0;
    GError *err;

    o.size = 8 * MiB;
    o.told = 100;
    o.zero = o.zero_content = 0;
    o.ordered = ordered;
    o.copy.trim = true;
    o.copy.lanes = lanes;
    o.copy.memory = lanes * (128 << 10);
    r = rig_new(&o, 1);
    r->hook = hook;
    r->hook_data = &count;
    rig_start(r);
    err = rig_end(r, &p);
    g_assert_no_error(err);
    rig_check(r, &p);
    rig_free(r);
}

static void test_slow_sync(void)
{
    copy_hooked(1, false, slow_sync);
}

/* A lane that is slow with its first batch holds back the position, however far the others are:
 * the rig checks that nothing above it is marked, or told to be below. */
static int hold_first(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;

    (void)err;
    if (call != RIG_WRITE || n > 0)
        return 0;
    pthread_mutex_lock(&r->lock);
    while (r->calls[RIG_WRITE] < 20 || !r->copy)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

/* In the middle of the disk the lane does not go on before something is marked, and a little later not
 * before the conductor has called again, so that it is done with the mark: what is below that is then
 * trimmed long before the end. A call is counted before its hook runs. hook_data: how often below had
 * been called when the hook of the mark ran, 0 before that. */
static int want_marks(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;
    unsigned *below = r->hook_data;

    (void)err;
    pthread_mutex_lock(&r->lock);
    if (call == RIG_MARK && n == 0)
        *below = r->calls[RIG_BELOW];
    while (call == RIG_READ_WAIT && n > 70 && r->calls[RIG_MARK] == 0)
        rig_wait(r, end);
    while (call == RIG_READ_WAIT && n > 75 && (*below == 0 || r->calls[RIG_BELOW] <= *below))
        rig_wait(r, end);
    if (call == RIG_FINISH)
        g_assert_cmpuint(r->calls[RIG_TRIM], >, 0);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

/* The first `below` stands until the lane is held, or has copied all, which it must not. hook_data: whether
 * it is held. */
static bool is_held(struct copy_rig *r)
{
    struct copy *c;
    bool held;

    pthread_mutex_lock(&r->lock);
    c = r->copy;
    pthread_mutex_unlock(&r->lock);
    if (!c)
        return false;
    pthread_mutex_lock(&c->lock);
    held = c->held > 0;
    pthread_mutex_unlock(&c->lock);
    return held;
}

static bool is_done(struct copy_rig *r)
{
    bool done;

    pthread_mutex_lock(&r->lock);
    done = memcmp(r->done, r->expected, r->o.size) == 0;
    pthread_mutex_unlock(&r->lock);
    return done;
}

static int hold_below(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;
    bool *held = r->hook_data;

    (void)err;
    if (call != RIG_BELOW || n > 0)
        return 0;
    while (!(*held = is_held(r)) && !is_done(r)) {
        g_assert_cmpint(g_get_monotonic_time(), <, end);
        sched_yield();
    }
    return 0;
}

/* What comes into the target is not far above what it has dealt with, however slow it is. */
static void test_ahead(void)
{
    struct rig_options o = rig_options_usual();
    bool held = false;
    struct copy_rig *r;
    struct copy_progress p;
    GError *err;

    o.size = 8 * MiB;
    o.told = 100;
    o.zero = o.zero_content = 0;
    o.copy.lanes = 1;
    o.copy.memory = 128 << 10;
    o.copy.ahead = MiB;
    r = rig_new(&o, 1);
    r->hook = hold_below;
    r->hook_data = &held;
    rig_start(r);
    err = rig_end(r, &p);
    g_assert_no_error(err);
    g_assert_true(held);
    rig_check(r, &p);
    rig_free(r);
}

static void test_marks(void)
{
    copy_hooked(4, false, hold_first);
    copy_hooked(1, false, want_marks);
}

/* The end is marked before anything is trimmed that no mark has covered; where that fails, nothing is. */
static int fail_mark(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    (void)n;
    if (call == RIG_MARK && r->finished)
        return fail(err, "no room for a mark");
    if (call == RIG_TRIM)
        g_assert_false(r->finished);
    return 0;
}

static void test_mark_of_the_end(void)
{
    struct rig_options o = rig_options_usual();
    struct copy_progress p;
    struct copy_rig *r;
    g_autoptr(GError) err = NULL;

    o.size = MiB + 77;
    o.told = 100;
    o.mark = o.copy.trim = true;
    r = rig_new(&o, 1);
    rig_start(r);
    g_assert_null(rig_end(r, &p));
    g_assert_cmpuint(r->marked, ==, o.size);
    g_assert_cmpuint(r->calls[RIG_TRIM], >, 0);
    rig_free(r);

    r = rig_new(&o, 1);
    r->hook = fail_mark;
    rig_start(r);
    err = rig_end(r, &p);
    g_assert_nonnull(err);
    g_assert_nonnull(strstr(err->message, "no room"));
    g_assert_cmpuint(r->calls[RIG_TRIM], ==, 0);
    g_assert_cmpuint(p.position, ==, o.size);
    rig_free(r);
}

/* From the end on there is nothing to copy, and the target is finished. */
static void test_start_at_end(void)
{
    struct rig_options o = rig_options_usual();
    struct copy_progress p;
    struct copy_rig *r;

    o.size = MiB + 77;
    o.told = 100;
    o.mark = o.copy.trim = true;
    o.copy.start = o.size;
    r = rig_new(&o, 1);
    rig_start(r);
    g_assert_null(rig_end(r, &p));
    g_assert_true(r->finished);
    g_assert_cmpuint(r->calls[RIG_READ_START] + r->calls[RIG_WRITE] + r->calls[RIG_ZERO], ==, 0);
    g_assert_cmpuint(r->calls[RIG_TRIM] + r->calls[RIG_MARK], ==, 0);
    g_assert_cmpuint(p.position, ==, o.size);
    rig_free(r);
}

/* All lanes read at once: each waits for the others. An ordered target has its batches in order all
 * the same: the rig checks that. */
static int together(struct copy_rig *r, enum rig_call call, unsigned n, GError **err)
{
    gint64 end = g_get_monotonic_time() + RIG_SOON_MS * G_TIME_SPAN_MILLISECOND;

    (void)n, (void)err;
    if (call != RIG_READ_WAIT)
        return 0;
    pthread_mutex_lock(&r->lock);
    while (r->most_lanes < 4)
        rig_wait(r, end);
    pthread_mutex_unlock(&r->lock);
    return 0;
}

static void test_lanes(void)
{
    copy_hooked(4, false, together);
    for (int i = 0; i < 10; i++)
        copy_hooked(4, true, together);
}

/* ---- what cannot be ---- */

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/copy/slow-sync", test_slow_sync);
    g_test_add_func("/copy/marks", test_marks);
    g_test_add_func("/copy/ahead", test_ahead);
    g_test_add_func("/copy/mark-of-the-end", test_mark_of_the_end);
    g_test_add_func("/copy/start-at-end", test_start_at_end);
    g_test_add_func("/copy/lanes", test_lanes);
    return g_test_run();
}
