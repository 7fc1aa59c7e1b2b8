/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A copy that can be gone on with has a position (client/pull/position.h). What keeps it true:
 *
 * - It is removed before another copy touches the target: a run that begins anew removes what it finds
 *   first, durably, then opens the target.
 * - It is written behind the data: the engine's mark comes when all below it is durable. Where the copy
 *   ends, early or not, and in order, it is written once more, after a sync by a descriptor of its own: one
 *   by which a failure to write was told to the engine already would not tell it again.
 * - It names the file by its inode and birth: a .partial that another run has made is another file.
 * - It goes when the copy is whole and has its name. A run that finds it beside that very file removes it,
 *   and nothing else is left to do.
 *
 * Discarding at the source needs it, too: what has been discarded is nowhere but in the target, and
 * reads as zeroes at the source. So nobody begins anew over a position that says so.
 */
#include "client/pull/pull.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/base/partial.h"
#include "client/pull/copy-error.h"
#include "client/pull/loop.h"
#include "client/pull/position.h"
#include "common/copy/source-nbd.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MEMORY ((size_t)64 << 20)
/* A copy that can be gone on with makes its data durable each time that so much has come, and so
 * many milliseconds have passed. */
#define SYNC_BYTES (UINT64_C(16) << 20)
#define SYNC_MS    2000

struct pull {
    const struct pull_options *o;
    struct destination_options to;
    struct pull_result *result;
    struct copy_source *source;
    struct destination *destination;
    struct position *position; /* NULL: the copy cannot be gone on with */
    bool found;                /* it is one of an earlier run */
    bool named;                /* which was cut when nothing was left to do but to remove it */
    int sync_fd;               /* of the target's file, where positions are written; else -1 */
    struct copy_rate *rate;
    bool started;
};

/* ---- where it begins ---- */

/* Has it a position? Only a raw file has, which is to be known before anything is opened. */
static bool is_raw_file(const struct pull *p)
{
    struct stat st;

    return !destination_is_uri(p->to.target) && strcmp(p->to.target, "-") != 0 &&
           destination_choose_format(&p->to) == DESTINATION_RAW &&
           (stat(p->to.target, &st) < 0 || S_ISREG(st.st_mode));
}

static int find_position(struct pull *p, GError **err)
{
    g_autofree char *path = destination_path(p->to.target);
    const struct pull_options *o = p->o;

    if (!is_raw_file(p)) {
        if (o->resume || o->discard)
            return client_fail(err, CLIENT_ERROR_USAGE,
                               "--%s is for raw files: a copy into a qcow2 image, a device, an "
                               "export or a stream cannot be gone on with%s",
                               o->resume ? "resume" : "discard",
                               o->resume ? "" : ", so that a cut would lose what is discarded");
        return 0;
    }
    p->position = position_new(path, o->uri, o->context, p->source->size);
    p->position->discards = o->discard;
    p->to.keep = o->resume || o->discard;
    if (p->to.keep && position_see_map(p->position, p->source, err) < 0)
        return -1;
    if (o->resume ? position_read(p->position, &p->found, &p->result->resumed, err) < 0
                  : position_check_anew(path, err) < 0)
        return -1;
    p->to.again = p->found;
    p->named = p->found && position_is_named(p->position, p->result->resumed, path);
    return p->found ? 0 : position_remove(p->position, err);
}

static int begin_position(struct pull *p, GError **err)
{
    g_autofree char *path = g_strdup_printf("/proc/self/fd/%d", destination_fd(p->destination));

    p->sync_fd = open(path, O_RDONLY | O_CLOEXEC);
    if (p->sync_fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: open once more: %s", p->to.target,
                           g_strerror(errno));
    return position_write(p->position, p->result->resumed, err);
}

static int check_file(struct pull *p, GError **err)
{
    if (!p->position)
        return 0;
    if (position_set_file(p->position, destination_fd(p->destination), p->found, err) < 0)
        return -1;
    return p->to.keep ? begin_position(p, err) : 0;
}

static int open_source(void *opaque, GError **err)
{
    struct pull *p = opaque;
    const struct source_nbd_options source = {
        .uri = p->o->uri,
        .context = p->o->context,
        .connections = p->o->connections,
        .retry = p->o->retry,
        .trim = p->o->discard,
    };

    p->source = source_nbd_new(&source, err);
    if (!p->source)
        return -1;
    p->to.source = p->source;
    p->to.lanes = p->source->lanes;
    p->result->size = p->source->size;
    return find_position(p, err);
}

