/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/chain.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/repo/disk-file.h"
#include "client/repo/verify-data.h"
#include "client/repo/verify-record.h"

#include <inttypes.h>

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

        if (repo_file_look(r, chain->pdata[i], below, err) < 0) {
            g_prefix_error(err, "%s/", r->path); /* it names the file as the manifest does */
            return NULL;
        }
    }
    image = q2_image_open(path, REPO_CHAIN_REFERENCES, &error);
    if (!image)
        client_fail(err, CLIENT_ERROR_FAILED, "%s", error.text);
    return image;
}

char *repo_chain_doubt(const struct repository *r, const struct repo_member *m, const char *disk)
{
    g_autoptr(verify_record) record = verify_record_read(r);
    const struct repo_disk *d = repo_member_disk(m, disk);

    while (d) {
        char *fault = verify_record_fault(record, m, d);

        if (fault)
            return fault;
        m = d->parent >= 0 && d->parent < m->id ? repository_find(r, d->parent) : NULL;
        d = m ? repo_member_disk(m, disk) : NULL;
    }
    return NULL;
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

int repo_chain_verify(const struct repository *r, const GPtrArray *chain, guint n, unsigned threads,
                      GError **err)
{
    struct verify_data v = {.r = r, .deep = true, .threads = threads, .progress = watch};
    GError *wrong = NULL;

    for (guint i = 0; i < MIN(n, chain->len) && !wrong; i++)
        verify_sums(&v, chain->pdata[i], &wrong);
    if (!wrong)
        return 0;
    if (v.stopped)
        g_clear_error(&wrong);
    else
        g_prefix_error(&wrong, "%s/", r->path);
    g_propagate_error(err, v.stopped ? v.stopped : wrong);
    return -1;
}
