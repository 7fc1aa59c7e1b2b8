/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first piece of a long structured read does not block, the second one does. The connection's
 * thread lays out the chunks of the first piece, and the last chunk comes from elsewhere. It must
 * not overtake them: after a chunk with the flag DONE nothing of the reply may come.
 *
 * If the last chunk comes from a worker, the test would be a race. A job for which no worker can be
 * started takes the same way out without a race. So pthread_create fails here for a while.
 */
#include "tests/rigs/nbd-rig.h"

#include "server/nbd/execute.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>

static atomic_bool no_threads;

/* In place of the C library's. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *),
                   void *argument)
{
    static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

    if (atomic_load(&no_threads))
        return EAGAIN;
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return real(thread, attr, start, argument);
}

static void test_read_order(void)
{
    const uint32_t rest = 4096;
    struct rig r;

    rig_begin(&r, NULL);
    fake_bytes(r.disk)[0] = 1;
    fake_bytes(r.disk)[READ_PIECE] = 2;
    fake_hold(r.registry, READ_PIECE);
    struct client c = rig_go(&r, true);
    atomic_store(&no_threads, true);
    client_request(&c, 0, NBD_CMD_READ, 7, 0, READ_PIECE + rest);
    fake_wait_held(r.registry, 1);
    fake_release(r.registry, READ_PIECE);

    struct answer first = client_answer(&c, 0), second = client_answer(&c, 0);
    g_assert_cmpuint(first.cookie, ==, 7);
    g_assert_cmpuint(first.offset, ==, 0);
    g_assert_cmpuint(first.length, ==, READ_PIECE);
    g_assert_cmpuint(first.flags & NBD_REPLY_FLAG_DONE, ==, 0);
    g_assert_cmpuint(first.payload[0], ==, 1);
    g_assert_cmpuint(second.cookie, ==, 7);
    g_assert_cmpuint(second.offset, ==, READ_PIECE);
    g_assert_cmpuint(second.length, ==, rest);
    g_assert_cmpuint(second.flags & NBD_REPLY_FLAG_DONE, !=, 0);
    g_assert_cmpuint(second.payload[0], ==, 2);
    g_free(first.payload);
    g_free(second.payload);

    client_close(&c);
    rig_wait_gone(&r, 1);
    atomic_store(&no_threads, false);
    rig_end(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/found/read-order", test_read_order);
    return g_test_run();
}
