/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-stream-private.h"

#include <errno.h>
#include <stdlib.h>

/* Readers inflate with a window of 4 KiB. */
#define ZLIB_WINDOW_BITS (-12) /* negative: without a header of zlib's */

static int open_zlib(struct q2_lane *l, int level, struct q2_error *err)
{
    if (level < 0 || level > 9)
        return q2_fail(err, "zlib has no level %d, but 1 to 9", level);
    if (deflateInit2(&l->zlib, level ? level : Z_DEFAULT_COMPRESSION, Z_DEFLATED, ZLIB_WINDOW_BITS,
                     9, Z_DEFAULT_STRATEGY) != Z_OK)
        return q2_fail_errno(err, ENOMEM, "zlib cannot begin");
    l->zlib_made = true;
    return 0;
}

static int open_zstd(struct q2_lane *l, int level, struct q2_error *err)
{
    if (level < 0 || level > ZSTD_maxCLevel())
        return q2_fail(err, "zstd has no level %d, but 1 to %d", level, ZSTD_maxCLevel());
    l->zstd = ZSTD_createCCtx();
    if (!l->zstd ||
        ZSTD_isError(ZSTD_CCtx_setParameter(l->zstd, ZSTD_c_compressionLevel, level ? level : 1)))
        return q2_fail_errno(err, ENOMEM, "zstd cannot begin");
    return 0;
}

int q2_lane_open(struct q2_lane *l, const struct q2_stream_options *o, struct q2_error *err)
{
    l->last = calloc(1, CLUSTER);
    if (o->compress)
        l->packed = malloc(LANE_PACKED * CLUSTER);
    if (!l->last || (o->compress && !l->packed))
        return q2_fail_errno(err, ENOMEM, "no memory for clusters");
    if (!o->compress)
        return 0;
    return o->compression == Q2_ZSTD ? open_zstd(l, o->level, err) : open_zlib(l, o->level, err);
}

void q2_lane_close(struct q2_lane *l)
{
    if (l->zlib_made)
        deflateEnd(&l->zlib);
    ZSTD_freeCCtx(l->zstd);
    free(l->packed);
    free(l->last);
}

/* *length: of the result; 0: it is longer than `room`. */
static int use_zlib(z_stream *z, const struct q2_cluster *c, uint8_t *to, size_t room,
                    size_t *length, struct q2_error *err)
{
    int result;

    deflateReset(z);
    z->next_in = (uint8_t *)c->data;
    z->avail_in = c->length;
    z->next_out = to;
    z->avail_out = (unsigned)room;
    result = deflate(z, Z_FINISH);
    if (result != Z_STREAM_END && result != Z_OK && result != Z_BUF_ERROR)
        return q2_fail(err, "zlib cannot compress the cluster at %llu of the disk (%d)",
                       (unsigned long long)c->offset, result);
    *length = result == Z_STREAM_END ? room - z->avail_out : 0;
    return 0;
}

static int use_zstd(ZSTD_CCtx *z, const struct q2_cluster *c, uint8_t *to, size_t room,
                    size_t *length, struct q2_error *err)
{
    size_t result = ZSTD_compress2(z, to, room, c->data, c->length);

    *length = ZSTD_isError(result) ? 0 : result;
    if (ZSTD_isError(result) && ZSTD_getErrorCode(result) != ZSTD_error_dstSize_tooSmall)
        return q2_fail(err, "zstd cannot compress the cluster at %llu of the disk: %s",
                       (unsigned long long)c->offset, ZSTD_getErrorName(result));
    return 0;
}

int q2_lane_compress(struct q2_lane *l, struct q2_cluster *c, struct q2_error *err)
{
    uint8_t *to = l->packed + l->packed_end;
    size_t room = CLUSTER - 1, length = 0;
    int result = l->zstd ? use_zstd(l->zstd, c, to, room, &length, err)
                         : use_zlib(&l->zlib, c, to, room, &length, err);

    if (result < 0 || length == 0)
        return result;
    c->kind = Q2_COMPRESSED;
    c->data = to;
    c->length = (uint32_t)length;
    l->packed_end += length;
    return 0;
}
