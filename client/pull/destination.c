/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Nobody loses a disk by a word that was mistyped: what is there and holds data is not written to
 * unless it is said (--force), or only changes come, and then its size has to fit and a file must
 * not be an image of another format. A new file never takes the place of an old one before it is
 * whole (client/base/partial.h).
 */
#include "client/pull/destination.h"
#include "client/base/error.h"
#include "client/base/partial.h"
#include "client/pull/base-file.h"
#include "client/pull/emptiness.h"
#include "client/pull/position.h"
#include "client/pull/qcow2-pipe.h"
#include "common/base/file-io.h"
#include "common/copy/source-nbd.h"
#include "common/copy/targets.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Devices and exports have whole sectors. */
#define SECTOR 512u

struct destination {
    enum destination_kind kind;
    char *path;              /* of a file or a device; else what it is called in errors */
    int fd;                  /* to be closed; -1: none */
    bool keep;               /* the partial */
    struct partial *partial; /* a new file's */
    struct copy_target *target;
    char *backing;              /* its name in a new qcow2 file; NULL: none */
    const char *backing_format; /* a constant */
};

/* ---- what the user means ---- */

bool destination_is_uri(const char *target)
{
    return strstr(target, "://") != NULL;
}

enum destination_format destination_choose_format(const struct destination_options *o)
{
    if (o->format != DESTINATION_DEFAULT)
        return o->format;
    if (destination_is_uri(o->target))
        return DESTINATION_RAW;
    return strcmp(o->target, "-") == 0 || o->base || g_str_has_suffix(o->target, ".qcow2")
               ? DESTINATION_QCOW2
               : DESTINATION_RAW;
}

uint64_t destination_image_size(enum destination_format format, uint64_t size)
{
    uint64_t rest = size % SECTOR;

    return format == DESTINATION_QCOW2 && rest != 0 ? size + SECTOR - rest : size;
}

char *destination_path(const char *target)
{
    g_autofree char *real = realpath(target, NULL);
    struct stat st;

    return g_strdup(lstat(target, &st) == 0 && S_ISLNK(st.st_mode) && real ? real : target);
}

/* ---- sizes ---- */

/* Does `has` bytes fit a disk of `size`? Less never does, unless it can `grow`. 0, or -1 and *err. */
static int check_size(const char *name, uint64_t has, uint64_t size,
                      const struct destination_options *o, bool can_grow, GError **err)
{
    if (has < size && !(can_grow && o->force))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it has %" PRIu64 " bytes, the disk has %" PRIu64 "%s", name, has,
                           size, can_grow ? " (--force lets it grow)" : "");
    if (o->changes && !o->force && has > size && has - size >= SECTOR)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it has %" PRIu64 " bytes, the disk only %" PRIu64
                           ": changes are for a copy of the same size (--force takes the larger)",
                           name, has, size);
    return 0;
}

static int fail_with_data(const char *name, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: it holds data, which would be overwritten (--force does so)", name);
}

/* ---- standard output ---- */

static int open_stream(struct destination *d, const struct destination_options *o, uint64_t size,
                       GError **err)
{
    const struct qcow2_pipe_options pipe = {
        .fd = STDOUT_FILENO,
        .name = d->path,
        .size = size,
        .source = o->source,
        .backing = d->backing,
        .backing_format = d->backing_format,
    };

    if (isatty(STDOUT_FILENO) == 1)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "-o -: standard output is a terminal: it should be a pipe or a file");
    if (destination_choose_format(o) == DESTINATION_RAW)
        d->target = target_pipe_new(STDOUT_FILENO, d->path, size, err);
    else
        d->target = qcow2_pipe_new(&pipe, err);
    return d->target ? 0 : -1;
}

/* ---- an NBD export ---- */

/* May it be written to? *clean: it reads as zeroes. */
static int look_at_export(const struct destination_options *o, uint64_t size, bool *clean,
                          GError **err)
{
    const struct source_nbd_options source = {
        .uri = o->target, .connections = 1, .retry = o->retry};
    struct copy_source *s = source_nbd_new(&source, err);
    enum emptiness found = EMPTINESS_NONE_FOUND;
    int result;

    if (!s)
        return -1;
    result = check_size("the target", s->size, size, o, false, err);
    if (result == 0 && !o->changes)
        result = emptiness_of_source(s, &found, err);
    copy_source_free(s);
    if (result == 0 && found == EMPTINESS_DATA)
        result = fail_with_data("the target", err);
    *clean = found == EMPTINESS_ZERO;
    return result;
}

