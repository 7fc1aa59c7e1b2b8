/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/verify-data.h"
#include "client/base/error.h"
#include "client/repo/chain.h"
#include "client/repo/sums.h"
#include "common/qcow2/q2-image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <unistd.h>

/* Bytes of one read of a disk. */
#define READ_BYTES (2 << 20)

static int fail_q2(GError **err, const struct repo_disk *d, const struct q2_error *why)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, why->text);
}

/* ---- checksums ---- */

static int tell(void *opaque, uint64_t done, GError **err)
{
    struct verify_data *v = opaque;

    if (v->stopped || !v->progress || v->progress(v->opaque, v->done + done, &v->stopped) == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED, "stopped");
}

/* Whether progress has ended it. */
static int watch(void *opaque)
{
    struct verify_data *v = opaque;

    tell(v, 0, NULL);
    return v->stopped ? -1 : 0;
}

static int check_pieces(struct verify_data *v, const struct repo_disk *d, const struct sums *s,
                        GError **err)
{
    g_autofree char *path = repo_path(v->r, d->file);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), result;

    if (fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, g_strerror(errno));
    result = sums_check_watched(s, fd, d->file, v->threads, tell, v, err);
    close(fd);
    return result;
}

int verify_sums(struct verify_data *v, const struct repo_disk *d, GError **err)
{
    g_autofree char *path = repo_sums_path(v->r, d->file);
    g_autoptr(sums) s = sums_read(path, d->sums, d->bytes, err);
    int result = s ? 0 : -1;

    if (s && v->deep)
        result = check_pieces(v, d, s, err);
    v->done += d->bytes;
    return result;
}

/* ---- the image ---- */

/* Read what is compressed in this file itself. All else was read for its checksums, and the tables say that
 * it lies in the file. */
static int read_compressed(struct verify_data *v, struct q2_image *image, struct q2_reader *reader,
                           const struct repo_disk *d, GError **err)
{
    g_autofree void *buffer = g_malloc(READ_BYTES);
    uint64_t size = q2_image_size(image);
    struct q2_error why = {0};
    struct q2_extent e;

    for (uint64_t at = 0; at < size; at += e.length) {
        if (watch(v) != 0)
            return client_fail(err, CLIENT_ERROR_FAILED, "stopped");
        if (q2_image_extent(reader, at, size - at, 0, &e, &why) < 0)
            return fail_q2(err, d, &why);
        if (e.kind == Q2_COMPRESSED)
            e.length = MIN(e.length, READ_BYTES);
        if (e.kind == Q2_COMPRESSED &&
            q2_image_pread(reader, buffer, (size_t)e.length, at, &why) < 0)
            return fail_q2(err, d, &why);
    }
    return 0;
}

static int check_tables(struct verify_data *v, struct q2_image *image, const struct repo_disk *d,
                        GError **err)
{
    uint64_t leaks, corruptions;
    struct q2_error why = {0};

    if (q2_image_check_watched(image, watch, v, &leaks, &corruptions, &why) < 0)
        return fail_q2(err, d, &why);
    if (corruptions > 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: %" PRIu64 " clusters are corrupt, the first: %s", d->file,
                           corruptions, why.text);
    return 0;
}

static int check_image(struct verify_data *v, struct q2_image *image, const struct repo_disk *d,
                       GError **err)
{
    struct q2_error why = {0};
    struct q2_reader *reader;
    int result;

    if (check_tables(v, image, d, err) < 0)
        return -1;
    reader = q2_reader_new(image, &why);
    if (!reader)
        return fail_q2(err, d, &why);
    result = read_compressed(v, image, reader, d, err);
    q2_reader_free(reader);
    return result;
}

int verify_image(struct verify_data *v, const struct repo_disk *d, bool chain, GError **err)
{
    g_autofree char *path = repo_path(v->r, d->file);
    struct q2_error why = {0};
    struct q2_image *image;
    int result;

    if (chain) {
        image = q2_image_open(path, REPO_CHAIN_REFERENCES, &why);
        if (!image)
            return fail_q2(err, d, &why);
        q2_image_close(image);
    }
    image = q2_image_open(path, Q2_REFERENCES_NONE, &why);
    if (!image)
        return fail_q2(err, d, &why);
    result = check_image(v, image, d, err);
    q2_image_close(image);
    return result;
}