static int open_destination(void *opaque, GError **err)
{
    struct pull *p = opaque;

    p->destination = destination_open(&p->to, p->source->size, err);
    if (!p->destination)
        return -1;
    p->result->kind = destination_kind(p->destination);
    return check_file(p, err);
}

/* Servers, and who reads a stream, may keep us waiting, and nothing is there yet that had to be
 * removed. */
static int open_both(struct pull *p, GError **err)
{
    bool waits = destination_is_uri(p->to.target) || strcmp(p->to.target, "-") == 0;

    if (interrupt_work(open_source, p, err) < 0)
        return -1;
    if (p->named) {
        p->result->kind = DESTINATION_NEW;
        return 0;
    }
    return waits ? interrupt_work(open_destination, p, err) : open_destination(p, err);
}

/* ---- the copy ---- */

static int mark(void *opaque, uint64_t offset, GError **err)
{
    const struct pull *p = opaque;

    return position_write(p->position, offset, err);
}

static int next(void *opaque, struct loop_job *job, GError **err)
{
    struct pull *p = opaque;
    const struct copy_options options = {
        .lanes = p->source->lanes,
        .memory = MEMORY,
        .rate = p->rate,
        .detect_zeroes = p->to.detect_zeroes,
        .trim = p->o->discard,
        .start = p->result->resumed,
        .mark = p->sync_fd >= 0 ? mark : NULL,
        .sync_bytes = p->sync_fd >= 0 ? SYNC_BYTES : 0,
        .sync_ms = p->sync_fd >= 0 ? SYNC_MS : 0,
        .opaque = p,
    };

    if (p->started)
        return 0;
    p->started = true;
    *job = (struct loop_job){
        .name = p->o->name,
        .expected = p->result->resumed == 0 ? p->source->expected : 0,
        .size = p->source->size,
    };
    job->copy = copy_start(p->source, destination_target(p->destination), &options, err);
    return job->copy ? 1 : -1;
}

static int ended(void *opaque, const struct loop_job *job, const struct copy_progress *progress,
                 const GError *why, GError **err)
{
    struct pull *p = opaque;

    p->result->read = progress->read;
    p->result->written = progress->written;
    p->result->zero = progress->zero;
    if (p->sync_fd >= 0 && fsync(p->sync_fd) == 0)
        position_write(p->position, progress->position, NULL); /* else the last mark stands */
    if (!why)
        return 0;
    g_propagate_error(err, g_error_copy(why));
    return -1;
}

static int copy(struct pull *p, struct progress *progress, GError **err)
{
    static const struct loop_ops ops = {.next = next, .ended = ended, .fd = -1};

    if (p->named)
        return 0;
    if (p->o->rate > 0)
        p->rate = copy_rate_new(p->o->rate);
    if (loop_run(&ops, p, 1, progress, err) == 0)
        return 0;
    if (p->to.changes && p->result->kind != DESTINATION_NEW && p->result->written > 0)
        g_prefix_error(err, "the target has some of the changes now, and needs all: ");
    return -1;
}

static int finish(struct pull *p, GError **err)
{
    int result = p->named ? partial_sync_folder(p->position->path, err)
                          : destination_commit(p->destination, err);

    if (result < 0)
        return -1;
    return p->position ? position_remove(p->position, err) : 0;
}

int pull_run(const struct pull_options *o, struct progress *progress, struct pull_result *r,
             GError **err)
{
    struct pull p = {.o = o, .to = o->to, .result = r, .sync_fd = -1};
    gint64 begin = g_get_monotonic_time();
    GError *error = NULL;
    int result;

    *r = (struct pull_result){.format = destination_choose_format(&o->to)};
    p.to.changes = o->context != NULL;
    p.to.connections = o->connections;
    p.to.retry = o->retry;
    result = open_both(&p, &error) < 0 || copy(&p, progress, &error) < 0 || finish(&p, &error) < 0
                 ? -1
                 : 0;
    destination_free(p.destination);
    copy_source_free(p.source);
    position_free(p.position);
    if (p.sync_fd >= 0)
        close(p.sync_fd);
    copy_rate_free(p.rate);
    r->seconds = (double)(g_get_monotonic_time() - begin) / G_USEC_PER_SEC;
    copy_error_convert(&error);
    if (error)
        g_propagate_error(err, error);
    return result;
}
