/* SPDX-License-Identifier: BSD-3-Clause */
/* A new qcow2 file as a target: common/qcow2/q2-stream.h writes it, and each range that it writes is
 * hashed at once, by the thread that has written it and has it in its cache. */
#include "common/copy/targets.h"

#include "common/qcow2/q2-stream.h"
#include "common/util/error.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <pthread.h>

#define DIGEST 32 /* bytes of SHA-256 */

struct target_qcow2 {
    struct copy_target base;
    char *name;
    struct q2_stream *stream;
    target_checksum checksum;
    void *opaque;
    pthread_mutex_t telling; /* one call of `checksum` at a time; sanitizers see no GMutex */
};

static struct target_qcow2 *of(struct copy_target *t)
{
    return (struct target_qcow2 *)t;
}

/* ---- checksums ---- */

static int hash_zeroes(gnutls_hash_hd_t hash, uint64_t length)
{
    static const uint8_t zeroes[Q2_STREAM_CLUSTER];
    int result = 0;

    while (length > 0 && result == 0) {
        size_t step = MIN(length, sizeof zeroes);

        result = gnutls_hash(hash, zeroes, step);
        length -= step;
    }
    return result;
}

static int hash_pieces(const struct iovec *iov, size_t n, uint8_t *digest)
{
    gnutls_hash_hd_t hash;
    int result = gnutls_hash_init(&hash, GNUTLS_DIG_SHA256);

    if (result < 0)
        return result;
    for (size_t i = 0; i < n && result == 0; i++)
        result = iov[i].iov_base ? gnutls_hash(hash, iov[i].iov_base, iov[i].iov_len)
                                 : hash_zeroes(hash, iov[i].iov_len);
    gnutls_hash_deinit(hash, digest);
    return result;
}

static int on_wrote(void *opaque, uint64_t offset, const struct iovec *iov, size_t n,
                    struct q2_error *err)
{
    struct target_qcow2 *t = opaque;
    uint64_t length = 0;
    uint8_t digest[DIGEST];
    int result = hash_pieces(iov, n, digest);

    if (result < 0)
        return q2_fail(err, "cannot make a checksum: %s", gnutls_strerror(result));
    for (size_t i = 0; i < n; i++)
        length += iov[i].iov_len;
    pthread_mutex_lock(&t->telling);
    t->checksum(t->opaque, offset, length, digest);
    pthread_mutex_unlock(&t->telling);
    return 0;
}

/* ---- the target ---- */

static int done(const struct target_qcow2 *t, int result, const struct q2_error *why, GError **err)
{
    return result < 0 ? fail(err, "%s: %s", t->name, why->text) : 0;
}

static int qcow2_write(struct copy_target *base, unsigned lane, const struct copy_piece *pieces,
                       size_t n, GError **err)
{
    struct target_qcow2 *t = of(base);
    g_autofree struct q2_piece *list = g_new(struct q2_piece, n);
    struct q2_error why;

    for (size_t i = 0; i < n; i++)
        list[i] = (struct q2_piece){pieces[i].offset, pieces[i].length, pieces[i].data};
    return done(t, q2_stream_write(t->stream, lane, list, n, &why), &why, err);
}

static int qcow2_zero(struct copy_target *base, unsigned lane, uint64_t offset, uint64_t length,
                      GError **err)
{
    struct target_qcow2 *t = of(base);
    struct q2_error why;

    return done(t, q2_stream_zero(t->stream, lane, offset, length, &why), &why, err);
}

static int qcow2_below(struct copy_target *base, uint64_t offset, GError **err)
{
    struct target_qcow2 *t = of(base);
    struct q2_error why;

    return done(t, q2_stream_below(t->stream, offset, &why), &why, err);
}

static int qcow2_finish(struct copy_target *base, GError **err)
{
    struct target_qcow2 *t = of(base);
    struct q2_error why;

    return done(t, q2_stream_finish(t->stream, &why), &why, err);
}

static void qcow2_free(struct copy_target *base)
{
    struct target_qcow2 *t = of(base);

    q2_stream_free(t->stream);
    pthread_mutex_destroy(&t->telling);
    g_free(t->name);
    g_free(t);
}

static const struct copy_target_ops qcow2_ops = {
    .write = qcow2_write,
    .zero = qcow2_zero,
    .below = qcow2_below,
    .finish = qcow2_finish,
    .free = qcow2_free,
};

struct copy_target *target_qcow2_new(int fd, const char *name, const struct target_qcow2_options *o,
                                     GError **err)
{
    struct target_qcow2 *t = g_new0(struct target_qcow2, 1);
    struct q2_stream_options options = {
        .size = o->size,
        .backing = o->backing,
        .backing_format = o->backing_format,
        .compress = o->compress,
        .compression = o->compression,
        .level = o->level,
        .detect_zeroes = o->detect_zeroes,
        .lanes = MAX(o->lanes, 1),
        .wrote = o->checksum ? on_wrote : NULL,
        .opaque = t,
    };
    struct q2_error why;

    t->base = (struct copy_target){
        .ops = &qcow2_ops, .size = o->size, .lanes = options.lanes, .align = Q2_STREAM_CLUSTER};
    t->name = g_strdup(name);
    t->checksum = o->checksum;
    t->opaque = o->opaque;
    pthread_mutex_init(&t->telling, NULL);
    t->stream = q2_stream_new(fd, &options, &why);
    if (!t->stream) {
        done(t, -1, &why, err);
        qcow2_free(&t->base);
        return NULL;
    }
    return &t->base;
}

uint64_t target_qcow2_file_size(const struct copy_target *t)
{
    return q2_stream_file_size(((const struct target_qcow2 *)t)->stream);
}
