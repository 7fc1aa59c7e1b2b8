/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache=none: what an image's transfers leave in the page cache is dropped from there. Each
 * function is told of what has been done already, through `fd`. Any thread.
 */
#ifndef PLUGINS_LIB_EVICT_H
#define PLUGINS_LIB_EVICT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* A write waits for the one that came this many writes before it. */
#define EVICT_WINDOWS 8

/* What has been written and not yet been dropped. */
struct evict {
    pthread_mutex_t lock; /* a leaf */
    struct evict_window {
        uint64_t offset;
        uint32_t length; /* 0: none */
    } windows[EVICT_WINDOWS];
    unsigned next; /* the oldest */
};

void evict_init(struct evict *e);
void evict_free(struct evict *e);
/* The range has been read. */
void evict_read(int fd, uint32_t count, uint64_t offset);
/* The range has been written, and is `on_medium` already. 0, or -1 and errno: it has turned out
 * that something could not be written out, and no fdatasync will tell that again. */
int evict_written(struct evict *e, int fd, uint32_t count, uint64_t offset, bool on_medium);
/* Everything has been flushed: drop what has been written. */
void evict_flushed(struct evict *e, int fd);

#endif
