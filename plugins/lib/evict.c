/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache=none: what was read or written does not stay in the page cache, where it would push out
 * what others need.
 *
 * What was read is dropped at once. What was written can be dropped when it is on the medium; if
 * each write waited for that, every write would be slow. So a write starts to write itself out, and
 * waits for the write of EVICT_WINDOWS writes ago, which is out by then, or nearly. No more than
 * that stays in the cache, and memory does not fill up with dirty pages.
 *
 * Whoever waits for pages is told of their errors, and the kernel does not tell them again at a
 * later fdatasync. So an error that is found here counts as one of a flush.
 */
#include "plugins/lib/evict.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* All pages that have a part of the range; the kernel does not drop parts of a page. */
static void drop(int fd, uint64_t offset, uint64_t length)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = offset / page * page, to = (offset + length + page - 1) / page * page;

    posix_fadvise(fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

/* 0, or -1 and errno: the medium has failed. */
static int write_out(int fd, const struct evict_window *w, unsigned flags)
{
    int r;

    do {
        r = sync_file_range(fd, (off_t)w->offset, (off_t)w->length, flags);
    } while (r < 0 && errno == EINTR);
    return r < 0 && errno != EINVAL && errno != ESPIPE && errno != ENOSYS ? -1 : 0;
}

void evict_init(struct evict *e)
{
    memset(e, 0, sizeof *e);
    pthread_mutex_init(&e->lock, NULL);
}

void evict_free(struct evict *e)
{
    pthread_mutex_destroy(&e->lock);
}

void evict_read(int fd, uint32_t count, uint64_t offset)
{
    drop(fd, offset, count);
}

/* Note what has been written last. Returns the window that has to go for it. */
static struct evict_window note(struct evict *e, struct evict_window now)
{
    pthread_mutex_lock(&e->lock);
    struct evict_window before = e->windows[e->next];
    e->windows[e->next] = now;
    e->next = (e->next + 1) % EVICT_WINDOWS;
    pthread_mutex_unlock(&e->lock);
    return before;
}

int evict_written(struct evict *e, int fd, uint32_t count, uint64_t offset, bool on_medium)
{
    struct evict_window now = {.offset = offset, .length = count};

    if (on_medium) {
        drop(fd, offset, count);
        return 0;
    }
    int r = write_out(fd, &now, SYNC_FILE_RANGE_WRITE), error = errno;
    struct evict_window before = note(e, now);
    if (before.length > 0) {
        const unsigned all =
            SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER;
        if (write_out(fd, &before, all) < 0 && r == 0) {
            r = -1;
            error = errno;
        }
        drop(fd, before.offset, before.length);
    }
    errno = error;
    return r;
}

void evict_flushed(struct evict *e, int fd)
{
    struct evict_window windows[EVICT_WINDOWS];

    pthread_mutex_lock(&e->lock);
    memcpy(windows, e->windows, sizeof windows);
    memset(e->windows, 0, sizeof e->windows);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < EVICT_WINDOWS; i++) {
        if (windows[i].length)
            drop(fd, windows[i].offset, windows[i].length);
    }
}
