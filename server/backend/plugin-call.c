/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/backend/plugin-private.h"

#include "common/util/error.h"
#include "common/util/log-limit.h"

#include <errno.h>

/* nbdkit's functions have no argument that tells who calls, so each thread keeps it. */
static _Thread_local struct plugin_call *current;

struct plugin_call *plugin_call_current(void)
{
    return current;
}

/*
 * The lock that a call takes. Clients may share a handle here, and a disk's own handle stays open;
 * so "one connection at a time" (model 0) cannot be done as nbdkit does it, by letting connections
 * wait for each other. Here it means one handle, and one call at a time, whoever makes it.
 */
static pthread_mutex_t *lock_for(struct plugin *p, struct plugin_handle *h)
{
    switch (p->thread_model) {
    case NBDKIT_PARALLEL:
        return NULL;
    case NBDKIT_SERIALIZE_REQUESTS:
        return h ? &h->lock : NULL;
    default:
        return &p->lock;
    }
}

void plugin_enter(struct plugin_call *c, struct plugin *p, struct plugin_handle *h, bool collect)
{
    *c = (struct plugin_call){
        .plugin = p,
        .handle = h,
        .locked = lock_for(p, h),
        .said = collect ? g_string_new(NULL) : NULL,
    };
    if (c->locked)
        pthread_mutex_lock(c->locked);
    current = c;
    errno = 0; /* an earlier call's must not be taken for this one's */
}

static void leave(struct plugin_call *c)
{
    current = NULL;
    if (c->locked)
        pthread_mutex_unlock(c->locked);
}

/* nbdkit's rule: nbdkit_set_error, else errno if the plugin says that it is kept, else EIO. */
static int error_of(const struct plugin_call *c, int saved_errno)
{
    int error = c->error;

    if (!error && c->plugin->api.errno_is_preserved)
        error = saved_errno;
    /* EAGAIN means "would block, nothing done" to our callers; from a plugin it is a failure. */
    if (error <= 0 || error > 4095 || error == EAGAIN)
        error = EIO;
    return error;
}

int plugin_leave(struct plugin_call *c, const char *callback, int returned)
{
    int saved_errno = errno;

    leave(c);
    if (returned == 0)
        return 0;
    if (returned == -1)
        return -error_of(c, saved_errno);
    log_error_limited(
        &c->plugin->faults,
        "disk %s: %s: %s returned %d, which is neither 0 nor -1: taken as an I/O error",
        c->plugin->disk, c->plugin->api.name, callback, returned);
    return -EIO;
}

int plugin_leave_setup(struct plugin_call *c, const char *callback, bool ok, GError **err)
{
    int saved_errno = errno, error = c->error;
    g_autoptr(GString) said = g_steal_pointer(&c->said);

    leave(c);
    if (!error && c->plugin->api.errno_is_preserved)
        error = saved_errno;
    if (ok) {
        if (said->len)
            log_error_limited(&c->plugin->said, "disk %s: %s: %s", c->plugin->disk,
                              c->plugin->api.name, said->str);
        return 0;
    }
    if (said->len)
        return fail(err, "disk %s: %s: %s", c->plugin->disk, c->plugin->api.name, said->str);
    if (error > 0)
        return fail_errno(err, error, "disk %s: %s: %s", c->plugin->disk, c->plugin->api.name,
                          callback);
    return fail(err, "disk %s: %s: %s failed and did not say why", c->plugin->disk,
                c->plugin->api.name, callback);
}
