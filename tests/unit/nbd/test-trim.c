/* SPDX-License-Identifier: BSD-3-Clause */
/* TRIM of a view, which takes long if the view is large, and the end of its client meanwhile. */
#include "server/nbd/execute.h"
#include "tests/rigs/nbd-rig.h"

#include <errno.h>

#define SIZE (4 * TRIM_PIECE)

static struct export *add_view(struct rig *r)
{
    static const struct node_info view = {.size = SIZE, .readonly = true, .can_trim = true};

    return fake_add(r->registry, "view", &view);
}

static void trim(struct client *c, uint64_t cookie, uint64_t offset, uint64_t length)
{
    g_assert_cmpuint(length, <=, UINT32_MAX);
    client_request(c, 0, NBD_CMD_TRIM, cookie, offset, (uint32_t)length);
}

/* A request is cut only at multiples of a piece, so with compact headers it is cut at most once. */
static void test_in_pieces(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    add_view(&r);
    struct client c = rig_connect(&r);
    client_go(&c, "view", true, NULL, 0);
    fake_never_promise(r.registry, true);
    trim(&c, 1, 4096, 1 << 20);
    client_expect_success(&c, 1, 0);
    g_assert_cmpuint(fake_counts(r.registry).blocking, ==, 1);
    trim(&c, 2, TRIM_PIECE - 4096, 1 << 20);
    client_expect_success(&c, 2, 0);
    g_assert_cmpuint(fake_counts(r.registry).blocking, ==, 3);
    /* A piece that fails ends the request. */
    fake_fail(r.registry, TRIM_PIECE - 4096, EIO);
    trim(&c, 3, TRIM_PIECE - 4096, 1 << 20);
    client_expect_error(&c, 3, NBD_EIO);
    g_assert_cmpuint(fake_counts(r.registry).blocking, ==, 4);
    client_close(&c);
    rig_end(&r);
}

/* The client is cut off in the middle of the first piece: the second piece is not trimmed. */
static void test_cut(void)
{
    struct rig r;

    rig_begin(&r, NULL);
    struct export *e = add_view(&r);
    struct client c = rig_connect(&r);
    client_go(&c, "view", true, NULL, 0);
    fake_hold(r.registry, TRIM_PIECE - 4096);
    trim(&c, 1, TRIM_PIECE - 4096, 1 << 20);
    fake_wait_held(r.registry, 1);
    fake_remove(r.registry, e, true);
    fake_release(r.registry, TRIM_PIECE - 4096);
    client_expect_end(&c);
    rig_wait_gone(&r, 1);
    g_assert_cmpuint(fake_counts(r.registry).blocking, ==, 1);
    client_close(&c);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/nbd/trim/in-pieces", test_in_pieces);
    g_test_add_func("/nbd/trim/cut", test_cut);
    return g_test_run();
}
