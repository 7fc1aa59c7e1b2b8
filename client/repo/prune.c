/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Members leave a repository in three steps:
 *
 *  1. What the files that stay need of those that go is written into new files, with new names and with
 *     their checksums, all durable. The manifest knows nothing of them.
 *  2. The manifest is replaced: it has the new names, and the members that go are not in it. This is
 *     one rename (repository_save), and the only moment at which something changes.
 *  3. What the manifest does not name is removed.
 *
 * Invariants:
 *  - No file that a manifest names, the old or the new one, is written to or renamed, ever. So
 *    each member that stays reads the same before, during and after, and an end at any place, of
 *    the process or of the machine, leaves the repository as before (1) or as after (2, 3), with
 *    files too many. The next command that writes to it removes them.
 *  - A file is removed only after the manifest without it is durable.
 *  - After a save that failed nothing is removed: which manifest a later start finds is not known.
 *  - What goes into a new file has been compared with its checksums before: damage is found here, and
 *    does not get good checksums.
 */
#include "client/repo/prune.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/base/partial.h"
#include "client/pull/loop.h"
#include "client/repo/chain.h"
#include "client/repo/sums.h"
#include "common/base/size.h"
#include "common/copy/source-image.h"
#include "common/copy/targets.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/statvfs.h>

#define LANES 4

/* ---- which members stay ---- */

static gint compare_names(gconstpointer a, gconstpointer b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The names of all disks, lent, each once. */
static GPtrArray *disk_names(const struct repository *r)
{
    GPtrArray *names = g_ptr_array_new();

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++)
            g_ptr_array_add(names, ((struct repo_disk *)m->disks->pdata[k])->disk);
    }
    g_ptr_array_sort(names, compare_names);
    for (guint i = names->len; i-- > 1;) {
        if (strcmp(names->pdata[i], names->pdata[i - 1]) == 0)
            g_ptr_array_remove_index(names, i);
    }
    return names;
}

static void choose_for_disk(const struct repository *r, const struct prune_policy *policy,
                            GTimeZone *zone, const char *disk, unsigned *reasons)
{
    g_autofree int64_t *times = g_new(int64_t, r->members->len);
    g_autofree unsigned *found = g_new0(unsigned, r->members->len);
    g_autofree guint *places = g_new(guint, r->members->len);
    guint n = 0;

    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        if (!repo_member_disk(m, disk))
            continue;
        places[n] = i;
        times[n++] = m->time;
    }
    prune_policy_apply(policy, times, n, zone, found);
    for (guint i = 0; i < n; i++)
        reasons[places[i]] |= found[i];
}

unsigned *prune_choose(const struct repository *r, const struct prune_policy *policy,
                       GTimeZone *zone)
{
    unsigned *reasons = g_new0(unsigned, r->members->len + 1);
    g_autoptr(GPtrArray) names = disk_names(r);

    for (guint i = 0; i < names->len; i++)
        choose_for_disk(r, policy, zone, names->pdata[i], reasons);
    return reasons;
}

/* ---- new files ---- */

/* A file that is being written. */
struct job {
    const struct prune_rewrite *rewrite; /* lent */
    struct q2_image *image;              /* the old file and what is below it */
    struct copy_source *source;
    struct copy_target *target;
    struct partial *partial;
    struct sums *sums;
    /* When it is whole: */
    uint64_t bytes;
    char *sums_hash;
};

struct run {
    struct repository *r;
    const struct prune_plan *plan;
    struct job *jobs; /* one for each rewrite, in their order */
    guint next;
};

/* Let go of what writing needed; a file that is not whole is removed. */
static void job_end(struct job *j)
{
    copy_target_free(j->target);
    copy_source_free(j->source);
    partial_free(j->partial);
    sums_free(j->sums);
    q2_image_close(j->image);
    j->target = NULL;
    j->source = NULL;
    j->partial = NULL;
    j->sums = NULL;
    j->image = NULL;
}

