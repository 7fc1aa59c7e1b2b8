/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * cache=none: what was read or written does not stay in the page cache, where it would push out
 * what others need.
 *
 * What was read is dropped at once. What was written can be dropped when it is on the medium, and
 * to wait for that with each write would make every write a slow one. So a write starts its own
 * writing out, and waits for that of EVICT_WINDOWS writes ago, which is through by then, or nearly:
 * so much at most stays behind, and memory does not fill up with dirty pages either.
 *
 * To wait for pages takes note of their errors, in the kernel's books, and a later fdatasync does
 * not tell of them again. So an error found here is one of a flush (image_note_sync_error).
 */
#include "plugins/lib/image.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* Whole pages: a part of one is not dropped. */
static void drop(struct image *im, uint64_t offset, uint64_t length)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = offset / page * page, to = (offset + length + page - 1) / page * page;

    posix_fadvise(im->fd, (off_t)from, (off_t)(to - from), POSIX_FADV_DONTNEED);
}

static void write_out(struct image *im, const struct evict_window *w, unsigned flags)
{
    int r;

    do {
        r = sync_file_range(im->fd, (off_t)w->offset, (off_t)w->length, flags);
    } while (r < 0 && errno == EINTR);
    if (r < 0 && errno != EINVAL && errno != ESPIPE && errno != ENOSYS)
        image_note_sync_error(im);
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

void evict_read(struct image *im, uint32_t count, uint64_t offset)
{
    drop(im, offset, count);
}

void evict_written(struct image *im, uint32_t count, uint64_t offset, bool on_medium)
{
    struct evict *e = &im->evict;
    struct evict_window now = {.offset = offset, .length = count}, before;

    if (on_medium) {
        drop(im, offset, count);
        return;
    }
    write_out(im, &now, SYNC_FILE_RANGE_WRITE);
    pthread_mutex_lock(&e->lock);
    before = e->windows[e->next];
    e->windows[e->next] = now;
    e->next = (e->next + 1) % EVICT_WINDOWS;
    pthread_mutex_unlock(&e->lock);
    if (before.length == 0)
        return;
    write_out(im, &before,
              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
    drop(im, before.offset, before.length);
}

void evict_flushed(struct image *im)
{
    struct evict_window windows[EVICT_WINDOWS];
    struct evict *e = &im->evict;

    pthread_mutex_lock(&e->lock);
    memcpy(windows, e->windows, sizeof windows);
    memset(e->windows, 0, sizeof e->windows);
    pthread_mutex_unlock(&e->lock);
    for (int i = 0; i < EVICT_WINDOWS; i++) {
        if (windows[i].length)
            drop(im, windows[i].offset, windows[i].length);
    }
}
