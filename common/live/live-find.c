/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/live/live-find.h"

#include "common/qcow2/q2-file.h"

#include <errno.h>

/* Behind the end of a layer. */
static void find_end(struct live_layer *l, uint64_t length, struct live_found *found)
{
    found->run = (struct live_run){.kind = l->backing ? Q2_ZERO : Q2_UNALLOCATED, .length = length};
    found->layer = l->backing ? l : NULL;
}

int live_find(struct live_layer *layer, uint64_t offset, uint64_t length, struct live_found *found)
{
    for (struct live_layer *l = layer; l; l = l->backing) {
        uint64_t size = atomic_load_explicit(&l->size, memory_order_relaxed);
        int error;

        if (offset >= size) {
            find_end(l, length, found);
            return 0;
        }
        if (length > size - offset)
            length = size - offset;
        error = live_slices_run_wait(l, offset, length, &found->run);
        if (error < 0)
            return error;
        length = found->run.length;
        if (found->run.kind != Q2_UNALLOCATED) {
            found->layer = l;
            return 0;
        }
    }
    found->layer = NULL;
    found->run = (struct live_run){.kind = Q2_UNALLOCATED, .length = length};
    return 0;
}

int live_find_invalid(struct live_layer *layer, uint64_t offset, const char *why)
{
    if (layer->writable)
        return live_damaged(layer->image, "%s: cannot read at %llu of the disk: %s",
                            layer->file.path, (unsigned long long)offset, why);
    if (live_first_told(layer, LIVE_TOLD_INVALID))
        live_tell(layer->image, "%s: cannot read at %llu of the disk: %s", layer->file.path,
                  (unsigned long long)offset, why);
    return -EIO;
}

uint64_t live_find_hole(const struct live_file *f, uint64_t host, uint64_t end, bool *hole)
{
    struct q2_file file = {.fd = f->fd};

    *hole = false;
    /* Operations that stand in for the file's may have other bytes than the file. */
    return f->ops == &live_file_usual ? q2_file_run(&file, host, end, hole) : end;
}
