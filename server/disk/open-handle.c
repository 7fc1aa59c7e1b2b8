/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A client's own handle is opened by a thread of its own, because a plugin's open may take as long
 * as it likes, or never come back.
 *
 * The caller waits for the handle as long as its patience lasts. After that the opening is *late*:
 * it belongs to the disk, and its thread closes the handle if the handle comes after all. While one
 * opening is late no other is begun. So a plugin that hangs holds as many threads as clients came
 * before the first opening was late, and no more, however many clients come and go.
 *
 * A thread is joined before its plugin is unloaded, because a plugin may have something to do at a
 * thread's end. The end of a disk leaves late openings some time to come. A disk whose plugin holds
 * one even then is not ended, and the plugin is not unloaded: the process is about to end anyway.
 */
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/disk/disk-private.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct opening {
    struct disk *disk;
    struct patience *patience; /* its lock guards every bool but `ended` */
    struct client_copy *client;
    pthread_t thread;
    bool done, late;
    bool unwanted, at_once; /* the plugin wants the client to go */

    /* the thread's until it is done */
    struct backend_handle *handle; /* NULL: it failed */
    GError *err;

    bool ended; /* under disk->opens.lock: late, and the thread has nothing more to do */
};

/* ---- the client, as its handle sees it ---- */

static struct client_copy *client_copy_new(const struct backend_client *client)
{
    struct client_copy *c = g_new0(struct client_copy, 1);

    c->client = (struct backend_client){
        .export_name = g_strdup(client->export_name),
        .tls = client->tls,
        .tls_dn = g_strdup(client->tls_dn),
        .tls_issuer_dn = g_strdup(client->tls_issuer_dn),
        .socket = client->socket < 0 ? -1 : fcntl(client->socket, F_DUPFD_CLOEXEC, 3),
    };
    c->duplicate = c->client.socket;
    return c;
}

static void close_duplicate(struct client_copy *c)
{
    if (c->duplicate >= 0)
        close(c->duplicate);
    c->duplicate = -1;
}

/* The plugin has opened the handle. From now on the client that asked for it lives as long as the
 * handle, and so does the client's own socket. */
static void client_copy_settle(struct client_copy *c, const struct backend_client *client)
{
    c->client.socket = client->socket;
    c->client.disconnect = client->disconnect;
    c->client.opaque = client->opaque;
    close_duplicate(c);
}

void client_copy_free(struct client_copy *c)
{
    if (!c)
        return;
    close_duplicate(c);
    g_free((char *)c->client.export_name);
    g_free((char *)c->client.tls_dn);
    g_free((char *)c->client.tls_issuer_dn);
    g_free(c);
}

/* ---- the thread ---- */

/* The plugin says, inside open, that the client is to go. A late opening has no client any more. */
static void note_unwanted(const struct backend_client *client, bool at_once)
{
    struct opening *o = client->opaque;

    patience_lock(o->patience);
    o->unwanted = true;
    o->at_once |= at_once;
    patience_unlock(o->patience);
}

static void opening_free(struct opening *o)
{
    patience_unref(o->patience);
    client_copy_free(o->client);
    g_clear_error(&o->err);
    g_free(o);
}

/* A late opening has come to its end. Nobody waits for it any more. */
static void end_late(struct opening *o)
{
    struct disk *d = o->disk;

    if (o->handle)
        d->backend->ops->close(o->handle);
    close_duplicate(o->client); /* now, because it may be long until the thread is joined */
    log_info("disk %s: a client's handle, given up before, %s", d->node.name,
             o->handle ? "has come and was closed" : o->err->message);
    pthread_mutex_lock(&d->opens.lock);
    o->ended = true;
    pthread_cond_broadcast(&d->opens.changed);
    pthread_mutex_unlock(&d->opens.lock);
}

static void *opening_main(void *opaque)
{
    struct opening *o = opaque;
    struct disk *d = o->disk;
    struct patience *patience = patience_ref(o->patience);

    if (d->backend->ops->open(d->backend, d->readonly, &o->client->client, &o->handle, &o->err) < 0)
        o->handle = NULL;
    patience_lock(patience);
    bool late = o->late;
    o->done = true;
    patience_unlock(patience);
    if (late)
        end_late(o);
    else
        patience_wake(patience);
    patience_unref(patience);
    return NULL;
}

