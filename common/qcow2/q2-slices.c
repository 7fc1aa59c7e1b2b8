/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-slices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SLOTS_MAX 256

struct q2_slice {
    uint64_t number; /* of the slice in the file, and 1; 0: nothing is here */
    uint8_t *bytes;
};

int q2_slices_init(struct q2_slices *s, const struct q2_file *file, size_t bytes, size_t memory,
                   struct q2_error *err)
{
    memset(s, 0, sizeof(*s));
    s->file = file;
    s->bytes = bytes;
    s->slots = 1;
    while (s->slots < SLOTS_MAX && s->slots * 2 * bytes <= memory)
        s->slots *= 2;
    s->slice = calloc(s->slots, sizeof(*s->slice));
    return s->slice ? 0 : q2_fail_errno(err, ENOMEM, "Cannot read '%s'", file->path);
}

void q2_slices_clear(struct q2_slices *s)
{
    for (unsigned i = 0; s->slice && i < s->slots; i++)
        free(s->slice[i].bytes);
    free(s->slice);
    s->slice = NULL;
}

static int load(struct q2_slices *s, struct q2_slice *slice, uint64_t number, struct q2_error *err)
{
    if (!slice->bytes && !(slice->bytes = malloc(s->bytes)))
        return q2_fail_errno(err, ENOMEM, "Cannot read '%s'", s->file->path);
    slice->number = 0;
    s->loads++;
    if (q2_file_pread(s->file, slice->bytes, s->bytes, number * s->bytes, err) < 0)
        return -1;
    slice->number = number + 1;
    return 0;
}

const uint8_t *q2_slices_get(struct q2_slices *s, uint64_t offset, struct q2_error *err)
{
    uint64_t number = offset / s->bytes;
    struct q2_slice *slice = &s->slice[number & (s->slots - 1)];

    if (slice->number != number + 1 && load(s, slice, number, err) < 0)
        return NULL;
    return slice->bytes + offset % s->bytes;
}
