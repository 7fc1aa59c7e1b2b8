/* SPDX-License-Identifier: BSD-3-Clause */
/* A limit of scratch that views of several disks share. */
#include "server/disk/scratch-buffer.h"
#include "tests/rigs/disk-harness.h"

#include <errno.h>
#include <string.h>

struct heard {
    unsigned times;
    uint64_t used, limit;
};

static void hear(void *opaque, uint64_t used, uint64_t limit)
{
    struct heard *h = opaque;

    h->times++;
    h->used = used;
    h->limit = limit;
}

static void test_counts(void)
{
    struct heard h = {0};
    struct view_quota *q = view_quota_new(1000, hear, &h);

    g_assert_true(view_quota_take(q, 899));
    g_assert_cmpuint(h.times, ==, 0);
    g_assert_true(view_quota_take(q, 1));
    g_assert_cmpuint(h.times, ==, 1);
    g_assert_cmpuint(h.used, ==, 900);
    g_assert_cmpuint(h.limit, ==, 1000);
    g_assert_false(view_quota_take(q, 101));
    g_assert_cmpuint(view_quota_used(q), ==, 900);
    g_assert_true(view_quota_take(q, 100));
    view_quota_inherit(q, 50);
    g_assert_cmpuint(view_quota_used(q), ==, 1050);
    g_assert_false(view_quota_take(q, 1));
    g_assert_cmpuint(h.times, ==, 1);
    view_quota_give(q, 250); /* 800: not below 80 % */
    g_assert_true(view_quota_take(q, 150));
    g_assert_cmpuint(h.times, ==, 1);
    view_quota_give(q, 151);
    view_quota_inherit(q, 101);
    g_assert_cmpuint(h.times, ==, 2);
    view_quota_unref(q);
}

static void test_no_limit(void)
{
    struct heard h = {0};
    struct view_quota *q = view_quota_new(0, hear, &h);

    g_assert_true(view_quota_take(q, UINT64_MAX / 2));
    g_assert_cmpuint(view_quota_used(q), ==, UINT64_MAX / 2);
    view_quota_give(q, UINT64_MAX / 2);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    g_assert_cmpuint(h.times, ==, 0);
    view_quota_unref(q);
    view_quota_unref(NULL);
}

static struct view *quota_view(struct rig *r, const char *name, struct view_quota *q,
                               enum cbw_error on_error)
{
    struct view_options options = {.on_error = on_error, .quota = q};
    struct instant *i = instant_new();
    struct view *v;

    g_assert_cmpint(instant_view_create(i, r->disk, name, &options, &v, NULL), ==, 0);
    g_assert_cmpint(instant_commit(i, NULL), ==, 0);
    return v;
}

/* Two disks, one session. The view that cannot keep breaks alone. */
static void test_shared(void)
{
    struct rig *a = rig_new(64 * KIB, 0), *b = rig_new(64 * KIB, 0);
    struct heard h = {0};
    struct view_quota *q = view_quota_new(40960, hear, &h);
    struct view *va, *vb, *other;
    struct view_info info;

    rig_fill(a, 0, 64 * KIB, 'a');
    rig_fill(b, 0, 64 * KIB, 'a');
    other = rig_view(a, "other", CBW_BREAK_SNAPSHOT, 0);
    va = quota_view(a, "va", q, CBW_BREAK_SNAPSHOT);
    vb = quota_view(b, "vb", q, CBW_BREAK_SNAPSHOT);
    rig_fill(a, 0, 20480, 'b');
    rig_fill(b, 0, 16384, 'b');
    g_assert_cmpuint(view_quota_used(q), ==, 36864);
    g_assert_cmpuint(h.times, ==, 1);
    rig_fill(a, 32768, 8192, 'b'); /* there is room for one block */
    view_info(va, &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==,
                    "scratch: the limit of 40960 bytes of views together is reached");
    g_assert_false(view_is_broken(vb));
    g_assert_false(view_is_broken(other));
    assert_view(other, 0, 64 * KIB, 'a');
    assert_view(vb, 0, 64 * KIB, 'a');
    rig_fill(b, 16384, 4096, 'b');
    g_assert_false(view_is_broken(vb));
    g_assert_cmpuint(view_quota_used(q), ==, 40960);
    rig_delete(a, va);
    g_assert_cmpuint(view_quota_used(q), ==, 20480);
    rig_free(a);
    rig_free(b);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    view_quota_unref(q);
}

