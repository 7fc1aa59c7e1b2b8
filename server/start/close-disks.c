/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/close-disks.h"

#include "common/util/log.h"
#include "server/start/closer.h"
#include "server/start/quit.h"

#include <pthread.h>

/* How long a disk may hold up the others. It is more than disk_free waits for handles that a plugin
 * is late with. */
#define PATIENCE_MS 3000

/* All disks are flushed before the state folder is told of the first one: a folder that hangs does
 * not prevent the flush of any disk. */
enum progress { UNSETTLED, SETTLED, LEFT };

struct closing {
    struct server *server;
    struct disk *disk;
    char *name; /* of the disk, which may have been freed when the name is needed */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum progress progress;
};

static void closing_init(struct closing *c, struct server *s, struct disk *d)
{
    *c = (struct closing){.server = s, .disk = d, .name = g_strdup(disk_name(d))};
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->changed, NULL);
}

static void closing_clear(struct closing *c)
{
    pthread_cond_destroy(&c->changed);
    pthread_mutex_destroy(&c->lock);
    g_free(c->name);
}

static enum progress progress_of(struct closing *c)
{
    enum progress progress;

    pthread_mutex_lock(&c->lock);
    progress = c->progress;
    pthread_mutex_unlock(&c->lock);
    return progress;
}

static bool settle_one(void *opaque)
{
    struct closing *c = opaque;
    bool settled = server_settle_disk(c->server, c->disk);

    pthread_mutex_lock(&c->lock);
    c->progress = settled ? SETTLED : LEFT;
    pthread_cond_broadcast(&c->changed);
    pthread_mutex_unlock(&c->lock);
    return settled;
}

static bool close_one(void *opaque)
{
    struct closing *c = opaque;

    pthread_mutex_lock(&c->lock);
    while (c->progress == UNSETTLED)
        pthread_cond_wait(&c->changed, &c->lock);
    pthread_mutex_unlock(&c->lock);
    return progress_of(c) == SETTLED && server_end_disk(c->server, c->disk);
}

/* Of each disk, the first job that has not ended is told. */
static void is_left(void *opaque, const struct closer_job *job, int64_t since_ms)
{
    struct closing *c = job->opaque;

    if (job->run == close_one && progress_of(c) == UNSETTLED)
        return;
    if (since_ms < 0)
        log_error("disk %s: there was no time left to close it", job->what);
    else
        log_error("disk %s: its plugin%s has not flushed and closed it for %.1f s", job->what,
                  job->run == close_one && server_options(c->server)->store
                      ? ", or the state folder,"
                      : "",
                  (double)since_ms / 1000);
}

static void give_up(void *opaque)
{
    log_error("the server did not end in order: a plugin, or the state folder, hangs");
    quit_now();
}

bool close_disks(struct server *s, unsigned limit_ms)
{
    g_autoptr(GPtrArray) disks = server_take_disks(s);
    unsigned n = disks->len;
    g_autofree struct closing *closings = g_new(struct closing, MAX(n, 1));
    g_autofree struct closer_job *jobs = g_new(struct closer_job, MAX(2 * n, 1));
    const struct closer_options options = {
        .patience_ms = MIN(PATIENCE_MS, limit_ms / 2),
        .limit_ms = limit_ms,
        .is_left = is_left,
        .give_up = give_up,
    };

    for (unsigned i = 0; i < n; i++) {
        struct closing *c = &closings[i];

        closing_init(c, s, disks->pdata[n - 1 - i]);
        jobs[i] = (struct closer_job){.what = c->name, .run = settle_one, .opaque = c};
        jobs[n + i] = (struct closer_job){.what = c->name, .run = close_one, .opaque = c};
    }
    bool closed = closer_run(jobs, 2 * n, &options);
    for (unsigned i = 0; i < n; i++)
        closing_clear(&closings[i]);
    return closed;
}
