/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-codec.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

struct q2_codec {
    z_stream deflate;
    bool has_deflate;
    ZSTD_DCtx *zstd;
};

struct q2_codec *q2_codec_new(struct q2_error *err)
{
    struct q2_codec *c = calloc(1, sizeof(*c));

    if (!c)
        q2_fail_errno(err, ENOMEM, "Cannot read an image");
    return c;
}

void q2_codec_free(struct q2_codec *c)
{
    if (!c)
        return;
    if (c->has_deflate)
        inflateEnd(&c->deflate);
    ZSTD_freeDCtx(c->zstd);
    free(c);
}

static int begin_deflate(struct q2_codec *c, struct q2_error *err)
{
    /* Negative: neither a head nor a checksum. 15: any window. */
    int r = c->has_deflate ? inflateReset(&c->deflate) : inflateInit2(&c->deflate, -15);

    if (r != Z_OK)
        return q2_fail_errno(err, ENOMEM, "zlib does not start");
    c->has_deflate = true;
    return 0;
}

static int decompress_deflate(struct q2_codec *c, const void *from, size_t from_length, void *to,
                              size_t to_length, struct q2_error *err)
{
    z_stream *z = &c->deflate;
    int r;

    if (begin_deflate(c, err) < 0)
        return -1;
    z->next_in = (Bytef *)(uintptr_t)from;
    z->avail_in = (uInt)from_length;
    z->next_out = to;
    z->avail_out = (uInt)to_length;
    r = inflate(z, Z_FINISH);
    if (r == Z_DATA_ERROR || r == Z_NEED_DICT || r == Z_MEM_ERROR || r == Z_STREAM_ERROR)
        return q2_fail(err, "the compressed data are damaged (zlib: %s)",
                       z->msg ? z->msg : "error");
    if (z->avail_out > 0)
        return q2_fail(err, "the compressed data end after %zu bytes of %zu",
                       to_length - z->avail_out, to_length);
    return 0;
}

/* Frame by frame: each is decompressed straight into its place, and no frame's claims about its
 * window take memory. */
static int decompress_zstd(struct q2_codec *c, const void *from, size_t from_length, void *to,
                           size_t to_length, struct q2_error *err)
{
    size_t done = 0;

    if (!c->zstd && !(c->zstd = ZSTD_createDCtx()))
        return q2_fail_errno(err, ENOMEM, "zstd does not start");
    while (done < to_length) {
        size_t frame = from_length ? ZSTD_findFrameCompressedSize(from, from_length) : 0, n;

        if (frame == 0)
            return q2_fail(err, "the compressed data end after %zu bytes of %zu", done, to_length);
        if (ZSTD_isError(frame))
            return q2_fail(err, "the compressed data are damaged (zstd: %s)",
                           ZSTD_getErrorName(frame));
        n = ZSTD_decompressDCtx(c->zstd, (char *)to + done, to_length - done, from, frame);
        if (ZSTD_isError(n))
            return q2_fail(err, "the compressed data are damaged (zstd: %s)", ZSTD_getErrorName(n));
        done += n;
        from = (const char *)from + frame;
        from_length -= frame;
    }
    return 0;
}

int q2_decompress(struct q2_codec *c, enum q2_compression type, const void *from,
                  size_t from_length, void *to, size_t to_length, struct q2_error *err)
{
    return type == Q2_ZSTD ? decompress_zstd(c, from, from_length, to, to_length, err)
                           : decompress_deflate(c, from, from_length, to, to_length, err);
}