/* ---- those that are late ---- */

void opens_init(struct opens *opens)
{
    pthread_condattr_t attr;

    pthread_mutex_init(&opens->lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&opens->changed, &attr);
    pthread_condattr_destroy(&attr);
    opens->late = g_ptr_array_new();
}

/* Take the openings whose threads have ended off the list. Locked. */
static GPtrArray *take_ended(struct opens *opens)
{
    GPtrArray *ended = g_ptr_array_new();

    for (unsigned i = opens->late->len; i-- > 0;) {
        struct opening *o = opens->late->pdata[i];

        if (o->ended)
            g_ptr_array_add(ended, g_ptr_array_remove_index_fast(opens->late, i));
    }
    return ended;
}

/* Join the threads that have ended. Returns how many openings are left. Locked, but not during the
 * joins: a plugin may have something to do at a thread's end. */
static unsigned reap(struct opens *opens)
{
    g_autoptr(GPtrArray) ended = take_ended(opens);

    if (ended->len > 0) {
        pthread_mutex_unlock(&opens->lock);
        for (unsigned i = 0; i < ended->len; i++) {
            struct opening *o = ended->pdata[i];

            pthread_join(o->thread, NULL);
            opening_free(o);
        }
        pthread_mutex_lock(&opens->lock);
    }
    return opens->late->len;
}

bool opens_end(struct opens *opens)
{
    struct timespec until;
    unsigned left;
    int error = 0;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += OPENS_END_SECONDS;
    pthread_mutex_lock(&opens->lock);
    while ((left = reap(opens)) > 0 && error == 0)
        error = pthread_cond_timedwait(&opens->changed, &opens->lock, &until);
    pthread_mutex_unlock(&opens->lock);
    return left == 0;
}

void opens_destroy(struct opens *opens)
{
    g_ptr_array_unref(opens->late);
    pthread_cond_destroy(&opens->changed);
    pthread_mutex_destroy(&opens->lock);
}

/* ---- opening ---- */

/* Wait for an opening. True: it is done, and belongs to the caller. False: it is late, and belongs
 * to the disk. */
static bool wait_for(struct opening *o, int64_t until)
{
    struct opens *opens = &o->disk->opens;

    patience_lock(o->patience);
    while (!o->done && patience_wait(o->patience, until))
        ;
    bool done = o->done;
    patience_unlock(o->patience);
    if (done)
        return true;

    pthread_mutex_lock(&opens->lock); /* it is on the list before it can end */
    patience_lock(o->patience);
    done = o->done;
    o->late = !done;
    patience_unlock(o->patience);
    if (!done) {
        patience_abandon(o->patience);
        g_ptr_array_add(opens->late, o);
    }
    pthread_mutex_unlock(&opens->lock);
    return done;
}

static bool is_hung(struct disk *d)
{
    pthread_mutex_lock(&d->opens.lock);
    bool hung = reap(&d->opens) > 0;
    pthread_mutex_unlock(&d->opens.lock);
    return hung;
}

int open_handle(struct disk *d, const struct backend_client *client, struct patience *patience,
                int64_t until, struct backend_handle **handle, struct client_copy **copy,
                GError **err)
{
    if (is_hung(d))
        return fail(err, "disk %s: %s: an open has not come back", d->node.name,
                    d->backend->driver);

    struct opening *o = g_new0(struct opening, 1);
    o->disk = d;
    o->patience = patience_ref(patience);
    o->client = client_copy_new(client);
    o->client->client.disconnect = note_unwanted;
    o->client->client.opaque = o;
    int error = pthread_create(&o->thread, NULL, opening_main, o);
    if (error != 0) {
        opening_free(o);
        return fail_errno(err, error, "disk %s: cannot start a thread to open it", d->node.name);
    }
    if (!wait_for(o, until))
        return fail(err, "disk %s: %s: open does not come back in time", d->node.name,
                    d->backend->driver);
    pthread_join(o->thread, NULL);
    if (o->unwanted && client->disconnect)
        client->disconnect(client, o->at_once);
    *handle = o->handle;
    if (o->handle) {
        client_copy_settle(o->client, client);
        *copy = g_steal_pointer(&o->client);
    } else {
        g_propagate_error(err, g_steal_pointer(&o->err));
    }
    opening_free(o);
    return *handle ? 0 : -1;
}
