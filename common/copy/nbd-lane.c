/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Design. The lane's thread alone calls libnbd for its connection. Others hand it requests through
 * `incoming`, and wake it by a descriptor. When a connection is lost it makes another one and goes
 * on; what ends the lane for good (`failure`) ends all requests, now and later.
 *
 * A server that has gone may have lost what was written and not flushed. Therefore a connection on
 * which writes were answered after the last flush is not made anew: the lane fails.
 *
 * Time. `lost` is when the server was first found gone after its last answer. So a server that lets
 * clients in and answers nothing has no more time to come back than one that is not there.
 *
 * Locks. `lock` is a leaf.
 */
#include "common/copy/nbd-lane.h"
#include "common/base/deadline.h"
#include "common/copy/nbd-exchange.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* Pauses before a server is connected to again, microseconds: they grow from the first to the
 * last. */
#define PAUSE_MIN (50 * INT64_C(1000))
#define PAUSE_MAX (2000 * INT64_C(1000))

struct nbd_lane {
    struct nbd_lane_options options;
    pthread_t thread;
    int wake;  /* eventfd: look at what the lock guards */
    int ended; /* eventfd, readable once the lane is cancelled or stopping */

    /* the thread's */
    struct nbd_handle *nbd; /* NULL: the connection is lost */
    struct nbd_exchange *exchange;
    int64_t lost;     /* deadline.h; when it was lost; 0: the server has answered since */
    int64_t next_try; /* deadline.h; to connect */
    int64_t pause;    /* before the try after that, microseconds */
    GError *lost_by;  /* how it was lost, or what the last try has met */
    GError *failure;  /* nothing works any more */

    pthread_mutex_t lock; /* guards what follows, and `left` and `error` of batches */
    pthread_cond_t done;
    struct nbd_requests incoming;
    bool woken; /* `wake` is readable */
    bool cancelled, stopping;
    bool unflushed;
    int socket; /* of the connection; -1: none */
};

static void request_done(struct nbd_request *r, GError *error)
{
    struct nbd_batch *b = r->owner;
    struct nbd_lane *l = b->lane;

    pthread_mutex_lock(&l->lock);
    l->unflushed = nbd_exchange_is_unflushed(l->exchange);
    if (error && !b->error)
        b->error = g_steal_pointer(&error);
    if (--b->left == 0)
        pthread_cond_broadcast(&l->done);
    pthread_mutex_unlock(&l->lock);
    g_clear_error(&error);
}

/* ---- losing and making connections ---- */

/* Keep the connection's socket for nbd_lane_cancel: a duplicate, since libnbd closes its own when it
 * likes. */
static void keep_socket(struct nbd_lane *l, struct nbd_handle *nbd)
{
    int fd = fcntl(nbd_aio_get_fd(nbd), F_DUPFD_CLOEXEC, 0);

    pthread_mutex_lock(&l->lock);
    l->socket = fd;
    pthread_mutex_unlock(&l->lock);
}

static void release_socket(struct nbd_lane *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->socket >= 0)
        close(l->socket);
    l->socket = -1;
    pthread_mutex_unlock(&l->lock);
}

/* The first reason counts. `error` is taken over. */
static void fail_lane(struct nbd_lane *l, GError *error)
{
    if (!l->failure)
        l->failure = error;
    else
        g_error_free(error);
}

static void set_lost_by(struct nbd_lane *l, GError *why)
{
    g_clear_error(&l->lost_by);
    l->lost_by = why;
}

static void close_connection(struct nbd_lane *l)
{
    release_socket(l);
    nbd_link_close(g_steal_pointer(&l->nbd));
    nbd_exchange_end(l->exchange);
}

/* The connection is of no use any more. `why` is taken over. */
static void lose(struct nbd_lane *l, GError *why)
{
    GError *error = NULL;

    close_connection(l);
    set_lost_by(l, why);
    if (nbd_exchange_is_unflushed(l->exchange)) {
        source_nbd_fail(&error, SOURCE_NBD_ERROR_UNREACHABLE,
                        "the server has gone, and may have lost what was written: %s",
                        why->message);
        fail_lane(l, error);
    }
    if (l->lost == 0) {
        l->lost = l->next_try = deadline_in(0);
        l->pause = PAUSE_MIN;
    }
}