static int open_nbd(struct destination *d, const struct destination_options *o, uint64_t size,
                    GError **err)
{
    struct target_nbd_options target = {
        .uri = o->target, .size = size, .connections = o->connections, .retry = o->retry};

    if (!o->force && look_at_export(o, size, &target.clean, err) < 0)
        return -1;
    d->target = target_nbd_new(&target, err);
    return d->target ? 0 : -1;
}

/* ---- what is there ---- */

static int open_there(struct destination *d, int flags, GError **err)
{
    d->fd = open(d->path, O_RDWR | O_CLOEXEC | O_NONBLOCK | flags);
    if (d->fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->path, g_strerror(errno));
    return 0;
}

static int open_device(struct destination *d, const struct destination_options *o, uint64_t size,
                       GError **err)
{
    enum emptiness found = EMPTINESS_NONE_FOUND;
    off_t has;

    /* O_EXCL: a device that is mounted, part of another one, or opened so by another pull, is not
     * opened. (udev takes locks of devices now and then, so that a lock would fail by chance.) */
    if (open_there(d, O_EXCL, err) < 0)
        return -1;
    has = lseek(d->fd, 0, SEEK_END);
    if (has < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: its size: %s", d->path,
                           g_strerror(errno));
    if (check_size(d->path, (uint64_t)has, size, o, false, err) < 0)
        return -1;
    if (!o->force && !o->changes &&
        emptiness_of_device(d->fd, d->path, (uint64_t)has, &found, err) < 0)
        return -1;
    if (found == EMPTINESS_DATA)
        return fail_with_data(d->path, err);
    d->target = target_raw_new(d->fd, d->path, size, false, err);
    return d->target ? 0 : -1;
}

static int check_is_raw(const struct destination *d, GError **err)
{
    char begin[4];

    if (pread_all(d->fd, begin, sizeof begin, 0) == 0 && memcmp(begin, "QFI\xfb", 4) == 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it begins like a qcow2 image, into which changes cannot be written "
                           "(make a new one on it, by --base; --force takes it for a raw disk)",
                           d->path);
    return 0;
}

