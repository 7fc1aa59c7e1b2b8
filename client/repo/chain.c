/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/chain.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/repo/disk-file.h"
#include "client/repo/sums.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

GPtrArray *repo_chain(const struct repository *r, const struct repo_member *m, const char *disk,
                      GError **err)
{
    g_autoptr(GPtrArray) chain = g_ptr_array_new();
    struct repo_disk *d = repo_member_disk(m, disk);
    int64_t id = m->id;

    if (!d) {
        client_fail(err, CLIENT_ERROR_FAILED, "backup %" PRId64 " has no disk %s", m->id, disk);
        return NULL;
    }
    g_ptr_array_add(chain, d);
    while (d->parent >= 0) {
        const struct repo_member *parent = d->parent < id ? repository_find(r, d->parent) : NULL;

        id = d->parent;
        d = parent ? repo_member_disk(parent, disk) : NULL;
        if (!d) {
            client_fail(err, CLIENT_ERROR_FAILED,
                        "backup %" PRId64 ": disk %s: the backup %" PRId64
                        ", on which it stands, is not in the repository",
                        m->id, disk, id);
            return NULL;
        }
        g_ptr_array_add(chain, d);
    }
    return g_steal_pointer(&chain);
}

struct q2_image *repo_chain_open(const struct repository *r, const GPtrArray *chain, GError **err)
{
    g_autofree char *path = repo_path(r, ((const struct repo_disk *)chain->pdata[0])->file);
    struct q2_error error = {0};
    struct q2_image *image;

    for (guint i = 0; i < chain->len; i++) {
        const struct repo_disk *below = i + 1 < chain->len ? chain->pdata[i + 1] : NULL;

        if (repo_file_look(r, chain->pdata[i], below, err) < 0)
            return NULL;
    }
    image = q2_image_open(path, Q2_REFERENCES_FOLDER, &error);
    if (!image)
        client_fail(err, CLIENT_ERROR_FAILED, "%s", error.text);
    return image;
}

/* ---- reading them ---- */

/* A signal ends it. */
static int watch(void *opaque, uint64_t done, GError **err)
{
    int number = interrupt_take();

    (void)opaque;
    (void)done;
    return number == 0 ? 0
                       : client_fail(err, CLIENT_ERROR_INTERRUPTED, "interrupted by SIG%s",
                                     sigabbrev_np(number));
}

static int verify_file(const struct repository *r, const struct repo_disk *d, unsigned threads,
                       GError **err)
{
    g_autofree char *path = repo_path(r, d->file);
    g_autofree char *sums_path = repo_sums_path(r, d->file);
    g_autoptr(sums) s = sums_read(sums_path, d->sums, d->bytes, err);
    int fd, result;

    if (!s)
        return -1;
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", d->file, g_strerror(errno));
    result = sums_check_watched(s, fd, d->file, threads, watch, NULL, err);
    close(fd);
    return result;
}

int repo_chain_verify(const struct repository *r, const GPtrArray *chain, guint n, unsigned threads,
                      GError **err)
{
    for (guint i = 0; i < MIN(n, chain->len); i++) {
        if (verify_file(r, chain->pdata[i], threads, err) < 0)
            return -1;
    }
    return 0;
}
