/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whoever waits for a start that takes long is to see which disk it waits for.
 */
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
    bool watched; /* `thread` is there */
};

/* Around the opening of a disk: a line in the log, if it is not open so many seconds later. `disk`
 * and `driver` stay the caller's, until open_watchdog_end. Where there is no thread to be had, nobody
 * watches. One thread calls both. */
void open_watchdog_begin(struct open_watchdog *w, const char *disk, const char *driver,
                         unsigned seconds);
void open_watchdog_end(struct open_watchdog *w);

#endif
