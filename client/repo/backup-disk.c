/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/backup-disk.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/base/partial.h"
#include "client/repo/sums.h"
#include "common/copy/source-nbd.h"
#include "common/copy/targets.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Connections, and threads, of a copy for which nobody has said how many. */
#define CONNECTIONS 4

struct disk_copy {
    const struct disk_copy_options *o;
    struct repo_disk *result; /* what is known of it so far */
    char *path;
    char *folder; /* which this copy has made; NULL: it was there */
    struct partial *partial;
    struct sums *sums;
    struct copy_source *source;
    struct copy_target *target;
    struct copy *copy;
};

static struct repo_disk *result_new(int64_t id, const struct backup_choice *choice)
{
    struct repo_disk *d = repo_disk_new();

    d->disk = g_strdup(choice->disk);
    d->level = choice->level;
    d->file = repo_file_name(choice->disk, id, choice->level);
    d->parent = choice->parent;
    d->since = g_strdup(choice->since);
    d->reason = choice->level == REPO_FULL ? g_strdup(choice->reason) : NULL;
    return d;
}

/* Make the folder of the disk. Its name is as durable as the manifest's, which is in the same
 * folder and is written later. */
static int make_folder(struct disk_copy *c, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(c->path);

    if (mkdir(folder, 0777) == 0)
        c->folder = g_steal_pointer(&folder);
    else if (errno != EEXIST)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot make this folder: %s", folder,
                           g_strerror(errno));
    return 0;
}

static int open_source(struct disk_copy *c, const struct session_disk *disk, const char *uri,
                       GError **err)
{
    int interrupt = interrupt_fd(err);
    struct source_nbd_options o = {
        .uri = uri,
        .context = c->result->level == REPO_FULL ? NULL : disk->context,
        .connections = c->o->connections,
        .retry = c->o->retry,
        .awaited = true,
        .interrupt = interrupt,
    };

    c->source = interrupt < 0 ? NULL : source_nbd_new(&o, err);
    if (!c->source)
        return -1;
    if (c->source->size != disk->size)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "its export has %" PRIu64 " bytes, but the session %" PRIu64,
                           c->source->size, disk->size);
    c->result->size = disk->size;
    return 0;
}

/* The name by which the new file finds its backing file; NULL: it has none, or *err. */
static char *backing_name(const struct disk_copy *c, GError **err)
{
    const struct repo_member *m;
    const struct repo_disk *parent;

    if (c->result->parent < 0)
        return NULL;
    m = repository_find(c->o->repo, c->result->parent);
    parent = m ? repo_member_disk(m, c->result->disk) : NULL;
    if (parent)
        return repo_backing_name(c->result->file, parent->file);
    client_fail(err, CLIENT_ERROR_FAILED, "backup %" PRId64 ", on which it was to be put, is gone",
                c->result->parent);
    return NULL;
}

static int open_target(struct disk_copy *c, unsigned lanes, GError **err)
{
    g_autofree char *backing = backing_name(c, err);
    struct target_qcow2_options o = {
        .size = c->result->size,
        .backing = backing,
        .backing_format = backing ? "qcow2" : NULL,
        .compress = c->o->compress,
        .compression = c->o->compression,
        .level = c->o->compress_level,
        .lanes = lanes,
        .checksum = sums_add,
        .opaque = c->sums,
    };

    if (!backing && c->result->parent >= 0)
        return -1;
    c->target = target_qcow2_new(partial_fd(c->partial), partial_path(c->partial), &o, err);
    return c->target ? 0 : -1;
}

static int start(struct disk_copy *c, const struct session_disk *disk, const char *uri,
                 GError **err)
{
    unsigned lanes = c->o->connections > 0 ? c->o->connections : CONNECTIONS;
    struct copy_options o = {
        .lanes = lanes,
        .memory = c->o->memory,
        .rate = c->o->rate,
        .detect_zeroes = true,
    };

    if (make_folder(c, err) < 0 || open_source(c, disk, uri, err) < 0)
        return -1;
    c->partial = partial_new(c->path, false, err);
    if (!c->partial || open_target(c, lanes, err) < 0)
        return -1;
    c->copy = copy_start(c->source, c->target, &o, err);
    return c->copy ? 0 : -1;
}

struct disk_copy *disk_copy_start(const struct disk_copy_options *o, int64_t id,
                                  const struct backup_choice *choice,
                                  const struct session_disk *disk, const char *uri, GError **err)
{
    struct disk_copy *c = g_new0(struct disk_copy, 1);

    c->o = o;
    c->result = result_new(id, choice);
    c->path = repo_path(o->repo, c->result->file);
    c->sums = sums_new();
    if (start(c, disk, uri, err) == 0)
        return c;
    g_prefix_error(err, "disk %s: ", choice->disk);
    disk_copy_free(c);
    return NULL;
}

struct copy *disk_copy_get(struct disk_copy *c)
{
    return c->copy;
}

struct repo_disk *disk_copy_finish(struct disk_copy *c, uint64_t read, GError **err)
{
    g_autofree char *sums_path = repo_sums_path(c->o->repo, c->result->file);
    struct stat st;

    c->result->read = read;
    c->result->bytes = target_qcow2_file_size(c->target);
    if (fstat(partial_fd(c->partial), &st) < 0 || (uint64_t)st.st_size != c->result->bytes) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s: it is not as long as it was written",
                    partial_path(c->partial));
        return NULL;
    }
    c->result->sums = sums_write(c->sums, sums_path, c->result->bytes, err);
    if (!c->result->sums || partial_commit(c->partial, err) < 0)
        return NULL;
    return g_steal_pointer(&c->result);
}

void disk_copy_free(struct disk_copy *c)
{
    if (!c)
        return;
    copy_target_free(c->target);
    copy_source_free(c->source);
    partial_free(c->partial);
    sums_free(c->sums);
    if (c->folder)
        rmdir(c->folder); /* works only if nothing has come of it */
    if (c->result)
        repo_disk_free(c->result);
    g_free(c->folder);
    g_free(c->path);
    g_free(c);
}