static int check_is_same(const struct nbd_lane_options *o, const struct nbd_link_facts *is,
                         GError **err)
{
    const struct nbd_link_facts *was = &o->facts;

    if (is->size != was->size)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_CHANGED,
                               "the server has come back with another size: %" PRIu64
                               " bytes, not %" PRIu64,
                               is->size, was->size);
    if (is->align > was->align || is->max < was->max)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_CHANGED,
                               "the server has come back with other block sizes");
    /* It may be a live disk, which must not be trimmed: source-nbd.c. */
    if (o->trim && is->can_zero)
        return source_nbd_fail(err, SOURCE_NBD_ERROR_CHANGED,
                               "the server has come back as a disk that can be written");
    return 0;
}

/* Try to connect. */
static int try_connect(struct nbd_lane *l, int64_t until, GError **err)
{
    struct nbd_link_wait wait = {.stop = {l->ended, -1}, .until = until};
    struct nbd_link_facts facts;

    l->options.link.allocation = nbd_exchange_wants_allocation(l->exchange);
    l->nbd = nbd_link_open(&l->options.link, &wait, err);
    if (!l->nbd) {
        /* A server that is just starting may lack the export, but not the export's bitmap. */
        if (g_error_matches(*err, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_NO_CONTEXT))
            (*err)->code = SOURCE_NBD_ERROR_CHANGED;
        return -1;
    }
    if (nbd_link_facts(l->nbd, &facts, err) < 0 || check_is_same(&l->options, &facts, err) < 0) {
        nbd_link_close(g_steal_pointer(&l->nbd));
        return -1;
    }
    keep_socket(l, l->nbd);
    nbd_exchange_begin(l->exchange, l->nbd);
    return 0;
}

static GError *not_back(const struct nbd_lane *l)
{
    GError *error = NULL;

    if (l->options.retry == 0)
        source_nbd_fail(&error, SOURCE_NBD_ERROR_UNREACHABLE, "the server has gone: %s",
                        l->lost_by->message);
    else
        source_nbd_fail(&error, SOURCE_NBD_ERROR_UNREACHABLE,
                        "the server has gone, and was not back in %u seconds: %s", l->options.retry,
                        l->lost_by->message);
    return error;
}

/* Wait until it is time to connect, and try. It may return early. */
static void connect_again(struct nbd_lane *l)
{
    int64_t end = l->lost + l->options.retry * INT64_C(1000000);
    int64_t now = deadline_in(0);
    GError *error = NULL;

    if (now >= end) {
        fail_lane(l, not_back(l));
        return;
    }
    if (now < l->next_try) {
        nbd_link_pause(
            &(struct nbd_link_wait){.stop = {l->wake, -1}, .until = MIN(l->next_try, end)});
        return;
    }
    l->next_try = now + l->pause;
    l->pause = MIN(l->pause * 2, PAUSE_MAX);
    if (try_connect(l, MIN(end, now + NBD_LINK_TIME), &error) == 0)
        return;
    if (g_error_matches(error, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_CHANGED))
        fail_lane(l, error);
    else
        set_lost_by(l, error);
}

/* The server cannot tell extents where base:allocation has been negotiated: make a connection
 * without it. */
static void renegotiate(struct nbd_lane *l)
{
    GError *error = NULL;

    close_connection(l);
    if (try_connect(l, deadline_in(NBD_LINK_TIME), &error) == 0)
        return;
    fail_lane(l, error);
}

/* ---- the thread ---- */

