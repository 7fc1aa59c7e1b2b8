/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-counts.h"

#include <errno.h>
#include <stdlib.h>

#define CHUNK UINT64_C(16384) /* clusters */

static uint64_t chunks(const struct q2_counts *c)
{
    return c->clusters / CHUNK + 1;
}

int q2_counts_init(struct q2_counts *c, uint64_t clusters, struct q2_error *err)
{
    c->clusters = clusters;
    c->chunks = calloc(chunks(c), sizeof(*c->chunks));
    return c->chunks ? 0 : q2_fail_errno(err, ENOMEM, "Cannot check an image");
}

void q2_counts_clear(struct q2_counts *c)
{
    for (uint64_t i = 0; c->chunks && i < chunks(c); i++)
        free(c->chunks[i]);
    free(c->chunks);
    c->chunks = NULL;
}

/* The place of a cluster's number; NULL and *err. */
static uint32_t *place(struct q2_counts *c, uint64_t cluster, struct q2_error *err)
{
    uint32_t **chunk = &c->chunks[cluster / CHUNK];

    if (!*chunk && !(*chunk = calloc(CHUNK, sizeof(**chunk)))) {
        q2_fail_errno(err, ENOMEM, "Cannot check an image");
        return NULL;
    }
    return *chunk + cluster % CHUNK;
}

int q2_counts_add(struct q2_counts *c, uint64_t cluster, struct q2_error *err)
{
    uint32_t *count = place(c, cluster, err);

    if (!count)
        return -1;
    if (*count < UINT32_MAX)
        ++*count;
    return 0;
}

int q2_counts_set(struct q2_counts *c, uint64_t cluster, uint32_t number, struct q2_error *err)
{
    uint32_t *count = place(c, cluster, err);

    if (!count)
        return -1;
    *count = number;
    return 0;
}

uint32_t q2_counts_get(const struct q2_counts *c, uint64_t cluster)
{
    const uint32_t *chunk = cluster < c->clusters ? c->chunks[cluster / CHUNK] : NULL;

    return chunk ? chunk[cluster % CHUNK] : 0;
}

uint64_t q2_counts_skip(const struct q2_counts *c, uint64_t cluster)
{
    while (cluster < c->clusters && !c->chunks[cluster / CHUNK])
        cluster = (cluster / CHUNK + 1) * CHUNK;
    return cluster < c->clusters ? cluster : c->clusters;
}