static void run_clear(struct run *run)
{
    for (guint i = 0; i < run->plan->rewrites->len; i++) {
        job_end(&run->jobs[i]);
        g_free(run->jobs[i].sums_hash);
    }
    g_free(run->jobs);
}

/* Does any of the files that are taken together have compressed clusters? Then the new one gets
 * them, too. *compression is the first such file's. 0, or -1 and *err. */
static int look_for_compression(struct job *j, bool *compress, enum q2_compression *compression,
                                GError **err)
{
    uint64_t size = q2_image_size(j->image), offset = 0;
    struct q2_error error = {0};
    struct q2_reader *reader = q2_reader_new(j->image, &error);
    int result = reader ? 0 : -1;

    *compress = false;
    while (result == 0 && !*compress && offset < size) {
        struct q2_extent e = {0};

        result = q2_image_extent(reader, offset, size - offset, j->rewrite->depth, &e, &error);
        *compress = result == 0 && e.kind == Q2_COMPRESSED;
        if (*compress) {
            struct q2_image *file = j->image;

            for (unsigned i = 0; i < e.depth; i++)
                file = q2_image_backing(file);
            *compression = q2_image_header(file)->compression;
        }
        offset += e.length;
    }
    q2_reader_free(reader);
    return result < 0 ? client_fail(err, CLIENT_ERROR_FAILED, "%s", error.text) : 0;
}

/* Open what is read: the old chain, of which as much is compared with its checksums as is taken. */
static int open_source(struct repository *r, struct job *j, GError **err)
{
    const struct prune_rewrite *w = j->rewrite;
    g_autoptr(GPtrArray) chain = repo_chain(r, w->member, w->disk->disk, err);

    if (!chain || repo_chain_verify(r, chain, w->depth + 1, LANES, err) < 0)
        return -1;
    j->image = repo_chain_open(r, chain, err);
    if (!j->image)
        return -1;
    j->source = source_image_new(j->image, w->base ? w->depth : UINT_MAX, LANES, err);
    if (!j->source)
        return -1;
    j->source->size = w->disk->size;
    return 0;
}

static int open_target(struct repository *r, struct job *j, GError **err)
{
    const struct prune_rewrite *w = j->rewrite;
    g_autofree char *path = repo_path(r, w->file);
    g_autofree char *backing = w->base ? repo_backing_name(w->file, w->base) : NULL;
    struct target_qcow2_options o = {.size = w->disk->size,
                                     .backing = backing,
                                     .backing_format = backing ? "qcow2" : NULL,
                                     .lanes = LANES,
                                     .checksum = sums_add};

    if (look_for_compression(j, &o.compress, &o.compression, err) < 0)
        return -1;
    j->partial = partial_new(path, false, err);
    if (!j->partial)
        return -1;
    o.opaque = j->sums = sums_new();
    j->target = target_qcow2_new(partial_fd(j->partial), w->file, &o, err);
    return j->target ? 0 : -1;
}

static int start_next(void *opaque, struct loop_job *job, GError **err)
{
    static const struct copy_options options = {.lanes = LANES};
    struct run *run = opaque;
    struct job *j = &run->jobs[run->next];

    if (run->next == run->plan->rewrites->len)
        return 0;
    run->next++;
    if (open_source(run->r, j, err) < 0 || open_target(run->r, j, err) < 0)
        return -1;
    *job = (struct loop_job){.name = j->rewrite->file,
                             .expected = j->source->expected,
                             .size = j->rewrite->disk->size,
                             .opaque = j,
                             .copy = copy_start(j->source, j->target, &options, err)};
    return job->copy ? 1 : -1;
}

/* The file is whole: give it its name, and make all of it durable. */
static int copy_ended(void *opaque, const struct loop_job *job, const struct copy_progress *p,
                      const GError *why, GError **err)
{
    struct run *run = opaque;
    struct job *j = job->opaque;
    g_autofree char *sums_path = repo_sums_path(run->r, j->rewrite->file);

    (void)p;
    if (why) {
        g_propagate_prefixed_error(err, g_error_copy(why), "%s: ", j->rewrite->file);
        return -1;
    }
    j->bytes = target_qcow2_file_size(j->target);
    j->sums_hash = sums_write(j->sums, sums_path, j->bytes, err);
    if (!j->sums_hash || partial_commit(j->partial, err) < 0)
        return -1;
    job_end(j);
    return 0;
}

