/* SPDX-License-Identifier: BSD-3-Clause */
/* A session has the id of an old one, which another end is just about to drop from the list. */
#include "server/backup/session-private.h"
#include "server/disk/disk-private.h"
#include "tests/rigs/session-rig.h"

#include <pthread.h>

/* Until an end is let go, it stands before its commit: it has chosen what to drop, and nothing of it is
 * in the state folder. */
struct hold {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool reached, released; /* under `lock` */
};

static int stand_before_commit(void *opaque, enum disk_point point, uint64_t offset)
{
    struct hold *h = opaque;

    if (point != POINT_FLIPPED)
        return 0;
    pthread_mutex_lock(&h->lock);
    h->reached = true;
    g_main_context_wakeup(NULL);
    while (!h->released)
        pthread_cond_wait(&h->changed, &h->lock);
    pthread_mutex_unlock(&h->lock);
    return 0;
}

static bool is_reached(struct hold *h)
{
    bool reached;

    pthread_mutex_lock(&h->lock);
    reached = h->reached;
    pthread_mutex_unlock(&h->lock);
    return reached;
}

static void let_go(struct hold *h)
{
    pthread_mutex_lock(&h->lock);
    h->released = true;
    pthread_cond_signal(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

/* As many as are listed, and one more, which is active. */
static void fill_list(struct house *h)
{
    for (unsigned k = 0; k < SESSIONS_MOST_ENDED; k++) {
        g_autofree char *id = g_strdup_printf("s%u", k);

        begin_one(h, id, h->vdb);
        expect(end(h, id, true, NULL), NULL);
    }
    begin_one(h, "last", h->vdb);
}

/* The oldest one's id is about to begin anew when the end chooses, and begins before it commits: the
 * record is the new one's then. */
static void test_begins_meanwhile(void)
{
    struct hold hold = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    const struct disk_hooks hooks = {.at = stand_before_commit, .opaque = &hold};
    struct instant *i = instant_new();
    struct answer a = {.done = false};
    GError *error = NULL;
    struct house h;

    house_begin(&h);
    fill_list(&h);
    stage_one(&h, i, "s0", h.vda, &error);
    g_assert_no_error(error);
    h.vdb->hooks = &hooks;
    session_end(session_find(h.sessions, "last", NULL), true, NULL, answered, &a);
    while (!is_reached(&hold))
        g_main_context_iteration(NULL, TRUE);
    instant_commit(i, &error);
    g_assert_no_error(error);
    let_go(&hold);
    expect(wait_for_answer(&a), NULL);
    h.vdb->hooks = NULL;
    restart(&h);
    g_assert_cmpstr(state_of(&h, "s0"), ==, "active");
    g_assert_cmpstr(state_of(&h, "last"), ==, "committed");
    house_end(&h);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/session-id/begins-meanwhile", test_begins_meanwhile);
    return g_test_run();
}
