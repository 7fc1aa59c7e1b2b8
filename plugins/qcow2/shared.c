/* SPDX-License-Identifier: BSD-3-Clause */
#include "plugins/qcow2/shared.h"

#include "common/base/nbdkit-abi.h"
#include "plugins/qcow2/chain-identity.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The thread of a live image writes tables back, and gives up space, at most so long after a change. */
#define LATE_NS INT64_C(2000000000)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct shared *all; /* that are open */
static bool may_start;     /* shared_start was called */

/* ---- identity ---- */

static int look(const struct shared *s, struct nbdfleece_identity *identity)
{
    if (chain_identity(s->image, s->settings->snapshot, identity) < 0) {
        nbdkit_error("%s: stat: %m", s->settings->path);
        return -1;
    }
    identity->late = LATE_NS;
    return 0;
}

int shared_identity(struct shared *s, struct nbdfleece_identity *identity)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    if (!s->told) {
        *identity = s->opened;
    } else {
        int error = live_settle(s->image);
        if (error < 0) {
            nbdkit_error("%s: settle: %s", s->settings->path, strerrordesc_np(-error));
            r = -1;
        } else {
            r = look(s, identity);
        }
    }
    s->told = true;
    pthread_mutex_unlock(&lock);
    return r;
}

/* ---- opening ---- */

/* Is it the file that does not permit writing? Then it is served read-only, as a raw one is. A want of descriptors
 * or memory may soon be over, and must not make a disk read-only. */
static bool forbids_writing(int error)
{
    return error == EACCES || error == EPERM || error == EROFS || error == ETXTBSY;
}

static void tell(void *settings, const char *sentence)
{
    nbdkit_error("%s: %s", ((const struct settings *)settings)->path, sentence);
}

static struct live_image *open_image(const struct settings *set, bool readonly)
{
    struct live_options options = set->live;
    struct q2_error err = {.number = 0};
    struct live_image *image;

    options.tell = tell;
    options.opaque = (void *)set;
    options.writable = options.open.writable = !readonly && !set->snapshot;
    image = live_open(set->path, &options, &err);
    if (!image && options.writable && forbids_writing(err.number)) {
        struct q2_error why = err;

        options.writable = options.open.writable = false;
        image = live_open(set->path, &options, &err);
        if (image)
            nbdkit_error("%s: it is served read-only", why.text);
    }
    if (!image)
        nbdkit_error("%s", err.text);
    return image;
}

static int start(struct shared *s)
{
    struct q2_error err;

    if (s->started || !may_start || !live_writable(s->image))
        return 0;
    if (live_start(s->image, &err) < 0) {
        nbdkit_error("%s", err.text);
        return -1;
    }
    s->started = true;
    return 0;
}

static void end(struct shared *s)
{
    struct q2_error err;

    if (live_close(s->image, &err) < 0)
        nbdkit_error("%s", err.text);
    free(s);
}

static struct shared *new_shared(const struct settings *set, bool readonly)
{
    struct shared *s = calloc(1, sizeof *s);

    if (!s) {
        nbdkit_error("open: %m");
        return NULL;
    }
    s->settings = set;
    s->readonly = readonly;
    s->image = open_image(set, readonly);
    if (!s->image) {
        free(s);
        return NULL;
    }
    if (look(s, &s->opened) < 0 || start(s) < 0) {
        end(s);
        return NULL;
    }
    s->next = all;
    all = s;
    return s;
}

/* The writable one, where there is one. */
static struct shared *find(bool readonly)
{
    struct shared *found = NULL;

    for (struct shared *s = all; s; s = s->next) {
        if ((readonly || !s->readonly) && (!found || !s->readonly))
            found = s;
    }
    return found;
}

struct shared *shared_open(const struct settings *set, bool readonly)
{
    pthread_mutex_lock(&lock);
    struct shared *s = find(readonly);
    if (!s)
        s = new_shared(set, readonly);
    if (s)
        s->users++;
    pthread_mutex_unlock(&lock);
    return s;
}

void shared_close(struct shared *s)
{
    pthread_mutex_lock(&lock);
    if (--s->users == 0) {
        struct shared **link = &all;
        while (*link != s)
            link = &(*link)->next;
        *link = s->next;
        end(s);
    }
    pthread_mutex_unlock(&lock);
}

void shared_settle(void)
{
    pthread_mutex_lock(&lock);
    for (struct shared *s = all; s; s = s->next) {
        int r = live_settle(s->image);
        if (r < 0)
            nbdkit_error("%s: settle: %s", s->settings->path, strerrordesc_np(-r));
    }
    pthread_mutex_unlock(&lock);
}

int shared_start(void)
{
    int r = 0;

    pthread_mutex_lock(&lock);
    may_start = true;
    for (struct shared *s = all; s && r == 0; s = s->next)
        r = start(s);
    pthread_mutex_unlock(&lock);
    return r;
}
