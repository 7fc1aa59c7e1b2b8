/* SPDX-License-Identifier: BSD-3-Clause */
/* Copying the disks of a backup, some at once, while the session is watched. */
#include "client/base/error.h"
#include "client/pull/copy-error.h"
#include "client/pull/loop.h"
#include "client/repo/backup-private.h"

#include <string.h>

/* Bytes of buffers, of all disks together, and most of one. */
#define MEMORY     ((size_t)96 << 20)
#define MEMORY_ONE ((size_t)32 << 20)

struct pull {
    struct backup_run *r;
    struct disk_copy_options o;
    guint next; /* of the record's disks */
};

/* A copy that runs. */
struct pulled {
    struct record_disk *disk;
    struct disk_copy *copy;
};

/* Where the disk is read. NULL and *err. The caller frees it. */
static char *reach(const struct pull *p, const struct session_disk *d, GError **err)
{
    const struct backup_options *o = p->r->o;

    return o->reach ? o->reach(o->opaque, d->uri, err) : g_strdup(d->uri);
}

static int start(struct pull *p, struct record_disk *d, struct loop_job *job, GError **err)
{
    const struct session_disk *at = backup_session_disk(p->r->session, d->choice->disk);
    g_autofree char *uri = reach(p, at, err);
    struct disk_copy *copy =
        uri ? disk_copy_start(&p->o, p->r->record->id, d->choice, at, uri, err) : NULL;
    struct pulled *pulled;

    if (!copy) {
        copy_error_convert(err);
        return -1;
    }
    pulled = g_new(struct pulled, 1);
    *pulled = (struct pulled){.disk = d, .copy = copy};
    *job = (struct loop_job){
        .name = d->choice->disk,
        .copy = disk_copy_get(copy),
        .expected = d->choice->level == REPO_FULL ? 0 : at->dirty,
        .size = at->size,
        .opaque = pulled,
    };
    return 1;
}

static int next(void *opaque, struct loop_job *job, GError **err)
{
    struct pull *p = opaque;
    const GPtrArray *disks = p->r->record->disks;

    while (p->next < disks->len) {
        struct record_disk *d = g_ptr_array_index(disks, p->next++);

        if (!d->done)
            return start(p, d, job, err);
    }
    return 0;
}

static int fail_of_copy(const struct record_disk *d, const GError *why, GError **err)
{
    GError *error = g_error_copy(why);

    copy_error_convert(&error);
    g_prefix_error(&error, "disk %s: ", d->choice->disk);
    g_propagate_error(err, error);
    return -1;
}

static int ended(void *opaque, const struct loop_job *job, const struct copy_progress *progress,
                 const GError *why, GError **err)
{
    struct pull *p = opaque;
    struct pulled *pulled = job->opaque;
    struct record_disk *d = pulled->disk;
    int rc = why ? fail_of_copy(d, why, err) : 0;

    if (rc == 0) {
        d->done = disk_copy_finish(pulled->copy, progress->read, err);
        rc = d->done ? backup_record_update(p->r->record, p->r->result->repo, err) : -1;
    }
    disk_copy_free(pulled->copy);
    g_free(pulled);
    return rc;
}

static int tick(void *opaque, GError **err)
{
    struct pull *p = opaque;

    return backup_session_tick(p->r->session, err);
}

static size_t memory_of_one(unsigned jobs)
{
    return MIN(MEMORY / MAX(jobs, 1), MEMORY_ONE);
}

int backup_pull(struct backup_run *r, struct progress *progress, GError **err)
{
    const struct backup_options *o = r->o;
    struct copy_rate *rate = o->rate > 0 ? copy_rate_new(o->rate) : NULL;
    struct pull p = {
        .r = r,
        .o = {.repo = r->result->repo,
              .connections = o->connections,
              .retry = o->retry,
              .memory = memory_of_one(o->jobs),
              .rate = rate,
              .compress = o->compress,
              .compression = o->compression,
              .compress_level = o->compress_level},
    };
    const struct loop_ops ops = {
        .next = next, .ended = ended, .tick = tick, .fd = backup_session_fd(r->session)};
    int rc;

    r->pulling = true;
    rc = loop_run(&ops, &p, o->jobs, progress, err);

    copy_rate_free(rate);
    return rc;
}