static void test_breaks_guest_write(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view_quota *q = view_quota_new(4096, NULL, NULL);
    struct view *v;

    rig_fill(r, 0, 64 * KIB, 'a');
    v = quota_view(r, "v", q, CBW_BREAK_GUEST_WRITE);
    g_assert_cmpint(rig_try_fill(r, 0, 8192, 'b'), ==, -EIO);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    rig_fill(r, 0, 4096, 'b');
    g_assert_cmpint(rig_try_fill(r, 4096, 4096, 'b'), ==, -EIO);
    assert_view(v, 0, 64 * KIB, 'a');
    rig_free(r);
    view_quota_unref(q);
}

/* What cannot be written to scratch does not count. */
static void test_failed_write(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view_quota *q = view_quota_new(0, NULL, NULL);

    rig_fill(r, 0, 64 * KIB, 'a');
    quota_view(r, "v", q, CBW_BREAK_GUEST_WRITE);
    atomic_store(&r->failing_scratch_writes, 1);
    g_assert_cmpint(rig_try_fill(r, 0, 8192, 'b'), ==, -EIO);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    rig_fill(r, 0, 8192, 'b');
    g_assert_cmpuint(view_quota_used(q), ==, 8192);
    rig_free(r);
    view_quota_unref(q);
}

/* A write for which scratch has no room in one piece counts once, and gives nothing back meanwhile. */
static void test_pieces(void)
{
    const uint64_t half = BUFFER_BYTES / 2;
    struct rig *r = rig_new(4 * half, 0);
    struct heard h = {0};
    struct view_quota *q = view_quota_new(3 * half, hear, &h);
    struct view *v;

    rig_fill(r, 0, 4 * half, 'a');
    v = quota_view(r, "v", q, CBW_BREAK_SNAPSHOT);
    rig_fill(r, 0, half, 'b');
    g_assert_cmpuint(h.times, ==, 0);
    rig_fill(r, half, 2 * half, 'b');
    g_assert_cmpuint(view_quota_used(q), ==, 3 * half);
    g_assert_cmpuint(h.times, ==, 1);
    g_assert_false(view_is_broken(v));
    assert_view(v, 0, 4 * half, 'a');
    rig_free(r);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    view_quota_unref(q);
}

static void trim(struct view *v, uint64_t length, uint64_t offset)
{
    struct node_io *io;

    g_assert_cmpint(node_io_open(view_node(v), false, true, NULL, &io, NULL), ==, 0);
    g_assert_cmpint(node_trim(io, length, offset, 0), ==, 0);
    node_io_close(io);
}

/* What a view's client has trimmed counts no more; where an older view needs it, it counts there,
 * even above the limit: it must not be lost. */
static void test_trim(void)
{
    struct rig *r = rig_new(64 * KIB, 0);
    struct view_quota *q = view_quota_new(40960, NULL, NULL), *small;
    struct view *v, *old;

    small = view_quota_new(4096, NULL, NULL);
    rig_fill(r, 0, 64 * KIB, 'a');
    old = quota_view(r, "old", small, CBW_BREAK_SNAPSHOT);
    v = quota_view(r, "v", q, CBW_BREAK_SNAPSHOT);
    rig_fill(r, 0, 16384, 'b');
    g_assert_cmpuint(view_quota_used(q), ==, 16384);
    trim(old, 4096, 0);
    trim(v, 12288, 0);
    g_assert_cmpuint(view_quota_used(q), ==, 4096);
    g_assert_cmpuint(view_quota_used(small), ==, 8192);
    rig_delete(r, v);
    g_assert_cmpuint(view_quota_used(q), ==, 0);
    g_assert_cmpuint(view_quota_used(small), ==, 12288);
    g_assert_false(view_is_broken(old));
    assert_view(old, 4096, 64 * KIB - 4096, 'a');
    rig_free(r);
    view_quota_unref(q);
    view_quota_unref(small);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/view-quota/counts", test_counts);
    g_test_add_func("/view-quota/no-limit", test_no_limit);
    g_test_add_func("/view-quota/shared", test_shared);
    g_test_add_func("/view-quota/breaks-guest-write", test_breaks_guest_write);
    g_test_add_func("/view-quota/failed-write", test_failed_write);
    g_test_add_func("/view-quota/pieces", test_pieces);
    g_test_add_func("/view-quota/trim", test_trim);
    return g_test_run();
}
