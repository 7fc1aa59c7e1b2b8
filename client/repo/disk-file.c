/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/disk-file.h"
#include "client/base/error.h"
#include "common/base/file-io.h"
#include "common/qcow2/q2-header.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR 512
/* Bytes that hold any header with all that belongs to it: a cluster of the largest size. */
#define HEADER_BYTES (2 << 20)

uint64_t repo_header_size(uint64_t disk_size)
{
    uint64_t rest = disk_size % SECTOR;

    return disk_size + (rest > 0 ? SECTOR - rest : 0);
}

const struct repo_disk *repo_disk_below(const struct repository *r, const struct repo_disk *d)
{
    const struct repo_member *parent = d->parent < 0 ? NULL : repository_find(r, d->parent);

    return parent ? repo_member_disk(parent, d->disk) : NULL;
}

static int check_header(const struct repo_disk *d, const struct repo_disk *below,
                        const struct q2_header *h, GError **err)
{
    g_autofree char *backing = below ? repo_backing_name(d->file, below->file) : g_strdup("");

    if (h->size != repo_header_size(d->size))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it is of a disk of %" PRIu64 " bytes, and should be of %" PRIu64,
                           d->file, h->size, d->size);
    if (strcmp(h->backing, backing) != 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its backing file is \"%s\", and should be \"%s\"", d->file,
                           h->backing, backing);
    if (below && strcmp(h->backing_format, "qcow2") != 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: the format of its backing file is \"%s\", and should be \"qcow2\"",
                           d->file, h->backing_format);
    if (*h->data_file)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its data are in another file, \"%s\", and should be in it", d->file,
                           h->data_file);
    return 0;
}

static int read_header(int fd, const struct repo_disk *d, struct q2_header *h, GError **err)
{
    size_t length = (size_t)MIN(d->bytes, HEADER_BYTES);
    g_autofree void *bytes = g_malloc(length);
    int error = pread_all(fd, bytes, length, 0);
    struct q2_error why = {0};

    if (error < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, g_strerror(-error));
    if (q2_header_parse(bytes, length, d->bytes, h, &why) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, why.text);
    return 0;
}

static int look(int fd, const struct repo_disk *d, const struct repo_disk *below, GError **err)
{
    struct q2_header h;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, g_strerror(errno));
    if (!S_ISREG(st.st_mode))
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: it is not a regular file", d->file);
    if ((uint64_t)st.st_size != d->bytes)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: it has %" PRIu64 " bytes, and should have %" PRIu64, d->file,
                           (uint64_t)st.st_size, d->bytes);
    return read_header(fd, d, &h, err) < 0 ? -1 : check_header(d, below, &h, err);
}

int repo_file_look(const struct repository *r, const struct repo_disk *d,
                   const struct repo_disk *below, GError **err)
{
    g_autofree char *path = repo_path(r, d->file);
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), result;

    if (fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file,
                           errno == ENOENT ? "it is missing" : g_strerror(errno));
    result = look(fd, d, below, err);
    close(fd);
    return result;
}
