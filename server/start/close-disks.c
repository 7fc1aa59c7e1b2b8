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
 * not prevent the flush of any disk. Those that are settled are closed first: a plugin that hangs
 * holds the others up once, when it flushes, and not once more when they are closed. */
enum progress { UNSETTLED, SETTLED, LEFT };

struct closing {
    struct closings *all;
    struct disk *disk;
    char *name; /* of the disk, which may have been freed when the name is needed */
    enum progress progress;
    bool taken; /* by a job that closes */
};

struct closings {
    struct server *server;
    pthread_mutex_t lock; /* of what changes */
    pthread_cond_t changed;
    unsigned n;
    struct closing *each;
};

/* A job that closes one disk. */
struct close {
    struct closings *all;
    struct closing *disk; /* NULL: none yet */
};

static bool settle_one(void *opaque)
{
    struct closing *c = opaque;
    struct closings *all = c->all;
    bool settled = server_settle_disk(all->server, c->disk);

    pthread_mutex_lock(&all->lock);
    c->progress = settled ? SETTLED : LEFT;
    pthread_cond_broadcast(&all->changed);
    pthread_mutex_unlock(&all->lock);
    return settled;
}

/* Locked. NULL: no disk is settled that nobody closes. */
static struct closing *next_settled(const struct closings *all)
{
    for (unsigned i = 0; i < all->n; i++)
        if (all->each[i].progress != UNSETTLED && !all->each[i].taken)
            return &all->each[i];
    return NULL;
}

static bool close_one(void *opaque)
{
    struct close *job = opaque;
    struct closings *all = job->all;
    struct closing *c;

    pthread_mutex_lock(&all->lock);
    while (!(c = next_settled(all)))
        pthread_cond_wait(&all->changed, &all->lock);
    c->taken = true;
    job->disk = c;
    pthread_mutex_unlock(&all->lock);
    return c->progress == SETTLED && server_end_disk(all->server, c->disk);
}

/* Nobody had time to close these. */
static void tell_untaken(struct closings *all)
{
    struct closing *c;

    while ((c = next_settled(all))) {
        c->taken = true;
        log_error("disk %s: there was no time left to close it", c->name);
    }
}

static void tell_late(const struct closings *all, const struct closing *c, bool closes,
                      int64_t since_ms)
{
    bool folder = closes && server_options(all->server)->store;

    if (since_ms < 0)
        log_error("disk %s: there was no time left to close it", c->name);
    else
        log_error("disk %s: its plugin%s has not flushed and closed it for %.1f s", c->name,
                  folder ? ", or the state folder," : "", (double)since_ms / 1000);
}

/* Of each disk, the first job that has not ended is told. */
static void is_left(void *opaque, const struct closer_job *job, int64_t since_ms)
{
    struct closings *all = opaque;
    const struct closing *c = job->opaque;
    bool closes = job->run == close_one;

    pthread_mutex_lock(&all->lock);
    if (closes)
        c = ((const struct close *)job->opaque)->disk;
    if (c)
        tell_late(all, c, closes, since_ms);
    else if (since_ms < 0)
        tell_untaken(all);
    pthread_mutex_unlock(&all->lock);
}

static void give_up(void *opaque)
{
    log_error("the server did not end in order: a plugin, or the state folder, hangs");
    quit_now();
}

static bool run_jobs(struct closings *all, unsigned limit_ms)
{
    unsigned n = all->n;
    g_autofree struct close *closes = g_new(struct close, MAX(n, 1));
    g_autofree struct closer_job *jobs = g_new(struct closer_job, MAX(2 * n, 1));
    const struct closer_options options = {
        .patience_ms = MIN(PATIENCE_MS, limit_ms / 2),
        .limit_ms = limit_ms,
        .is_left = is_left,
        .give_up = give_up,
        .opaque = all,
    };

    for (unsigned i = 0; i < n; i++) {
        const char *name = all->each[i].name;

        closes[i] = (struct close){.all = all};
        jobs[i] = (struct closer_job){.what = name, .run = settle_one, .opaque = &all->each[i]};
        jobs[n + i] = (struct closer_job){.what = name, .run = close_one, .opaque = &closes[i]};
    }
    return closer_run(jobs, 2 * n, &options);
}

bool close_disks(struct server *s, unsigned limit_ms)
{
    g_autoptr(GPtrArray) disks = server_take_disks(s);
    g_autofree struct closing *each = g_new(struct closing, MAX(disks->len, 1));
    struct closings all = {.server = s,
                           .lock = PTHREAD_MUTEX_INITIALIZER,
                           .changed = PTHREAD_COND_INITIALIZER,
                           .n = disks->len,
                           .each = each};

    for (unsigned i = 0; i < all.n; i++) {
        struct disk *d = disks->pdata[all.n - 1 - i];

        each[i] = (struct closing){.all = &all, .disk = d, .name = g_strdup(disk_name(d))};
    }
    bool closed = run_jobs(&all, limit_ms);
    for (unsigned i = 0; i < all.n; i++)
        g_free(each[i].name);
    pthread_cond_destroy(&all.changed);
    pthread_mutex_destroy(&all.lock);
    return closed;
}
