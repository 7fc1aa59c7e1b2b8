/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/open-watchdog.h"

#include "common/util/log.h"

#include <errno.h>
#include <time.h>

static void *watch(void *opaque)
{
    struct open_watchdog *w = opaque;
    struct timespec until;
    int r;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += w->seconds;
    do
        r = sem_clockwait(&w->ended, CLOCK_MONOTONIC, &until);
    while (r < 0 && errno == EINTR);
    if (r < 0)
        log_info("warning: disk %s: %s: not open after %u s: it is slow, or waits for what does "
                 "not answer (a server cannot be its own disk)",
                 w->disk, w->driver, w->seconds);
    return NULL;
}

void open_watchdog_begin(struct open_watchdog *w, const char *disk, const char *driver,
                         unsigned seconds)
{
    *w = (struct open_watchdog){.disk = disk, .driver = driver, .seconds = seconds};
    sem_init(&w->ended, 0, 0);
    w->watched = pthread_create(&w->thread, NULL, watch, w) == 0;
}

void open_watchdog_end(struct open_watchdog *w)
{
    sem_post(&w->ended);
    if (w->watched)
        pthread_join(w->thread, NULL);
    sem_destroy(&w->ended);
}
