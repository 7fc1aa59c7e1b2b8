/* SPDX-License-Identifier: BSD-3-Clause */
/* If a start takes long, the log says which disk it waits for. */
#ifndef START_OPEN_WATCHDOG_H
#define START_OPEN_WATCHDOG_H

#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>

struct open_watchdog {
    const char *disk, *driver;
    unsigned seconds;
    sem_t ended;
    pthread_t thread;
    bool watched; /* there is `thread` */
};

/* Watch the opening of a disk: if it has not ended after `seconds`, a line in the log says so.
 * `disk` and `driver` stay the caller's, and valid until open_watchdog_end. If no thread can be
 * had, nobody watches. One thread calls both. */
void open_watchdog_begin(struct open_watchdog *w, const char *disk, const char *driver,
                         unsigned seconds);
void open_watchdog_end(struct open_watchdog *w);

#endif
