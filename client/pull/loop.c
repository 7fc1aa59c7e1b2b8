/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The first error decides: copies that are under way are then cancelled, no other is started, and the
 * loop waits until all have ended. A signal is such an error.
 */
#include "client/pull/loop.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#define TICK G_USEC_PER_SEC

struct running {
    struct loop_job job;
    unsigned row; /* of progress */
};

struct loop {
    const struct loop_ops *ops;
    void *opaque;
    unsigned at_once;
    struct progress *progress;
    GArray *running;  /* struct running */
    bool drained;     /* there is no other copy to be started */
    GError *error;    /* the first one; then the rest is cancelled */
    gint64 next_tick; /* monotonic time */
    int signals;
};

/* Begin the end: takes over the error, where it is the first. */
static void stop(struct loop *l, GError *error)
{
    if (l->error) {
        g_error_free(error);
        return;
    }
    l->error = error;
    for (guint i = 0; i < l->running->len; i++)
        copy_cancel(g_array_index(l->running, struct running, i).job.copy);
}

/* ---- copies ---- */

static void start_next(struct loop *l)
{
    while (!l->drained && !l->error && l->running->len < l->at_once) {
        struct running r = {0};
        GError *error = NULL;
        int n = l->ops->next(l->opaque, &r.job, &error);

        if (n < 0)
            stop(l, error);
        if (n <= 0) {
            l->drained = true;
            return;
        }
        if (l->progress)
            r.row = progress_add(l->progress, r.job.name,
                                 r.job.expected > 0 ? r.job.expected : r.job.size);
        g_array_append_val(l->running, r);
    }
}

static void show(struct loop *l, const struct running *r, const struct copy_progress *p)
{
    uint64_t done = p->position, total = r->job.size;

    if (!l->progress)
        return;
    if (r->job.expected > 0) {
        done = p->read + p->zero;
        total = MAX(r->job.expected, done);
    }
    progress_update(l->progress, r->row, done, total, p->read);
}

static void end_copy(struct loop *l, guint index)
{
    struct running r = g_array_index(l->running, struct running, index);
    struct copy_progress p = {0};
    g_autoptr(GError) why = NULL;
    GError *error = NULL;

    g_array_remove_index(l->running, index);
    copy_end(r.job.copy, &p, &why);
    show(l, &r, &p);
    if (l->progress)
        progress_close(l->progress, r.row, !why ? "done" : l->error ? "cancelled" : "failed");
    if (l->ops->ended) {
        if (l->ops->ended(l->opaque, &r.job, &p, why, &error) < 0)
            stop(l, error);
    } else if (why) {
        stop(l, g_steal_pointer(&why));
    }
}

static void show_all(struct loop *l)
{
    for (guint i = 0; i < l->running->len; i++) {
        const struct running *r = &g_array_index(l->running, struct running, i);
        struct copy_progress p;

        copy_get_progress(r->job.copy, &p);
        show(l, r, &p);
    }
}

/* ---- waiting ---- */

static void take_signal(struct loop *l)
{
    int number = interrupt_take();
    GError *error = NULL;

    if (number == 0)
        return;
    client_fail(&error, CLIENT_ERROR_INTERRUPTED, "interrupted by SIG%s", sigabbrev_np(number));
    stop(l, error);
}

static void tick(struct loop *l)
{
    GError *error = NULL;

    l->next_tick = g_get_monotonic_time() + TICK;
    if (l->ops->tick && l->ops->tick(l->opaque, &error) < 0)
        stop(l, error);
}

static int time_to_wait(const struct loop *l)
{
    gint64 left = (l->next_tick - g_get_monotonic_time() + 999) / 1000;
    int wait = (int)CLAMP(left, 0, 1000);

    return l->progress ? MIN(wait, progress_draw(l->progress)) : wait;
}

/* Descriptors: signals, the caller's, then one for each copy. */
static GArray *make_poll(const struct loop *l)
{
    GArray *fds = g_array_new(FALSE, TRUE, sizeof(struct pollfd));
    struct pollfd fd = {.fd = l->signals, .events = POLLIN};

    g_array_append_val(fds, fd);
    fd.fd = l->ops->tick ? l->ops->fd : -1;
    g_array_append_val(fds, fd);
    for (guint i = 0; i < l->running->len; i++) {
        fd.fd = copy_fd(g_array_index(l->running, struct running, i).job.copy);
        g_array_append_val(fds, fd);
    }
    return fds;
}

/* One turn: wait for what comes next, and do it. */
static void turn(struct loop *l)
{
    g_autoptr(GArray) fds = make_poll(l);
    const struct pollfd *p = (const struct pollfd *)(void *)fds->data;
    int wait;

    show_all(l);
    wait = time_to_wait(l);
    if (poll((struct pollfd *)(void *)fds->data, fds->len, wait) < 0) {
        if (errno != EINTR)
            stop(l, g_error_new(CLIENT_ERROR, CLIENT_ERROR_FAILED, "poll: %s", g_strerror(errno)));
        return;
    }
    take_signal(l); /* also one that a tick has seen */
    if (p[1].revents != 0 || g_get_monotonic_time() >= l->next_tick)
        tick(l);
    for (guint i = fds->len; i > 2; i--) { /* from behind: those that end leave the array */
        if (p[i - 1].revents != 0)
            end_copy(l, i - 3);
    }
}

int loop_run(const struct loop_ops *ops, void *opaque, unsigned at_once, struct progress *p,
             GError **err)
{
    struct loop l = {.ops = ops,
                     .opaque = opaque,
                     .at_once = MAX(at_once, 1),
                     .progress = p,
                     .next_tick = g_get_monotonic_time() + TICK};

    l.signals = interrupt_fd(err);
    if (l.signals < 0)
        return -1;
    l.running = g_array_new(FALSE, FALSE, sizeof(struct running));
    take_signal(&l);
    for (start_next(&l); l.running->len > 0; start_next(&l))
        turn(&l);
    take_signal(&l);
    g_array_free(l.running, TRUE);
    if (p)
        progress_draw(p);
    if (!l.error)
        return 0;
    g_propagate_error(err, l.error);
    return -1;
}
