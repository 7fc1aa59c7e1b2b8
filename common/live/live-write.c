/* SPDX-License-Identifier: BSD-3-Clause */
/* Writing. What has a place of its own is written there, and nothing else is done. */
#include "common/live/live-change.h"
#include "common/live/live-commit.h"

#include <errno.h>

/* Is the image written at all? */
static int check_writable(struct live_image *image)
{
    return image->top->writable ? atomic_load(&image->broken) : -EROFS;
}

/* Write what lies in the clusters' own places. *done: how much; less than `length`: something
 * else comes next. */
static int write_own(struct live_image *image, const char *from, uint64_t length, uint64_t offset,
                     uint64_t *done)
{
    struct live_layer *top = image->top;
    struct live_run run;
    int error = 0;

    for (*done = 0; *done < length && error == 0; *done += run.length) {
        error = live_slices_run_wait(top, offset + *done, length - *done, &run);
        if (error < 0 || run.kind != Q2_DATA || !run.own)
            break;
        error = live_file_pwrite(live_layer_data(top), from + *done, (size_t)run.length, run.host);
    }
    return error;
}

static int write_changing(struct live_image *image, const char *from, uint64_t length,
                          uint64_t offset)
{
    struct live_change c;
    uint64_t n;
    int error = 0;

    live_change_begin(&c, image, offset, length);
    for (; length > 0 && error == 0; from += n, offset += n, length -= n) {
        error = live_change_write(&c, from, offset, length, &n);
        if (error < 0)
            break;
    }
    return live_change_end(&c, error);
}

int live_pwrite(struct live_image *image, const void *buffer, size_t length, uint64_t offset,
                unsigned flags)
{
    const char *from = buffer;
    uint64_t done;
    int error = check_writable(image);

    if (error == 0)
        error = write_own(image, from, length, offset, &done);
    if (error == 0 && done < length)
        error = write_changing(image, from + done, length - done, offset + done);
    /* An entry that leads to the bytes may not be durable yet, though another write has made it. */
    return error == 0 && (flags & LIVE_FUA) ? live_commit(image) : error;
}

int live_flush(struct live_image *image)
{
    return image->top->writable ? live_commit(image) : 0;
}
