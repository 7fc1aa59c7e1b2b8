/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-reader.h"

#include "common/qcow2/q2-image-private.h"

#include <errno.h>
#include <stdlib.h>

/* Bytes of a reader's pieces of tables, over all files; each file has one in any case. */
#define MAPS_MEMORY (4U << 20)

static unsigned chain_length(const struct q2_image *image)
{
    unsigned n = 0;

    for (; image; image = image->backing)
        n++;
    return n;
}

static int init(struct q2_reader *r, struct q2_image *image, struct q2_error *err)
{
    unsigned files = chain_length(image);

    r->codec = q2_codec_new(err);
    if (!r->codec)
        return -1;
    r->maps = calloc(files, sizeof(*r->maps));
    if (!r->maps)
        return q2_fail_errno(err, ENOMEM, "Cannot read '%s'", image->file.path);
    for (; image; image = image->backing)
        if (q2_map_init(&r->maps[r->files++], image, MAPS_MEMORY / files, err) < 0)
            return -1;
    return 0;
}

struct q2_reader *q2_reader_new(struct q2_image *image, struct q2_error *err)
{
    struct q2_reader *r = calloc(1, sizeof(*r));

    if (!r)
        q2_fail_errno(err, ENOMEM, "Cannot read '%s'", image->file.path);
    else if (init(r, image, err) == 0)
        return r;
    q2_reader_free(r);
    return NULL;
}

void q2_reader_free(struct q2_reader *r)
{
    if (!r)
        return;
    for (unsigned i = 0; i < r->files; i++)
        q2_map_clear(&r->maps[i]);
    free(r->maps);
    q2_codec_free(r->codec);
    free(r->window);
    free(r->cluster);
    free(r);
}