static void ring(int fd)
{
    uint64_t one = 1;

    /* It fails only where it is readable already. */
    while (write(fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

/* Let the thread look at what the lock guards, with the lock. */
static void wake(struct nbd_lane *l)
{
    if (!l->woken)
        ring(l->wake);
    l->woken = true;
}

/* With the lock. */
static void be_awake(struct nbd_lane *l)
{
    uint64_t count;

    while (l->woken && read(l->wake, &count, sizeof count) < 0 && errno == EINTR)
        ;
    l->woken = false;
}

/* Take over what others have left. False: the lane is to end. */
static bool look_around(struct nbd_lane *l)
{
    struct nbd_requests come;
    struct nbd_request *r;
    bool cancelled, stopping;

    nbd_requests_init(&come);
    pthread_mutex_lock(&l->lock);
    be_awake(l);
    nbd_requests_move(&come, &l->incoming);
    cancelled = l->cancelled;
    stopping = l->stopping;
    pthread_mutex_unlock(&l->lock);
    while ((r = nbd_requests_take(&come)))
        nbd_exchange_add(l->exchange, r);
    if (cancelled && !l->failure)
        source_nbd_fail(&l->failure, SOURCE_NBD_ERROR_CANCELLED, "cancelled");
    return !stopping;
}

/* Nothing works any more. */
static void fail_all(struct nbd_lane *l)
{
    struct nbd_request *r;

    if (l->nbd)
        close_connection(l);
    while ((r = nbd_exchange_take(l->exchange)))
        request_done(r, g_error_copy(l->failure));
}

static void go_on(struct nbd_lane *l)
{
    struct nbd_link_wait wait = {.stop = {l->wake, -1}};
    GError *error = NULL;
    int result = nbd_exchange_step(l->exchange, &wait, &error);

    if (nbd_exchange_was_answered(l->exchange))
        l->lost = 0;
    /* Each answer comes through here, and the domain of an error is looked up by its name. */
    if (result < 0 && g_error_matches(error, SOURCE_NBD_ERROR, SOURCE_NBD_ERROR_FAILED))
        fail_lane(l, error);
    else if (result < 0)
        lose(l, error);
    else if (result > 0)
        renegotiate(l);
}

static void *run(void *opaque)
{
    struct nbd_lane *l = opaque;

    while (look_around(l)) {
        if (l->failure)
            fail_all(l);
        if (nbd_exchange_is_idle(l->exchange))
            nbd_link_pause(&(struct nbd_link_wait){.stop = {l->wake, -1}});
        else if (l->nbd)
            go_on(l);
        else
            connect_again(l);
    }
    nbd_link_close(l->nbd);
    return NULL;
}

/* ---- what others call ---- */

static void free_lane(struct nbd_lane *l)
{
    release_socket(l);
    if (l->wake >= 0)
        close(l->wake);
    if (l->ended >= 0)
        close(l->ended);
    g_clear_error(&l->lost_by);
    g_clear_error(&l->failure);
    nbd_exchange_free(l->exchange);
    pthread_mutex_destroy(&l->lock);
    pthread_cond_destroy(&l->done);
    g_free(l);
}

struct nbd_lane *nbd_lane_new(const struct nbd_lane_options *o, struct nbd_handle *nbd,
                              GError **err)
{
    struct nbd_lane *l = g_new0(struct nbd_lane, 1);
    int error;

    l->options = *o;
    l->nbd = nbd;
    l->exchange = nbd_exchange_new(o->link.context, o->link.allocation, request_done);
    nbd_exchange_begin(l->exchange, nbd);
    nbd_requests_init(&l->incoming);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->done, NULL);
    keep_socket(l, nbd);
    l->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    l->ended = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake < 0 || l->ended < 0)
        error = errno;
    else
        error = pthread_create(&l->thread, NULL, run, l);
    if (error == 0)
        return l;
    source_nbd_fail(err, SOURCE_NBD_ERROR_FAILED, "cannot start a thread for a connection: %s",
                    g_strerror(error));
    nbd_link_close(nbd);
    free_lane(l);
    return NULL;
}

void nbd_lane_free(struct nbd_lane *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    l->stopping = true;
    wake(l);
    pthread_mutex_unlock(&l->lock);
    ring(l->ended);
    pthread_join(l->thread, NULL);
    free_lane(l);
}

void nbd_lane_start(struct nbd_lane *l, struct nbd_batch *b)
{
    b->lane = l;
    b->left = b->n;
    b->error = NULL;
    pthread_mutex_lock(&l->lock);
    for (size_t i = 0; i < b->n; i++) {
        b->requests[i].owner = b;
        nbd_requests_add(&l->incoming, &b->requests[i]);
    }
    wake(l);
    pthread_mutex_unlock(&l->lock);
}

int nbd_lane_wait(struct nbd_lane *l, struct nbd_batch *b, GError **err)
{
    pthread_mutex_lock(&l->lock);
    while (b->left > 0)
        pthread_cond_wait(&l->done, &l->lock);
    pthread_mutex_unlock(&l->lock);
    if (!b->error)
        return 0;
    g_propagate_error(err, g_steal_pointer(&b->error));
    return -1;
}

void nbd_lane_cancel(struct nbd_lane *l)
{
    pthread_mutex_lock(&l->lock);
    l->cancelled = true;
    if (l->socket >= 0)
        shutdown(l->socket, SHUT_RDWR);
    wake(l);
    pthread_mutex_unlock(&l->lock);
    ring(l->ended);
}

bool nbd_lane_is_unflushed(struct nbd_lane *l)
{
    bool unflushed;

    pthread_mutex_lock(&l->lock);
    unflushed = l->unflushed;
    pthread_mutex_unlock(&l->lock);
    return unflushed;
}
