/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The map is read as a backup reads it, so that what is asked is whether the next one would have
 * all. With a session, map and view are of one instant. An export of another server may be written
 * to meanwhile: its map is read once more at the end, and what is dirty by then counts as dirty. (A
 * write that the server has marked before it does it can so not be taken for one that was missed.)
 */
#include "client/repo/audit.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/pull/copy-error.h"
#include "client/pull/loop.h"
#include "client/repo/backup-session.h"
#include "client/repo/chain.h"
#include "client/repo/disk-file.h"
#include "common/copy/source-nbd.h"
#include "common/copy/target-compare.h"

#include <inttypes.h>

/* Of the session, seconds. */
#define LEASE 120
/* The map is asked for in windows, bytes. */
#define WINDOW (UINT64_C(1) << 30)
/* Ranges that differ and were not dirty at first. A backup of another disk altogether differs
 * everywhere: to find more of it is of no use. */
#define MISSED_MAX (1 << 20)

struct audit {
    const struct audit_options *o;
    const char *uri, *context;
    char *reached;                  /* the URI, as it is reached from here */
    struct backup_session *session; /* NULL: another server's export */
    struct audit_result *result;
    GArray *dirty; /* ordered */
    struct copy_source *source;
    struct copy_target *target;
    bool started;
};

/* ---- the map ---- */

static struct copy_source *open_source(const struct audit *a, const char *context, GError **err)
{
    int interrupt = interrupt_fd(err);
    const struct source_nbd_options options = {
        .uri = a->reached,
        .context = context,
        .connections = context ? 1 : a->o->connections,
        .retry = a->o->retry,
        .interrupt = interrupt,
    };

    return interrupt < 0 ? NULL : source_nbd_new(&options, err);
}

static int take_dirty(void *opaque, const struct copy_extent *e, GError **err)
{
    (void)err;
    audit_ranges_add(opaque, e->offset, e->length);
    return 0;
}

static int tell_dirty(struct copy_source *s, GArray *dirty, GError **err)
{
    uint64_t offset = 0;

    while (offset < s->size) {
        if (s->ops->extents(s, 0, offset, MIN(WINDOW, s->size - offset), take_dirty, dirty, &offset,
                            err) < 0)
            return -1;
    }
    return 0;
}

/* Ordered ranges; NULL and *err. */
static GArray *read_dirty(const struct audit *a, GError **err)
{
    struct copy_source *s = open_source(a, a->context, err);
    GArray *dirty = audit_ranges_new();
    int result = s ? tell_dirty(s, dirty, err) : -1;

    copy_source_free(s);
    if (result == 0)
        return dirty;
    g_array_unref(dirty);
    return NULL;
}

/* ---- the comparison ---- */

/* A thread of the copy; one at a time. */
static int take_difference(void *opaque, uint64_t offset, uint64_t length, GError **err)
{
    struct audit *a = opaque;

    a->result->changed += length;
    audit_ranges_add_without(a->result->missed, offset, length, a->dirty);
    if (a->result->missed->len > MISSED_MAX)
        return client_fail(
            err, CLIENT_ERROR_FAILED,
            "more than %d places differ and are not dirty: is it a backup of this disk?",
            MISSED_MAX);
    return 0;
}

static int next(void *opaque, struct loop_job *job, GError **err)
{
    struct audit *a = opaque;
    const struct copy_options options = {.lanes = a->source->lanes};

    if (a->started)
        return 0;
    a->started = true;
    *job = (struct loop_job){.name = a->o->disk, .size = a->source->size};
    job->copy = copy_start(a->source, a->target, &options, err);
    return job->copy ? 1 : -1;
}

static int tick(void *opaque, GError **err)
{
    struct audit *a = opaque;

    return backup_session_tick(a->session, err);
}

/* A server's own disk may have grown since. An export that somebody names is likely of another disk. */
static int check_size(const struct audit *a, GError **err)
{
    uint64_t size = repo_member_disk(a->o->member, a->o->disk)->size;

    if (a->session || repo_header_size(a->source->size) == repo_header_size(size))
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "the export has %" PRIu64 " bytes, and in backup %" PRId64
                       " the disk has %" PRIu64 ": is it this disk?",
                       a->source->size, a->o->member->id, size);
}

/* Compare all of the disk with the image. */
static int compare(struct audit *a, struct q2_image *image, struct progress *progress, GError **err)
{
    struct loop_ops ops = {.next = next, .fd = -1};
    int result = -1;

    if (a->session) {
        ops.tick = tick;
        ops.fd = backup_session_fd(a->session);
    }
    a->source = open_source(a, NULL, err);
    if (a->source && check_size(a, err) == 0)
        a->target =
            target_compare_new(image, a->source->size, a->source->lanes, take_difference, a, err);
    if (a->target) {
        a->result->size = a->source->size;
        result = loop_run(&ops, a, 1, progress, err);
    }
    copy_target_free(a->target);
    copy_source_free(a->source);
    return result;
}