static int open_in_place(struct destination *d, const struct destination_options *o, uint64_t size,
                         GError **err)
{
    struct stat st;

    if (open_there(d, 0, err) < 0)
        return -1;
    if (flock(d->fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: another process is writing it", d->path);
    if (fstat(d->fd, &st) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->path, g_strerror(errno));
    if (check_size(d->path, (uint64_t)st.st_size, size, o, true, err) < 0 ||
        (!o->force && check_is_raw(d, err) < 0))
        return -1;
    if ((uint64_t)st.st_size < size && ftruncate(d->fd, (off_t)size) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: let it grow: %s", d->path,
                           g_strerror(errno));
    d->target = target_raw_new(d->fd, d->path, size, false, err);
    return d->target ? 0 : -1;
}

/* ---- a new file ---- */

static int start_raw(struct destination *d, uint64_t size, GError **err)
{
    int fd = partial_fd(d->partial);

    if (ftruncate(fd, (off_t)size) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: make it %" PRIu64 " bytes long: %s",
                           partial_path(d->partial), size, g_strerror(errno));
    d->target = target_raw_new(fd, partial_path(d->partial), size, true, err);
    return d->target ? 0 : -1;
}

static int start_qcow2(struct destination *d, const struct destination_options *o, uint64_t size,
                       GError **err)
{
    const struct target_qcow2_options q = {
        .size = size,
        .backing = d->backing,
        .backing_format = d->backing_format,
        .compress = o->compress,
        .compression = o->compression,
        .level = o->level,
        .detect_zeroes = o->detect_zeroes,
        .lanes = o->lanes > 0 ? o->lanes : 1,
    };

    d->target = target_qcow2_new(partial_fd(d->partial), partial_path(d->partial), &q, err);
    return d->target ? 0 : -1;
}

/* `exists`: an empty file, or one that is to be replaced. */
static int open_new(struct destination *d, const struct destination_options *o, uint64_t size,
                    bool exists, GError **err)
{
    bool raw = destination_choose_format(o) == DESTINATION_RAW;

    d->partial = o->again ? partial_again(d->path, exists, err) : partial_new(d->path, exists, err);
    if (!d->partial)
        return -1;
    d->keep = o->keep && raw;
    return raw ? start_raw(d, size, err) : start_qcow2(d, o, size, err);
}

/* ---- paths ---- */

static int open_path(struct destination *d, const struct destination_options *o, uint64_t size,
                     GError **err)
{
    bool raw = destination_choose_format(o) == DESTINATION_RAW;
    struct stat st = {0};
    bool exists = stat(d->path, &st) == 0;

    if (!exists && errno != ENOENT)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->path, g_strerror(errno));
    if (exists && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is neither a regular file nor a block device", d->path);
    if (exists && S_ISBLK(st.st_mode) && !raw)
        return client_fail(err, CLIENT_ERROR_USAGE,
                           "%s: a qcow2 image is made as a file, not on a block device", d->path);
    if (exists && S_ISBLK(st.st_mode)) {
        d->kind = DESTINATION_DEVICE;
        return open_device(d, o, size, err);
    }
    if (!o->again && position_check_anew(d->path, err) < 0)
        return -1;
    if (raw && o->changes && !exists)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is not there: changes are written into a raw copy that is, or "
                           "into a new qcow2 image on a base",
                           d->path);
    if (raw && o->changes) {
        d->kind = DESTINATION_IN_PLACE;
        return open_in_place(d, o, size, err);
    }
    if (exists && st.st_size > 0 && !o->force)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it exists (--force replaces it)",
                           d->path);
    d->kind = DESTINATION_NEW;
    return open_new(d, o, size, exists, err);
}

static int find_base(struct destination *d, const struct destination_options *o, GError **err)
{
    const char *stated = o->base_format == DESTINATION_RAW     ? "raw"
                         : o->base_format == DESTINATION_QCOW2 ? "qcow2"
                                                               : NULL;
    const char *image = d->kind == DESTINATION_STREAM ? NULL : d->path;

    if (!o->base)
        return 0;
    return base_file_look(o->base, stated, image, &d->backing, &d->backing_format, err);
}

static int open_destination(struct destination *d, const struct destination_options *o,
                            uint64_t size, GError **err)
{
    if (strcmp(o->target, "-") == 0) {
        d->kind = DESTINATION_STREAM;
        d->path = g_strdup("standard output");
        return find_base(d, o, err) < 0 ? -1 : open_stream(d, o, size, err);
    }
    if (destination_is_uri(o->target)) {
        d->kind = DESTINATION_NBD;
        d->path = g_strdup(o->target);
        return open_nbd(d, o, size, err);
    }
    d->kind = DESTINATION_NEW;
    d->path = destination_path(o->target);
    return find_base(d, o, err) < 0 ? -1 : open_path(d, o, size, err);
}

struct destination *destination_open(const struct destination_options *o, uint64_t size,
                                     GError **err)
{
    struct destination *d = g_new0(struct destination, 1);

    d->fd = -1;
    if (open_destination(d, o, size, err) == 0)
        return d;
    destination_free(d);
    return NULL;
}

struct copy_target *destination_target(struct destination *d)
{
    return d->target;
}

enum destination_kind destination_kind(const struct destination *d)
{
    return d->kind;
}

int destination_fd(const struct destination *d)
{
    return d->partial ? partial_fd(d->partial) : d->fd;
}

int destination_commit(struct destination *d, GError **err)
{
    return d->partial ? partial_commit(d->partial, err) : 0;
}

void destination_free(struct destination *d)
{
    if (!d)
        return;
    copy_target_free(d->target);
    if (d->partial && d->keep)
        partial_keep(d->partial);
    else
        partial_free(d->partial);
    if (d->fd >= 0)
        close(d->fd);
    g_free(d->backing);
    g_free(d->path);
    g_free(d);
}
