/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Who is let in, and who is told that there is room: the rules alone, without sockets and threads.
 */
#include "server/nbd/admission.h"
#include "tests/rigs/fake-registry.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct door {
    struct server *registry;
    struct export *export;
    struct nbd_clients set;
    struct admission admission;
    struct port port;
};

static void door_begin(struct door *d, unsigned max_connections)
{
    struct node_info info = {.size = 1 << 20};

    *d = (struct door){.registry = fake_new()};
    d->export = fake_add(d->registry, "", &info);
    clients_init(&d->set, d->registry);
    d->admission = (struct admission){.set = &d->set,
                                      .scope = EXPORTS_LIVE,
                                      .max_connections = max_connections,
                                      .room = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
    d->port = (struct port){.admission = &d->admission, .fd = -1};
    g_assert_cmpint(d->admission.room, >=, 0);
}

static void door_end(struct door *d)
{
    close(d->admission.room);
    clients_destroy(&d->set);
    fake_free(d->registry);
}

static void come(struct door *d, struct nbd_client *c)
{
    *c = (struct nbd_client){.set = &d->set, .port = &d->port, .since = g_get_monotonic_time()};
    g_assert_true(admission_admit(&d->port));
    pthread_mutex_lock(&d->set.lock);
    clients_add(&d->set, c);
    pthread_mutex_unlock(&d->set.lock);
}

static void go(struct door *d, struct nbd_client *c)
{
    admission_leave_place(c);
    pthread_mutex_lock(&d->set.lock);
    clients_withdraw(&d->set, c);
    pthread_mutex_unlock(&d->set.lock);
    admission_unadmit(&d->port);
}

/* Has the accepting thread been told to look again? */
static bool is_told(struct door *d)
{
    struct pollfd p = {.fd = d->admission.room, .events = POLLIN};
    uint64_t n;

    if (poll(&p, 1, 0) != 1)
        return false;
    g_assert_cmpint(read(d->admission.room, &n, sizeof n), ==, sizeof n);
    return true;
}

/* A client that enters an export leaves the handshake: one more may begin, and is not to wait until
 * the accepting thread looks by itself. */
static void test_entering_makes_room(void)
{
    struct nbd_client first, second, third;
    struct door d;

    door_begin(&d, 2);
    come(&d, &first);
    come(&d, &second);
    g_assert_false(admission_admit(&d.port));
    g_assert_cmpint(d.port.paused_until, >, g_get_monotonic_time());
    g_assert_false(is_told(&d));
    g_assert_true(admission_take_place(&first, d.export, 0));
    g_assert_true(is_told(&d));
    come(&d, &third);
    go(&d, &third);
    go(&d, &second);
    (void)is_told(&d);
    go(&d, &first);
    g_assert_true(is_told(&d)); /* its place is free */
    door_end(&d);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/admission/entering-makes-room", test_entering_makes_room);
    return g_test_run();
}