/* What is dirty by now was not missed. */
static int look_again(struct audit *a, GError **err)
{
    g_autoptr(GArray) before = g_steal_pointer(&a->result->missed);
    g_autoptr(GArray) dirty = read_dirty(a, err);

    a->result->missed = audit_ranges_new();
    for (guint i = 0; dirty && i < before->len; i++) {
        const struct audit_range *r = &g_array_index(before, struct audit_range, i);

        audit_ranges_add_without(a->result->missed, r->offset, r->length, dirty);
    }
    return dirty ? 0 : -1;
}

static int audit(struct audit *a, struct q2_image *image, struct progress *progress, GError **err)
{
    a->reached = a->o->reach(a->o->opaque, a->uri, err);
    a->dirty = a->reached ? read_dirty(a, err) : NULL;
    if (!a->dirty || compare(a, image, progress, err) < 0)
        return -1;
    a->result->dirty = audit_ranges_bytes(a->dirty);
    audit_ranges_order(a->result->missed);
    return !a->session && a->result->missed->len > 0 ? look_again(a, err) : 0;
}

/* ---- the session ---- */

/* What the server says of the disk must be the changes since the backup. */
static int follow(struct audit *a, GError **err)
{
    const struct session_disk *d = backup_session_disk(a->session, a->o->disk);

    if (!d)
        return client_fail(err, CLIENT_ERROR_FAILED, "it is not in the session");
    if (g_strcmp0(d->mode, "incremental") != 0)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "the server does not know what has changed since backup %" PRId64 ": %s",
                           a->o->member->id, d->reason ? d->reason : "it gives the disk in full");
    a->uri = d->uri;
    a->context = d->context;
    return 0;
}

static struct backup_session *begin(struct qmp *qmp, const struct audit_options *o, bool *begun,
                                    const char *name, GError **err)
{
    g_autoptr(GPtrArray) choices =
        g_ptr_array_new_with_free_func((GDestroyNotify)backup_choice_free);
    struct backup_choice *choice = backup_choice_new(o->disk);

    choice->since = g_strdup(o->member->checkpoint);
    g_ptr_array_add(choices, choice);
    return backup_session_begin_plain(qmp, name, choices, LEASE, begun, err);
}

/* With a session of the server. What goes wrong first counts, also where the session cannot be
 * ended: its lease ends it then. */
static int audit_server(struct audit *a, struct qmp *qmp, struct q2_image *image,
                        struct progress *progress, GError **err)
{
    g_autofree char *uuid = g_uuid_string_random();
    g_autofree char *name = g_strdup_printf("audit-%.8s", uuid);
    g_autoptr(GError) why = NULL;
    bool begun = false;
    int result = -1, end = 0;

    a->session = begin(qmp, a->o, &begun, name, err);
    if (a->session && follow(a, err) == 0)
        result = audit(a, image, progress, err);
    if (a->session)
        end = backup_session_abort(a->session, &why);
    else if (begun)
        end = session_abort(qmp, name, &why);
    backup_session_free(a->session);
    if (result < 0 || end == 0)
        return result;
    g_propagate_error(err, g_steal_pointer(&why));
    return -1;
}

int audit_run(const struct repository *r, struct qmp *qmp, const struct audit_options *o,
              struct progress *progress, struct audit_result *result, GError **err)
{
    struct audit a = {.o = o, .uri = o->uri, .context = o->context, .result = result};
    g_autoptr(GPtrArray) chain = repo_chain(r, o->member, o->disk, err);
    struct q2_image *image = chain ? repo_chain_open(r, chain, err) : NULL;
    GError *error = NULL;
    int rc;

    *result = (struct audit_result){0};
    if (!image)
        return -1;
    if (!o->uri && !o->member->checkpoint) {
        q2_image_close(image);
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "backup %" PRId64
                           " has no checkpoint: nothing tells what has changed since",
                           o->member->id);
    }
    result->missed = audit_ranges_new();
    rc = o->uri ? audit(&a, image, progress, &error)
                : audit_server(&a, qmp, image, progress, &error);
    g_clear_pointer(&a.dirty, g_array_unref);
    g_free(a.reached);
    q2_image_close(image);
    copy_error_convert(&error);
    if (rc < 0) {
        g_clear_pointer(&result->missed, g_array_unref);
        g_propagate_prefixed_error(err, error, "disk %s: ", o->disk);
    }
    return rc;
}