static int write_files(struct run *run, struct progress *p, GError **err)
{
    static const struct loop_ops ops = {.next = start_next, .ended = copy_ended, .fd = -1};

    for (guint i = 0; i < run->plan->rewrites->len; i++)
        run->jobs[i].rewrite = run->plan->rewrites->pdata[i];
    return loop_run(&ops, run, 1, p, err);
}

/* ---- the manifest ---- */

static void set_text(char **field, const char *text)
{
    g_free(*field);
    *field = g_strdup(text);
}

static void apply_rewrite(const struct job *j)
{
    const struct prune_rewrite *w = j->rewrite;
    struct repo_disk *d = w->disk;

    if (d->level != REPO_FULL && w->level == REPO_FULL)
        set_text(&d->reason, "the backups before it were pruned");
    d->level = w->level;
    d->parent = w->parent;
    d->bytes = j->bytes;
    set_text(&d->file, w->file);
    set_text(&d->since, w->since);
    set_text(&d->sums, j->sums_hash);
}

static void apply(struct run *run)
{
    for (guint i = 0; i < run->plan->rewrites->len; i++)
        apply_rewrite(&run->jobs[i]);
    for (guint i = 0; i < run->plan->gone->len; i++)
        g_ptr_array_remove(run->r->members, run->plan->gone->pdata[i]);
}

/* ---- all of it ---- */

static int check_space(const struct repository *r, const struct prune_plan *plan, GError **err)
{
    struct statvfs s;
    char needed[16], there[16];
    uint64_t free_bytes;

    if (statvfs(r->path, &s) < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", r->path, g_strerror(errno));
    free_bytes = (uint64_t)s.f_bavail * s.f_frsize;
    if (plan->need <= free_bytes)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "%s: up to %s are needed for files that are written anew, before others can "
                       "be removed, and %s are free",
                       r->path, size_format(plan->need, needed), size_format(free_bytes, there));
}

/* A backup that was cut may be resumed, and stands on files as they are now. */
static int check_settled(const struct repository *r, GError **err)
{
    g_autofree char *path = repo_path(r, "running.json");

    if (!g_file_test(path, G_FILE_TEST_EXISTS))
        return 0;
    return client_fail(
        err, CLIENT_ERROR_FAILED,
        "%s: a backup was cut and is not settled: the next fleecectl backup does that, "
        "and has to come before a prune",
        path);
}

/* The members have gone; their files go. */
static int remove_old(struct repository *r, GError **err)
{
    GError *error = NULL;

    if (repository_clean(r, NULL, &error) == 0)
        return 0;
    client_fail(err, CLIENT_ERROR_PARTLY,
                "the backups are pruned, but not all of their files are removed: %s",
                error->message);
    g_error_free(error);
    return -1;
}

int prune_run(struct repository *r, const struct prune_plan *plan, struct progress *p, GError **err)
{
    struct run run = {.r = r, .plan = plan, .jobs = g_new0(struct job, plan->rewrites->len + 1)};
    int result = -1;

    if (interrupt_fd(err) < 0 || check_settled(r, err) < 0 || repository_clean(r, NULL, err) < 0 ||
        check_space(r, plan, err) < 0)
        goto out;
    if (plan->gone->len == 0) {
        result = 0;
        goto out;
    }
    if (write_files(&run, p, err) < 0) {
        for (guint i = 0; i < plan->rewrites->len; i++)
            job_end(&run.jobs[i]);
        repository_clean(r, NULL, NULL); /* the members are still the old ones */
        goto out;
    }
    apply(&run);
    result = repository_save(r, err) < 0 ? -1 : remove_old(r, err);
out:
    run_clear(&run);
    return result;
}
