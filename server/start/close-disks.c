/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/close-disks.h"

#include "common/util/log.h"
#include "server/start/closer.h"
#include "server/start/quit.h"

/* How long a disk may hold up the others. It is more than disk_free waits for handles that a plugin
 * is late with. */
#define PATIENCE_MS 3000

struct closing {
    struct server *server;
    struct disk *disk;
    char *name; /* of the disk, which may have been freed when the name is needed */
};

static bool close_one(void *opaque)
{
    struct closing *closing = opaque;

    return server_end_disk(closing->server, closing->disk);
}

static void is_left(void *opaque, const struct closer_job *job, int64_t since_ms)
{
    if (since_ms < 0)
        log_error("disk %s: there was no time left to close it", job->what);
    else
        log_error("disk %s: its plugin has not flushed and closed it for %.1f s", job->what,
                  (double)since_ms / 1000);
}

static void give_up(void *opaque)
{
    log_error("the server did not end in order: a plugin hangs");
    quit_now();
}

bool close_disks(struct server *s, unsigned limit_ms)
{
    g_autoptr(GPtrArray) disks = server_take_disks(s);
    unsigned n = disks->len;
    g_autofree struct closing *closings = g_new(struct closing, MAX(n, 1));
    g_autofree struct closer_job *jobs = g_new(struct closer_job, MAX(n, 1));
    const struct closer_options options = {
        .patience_ms = MIN(PATIENCE_MS, limit_ms / 2),
        .limit_ms = limit_ms,
        .is_left = is_left,
        .give_up = give_up,
    };

    for (unsigned i = 0; i < n; i++) {
        struct disk *d = disks->pdata[n - 1 - i];

        closings[i] = (struct closing){.server = s, .disk = d, .name = g_strdup(disk_name(d))};
        jobs[i] =
            (struct closer_job){.what = closings[i].name, .run = close_one, .opaque = &closings[i]};
    }
    bool closed = closer_run(jobs, n, &options);
    for (unsigned i = 0; i < n; i++)
        g_free(closings[i].name);
    return closed;
}
