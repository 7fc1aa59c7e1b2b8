/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All that can be refused is looked at before a byte is written: first the chains of all disks, then
 * all targets. A target has its name only when it is whole (client/pull/destination.h); one that was
 * there before, and is written in place, is not as it was when a restore fails.
 */
#include "client/repo/restore.h"
#include "client/base/error.h"
#include "client/base/interrupt.h"
#include "client/pull/copy-error.h"
#include "client/pull/loop.h"
#include "client/pull/stream-source.h"
#include "client/repo/chain.h"
#include "client/repo/repo-guard.h"
#include "common/copy/source-image.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Bytes of buffers of all copies together, and of one. */
#define MEMORY     (64 << 20)
#define COPY_LIMIT (32 << 20)
#define LANES      4

/* A disk that is to be restored. */
struct task {
    char *disk;   /* as it is called to people */
    char *target; /* its own */
    uint64_t size;
    enum destination_format format; /* of the target */
    struct q2_image *image;         /* NULL: the source is there from the beginning */
    struct copy_source *source;
    struct destination *destination;
};

struct run {
    const struct restore_options *o;
    GPtrArray *tasks; /* struct task * */
    guint next;
    GPtrArray *done; /* struct restored * */
};

void restored_free(struct restored *r)
{
    g_free(r->disk);
    g_free(r->target);
    g_free(r);
}

static void task_free(void *data)
{
    struct task *t = data;

    destination_free(t->destination);
    copy_source_free(t->source);
    q2_image_close(t->image);
    g_free(t->disk);
    g_free(t->target);
    g_free(t);
}

/* Takes over the image. */
static struct task *add_task(GPtrArray *tasks, const char *disk, const char *target, uint64_t size,
                             struct q2_image *image)
{
    struct task *t = g_new0(struct task, 1);

    t->disk = g_strdup(disk);
    t->target = g_strdup(target);
    t->size = size;
    t->image = image;
    g_ptr_array_add(tasks, t);
    return t;
}

/* ---- copying ---- */

static unsigned lanes(const struct restore_options *o)
{
    return o->to.lanes > 0 ? o->to.lanes : LANES;
}

static int start_next(void *opaque, struct loop_job *job, GError **err)
{
    struct run *run = opaque;
    struct copy_options options = {.lanes = lanes(run->o),
                                   .memory = MIN(COPY_LIMIT, MEMORY / MAX(run->o->jobs, 1)),
                                   .detect_zeroes = run->o->to.detect_zeroes};
    struct task *t;

    if (run->next == run->tasks->len)
        return 0;
    t = run->tasks->pdata[run->next++];
    *job = (struct loop_job){
        .name = t->disk,
        .expected = t->source->expected,
        .size = t->size,
        .opaque = t,
        .copy = copy_start(t->source, destination_target(t->destination), &options, err)};
    if (job->copy)
        return 1;
    g_prefix_error(err, "%s: ", t->disk);
    return -1;
}

static int copy_ended(void *opaque, const struct loop_job *job, const struct copy_progress *p,
                      const GError *why, GError **err)
{
    struct task *t = job->opaque;
    struct run *run = opaque;
    struct restored *r;

    if (why) {
        g_propagate_prefixed_error(err, g_error_copy(why), "%s: ", t->disk);
        copy_error_convert(err);
        return -1;
    }
    if (destination_commit(t->destination, err) < 0) {
        g_prefix_error(err, "%s: ", t->disk);
        return -1;
    }
    r = g_new0(struct restored, 1);
    r->disk = g_strdup(t->disk);
    r->target = g_strdup(t->target);
    r->size = t->size;
    r->format = t->format;
    r->copied = *p;
    g_ptr_array_add(run->done, r);
    return 0;
}

/* A target that is being opened. */
struct opening {
    struct task *task;
    struct destination_options to;
};

static int open_destination(void *opaque, GError **err)
{
    struct opening *o = opaque;

    o->task->destination = destination_open(&o->to, o->task->size, err);
    return o->task->destination ? 0 : -1;
}

/* A server, and who reads a stream, may keep us waiting, and nothing is there yet that had to be
 * removed: it is the only target then. */
static int open_waiting(struct opening *o, GError **err)
{
    bool waits = destination_is_uri(o->to.target) || strcmp(o->to.target, "-") == 0;
    int result = waits ? interrupt_work(open_destination, o, err) : open_destination(o, err);

    if (result < 0)
        copy_error_convert(err);
    return result;
}

static int open_target(struct task *t, const struct restore_options *o, GError **err)
{
    struct opening opening = {.task = t, .to = o->to};

    opening.to.target = t->target;
    t->format = destination_choose_format(&opening.to);
    opening.to.lanes = lanes(o);
    if (!t->source)
        t->source = source_image_new(t->image, UINT_MAX, opening.to.lanes, err);
    if (!t->source)
        return -1;
    /* The size in a header is one of whole sectors; the disk's may be less. */
    t->source->size = t->size;
    opening.to.source = t->source;
    return open_waiting(&opening, err);
}

static gint by_disk(gconstpointer a, gconstpointer b)
{
    const struct restored *const *x = a, *const *y = b;

    return strcmp((*x)->disk, (*y)->disk);
}

/* Restore all tasks, whose images are open. */
static int run_tasks(GPtrArray *tasks, const struct restore_options *o, struct progress *p,
                     GPtrArray *done, GError **err)
{
    static const struct loop_ops ops = {.next = start_next, .ended = copy_ended, .fd = -1};
    struct run run = {.o = o, .tasks = tasks, .done = done};
    GError *error = NULL;

    if (interrupt_fd(err) < 0)
        return -1;
    for (guint i = 0; i < tasks->len; i++) {
        if (open_target(tasks->pdata[i], o, err) < 0)
            return -1;
    }
    if (loop_run(&ops, &run, MAX(o->jobs, 1), p, &error) == 0) {
        g_ptr_array_sort(done, by_disk);
        return 0;
    }
    if (done->len > 0) {
        client_fail(err, CLIENT_ERROR_PARTLY, "%s (%u of %u disks are restored)", error->message,
                    done->len, tasks->len);
        g_error_free(error);
        return -1;
    }
    g_propagate_error(err, error);
    return -1;
}

/* ---- what is restored ---- */

static void note(const struct restore_options *o, const char *text)
{
    if (o->note)
        o->note(text);
}

/* What verify has found damaged would be wrong data, with exit code 0. */
static int look_for_doubt(const struct repository *r, const struct repo_member *m, const char *disk,
                          const struct restore_options *o, GError **err)
{
    g_autofree char *doubt = repo_chain_doubt(r, m, disk);
    g_autofree char *text = NULL;

    if (!doubt)
        return 0;
    if (!o->to.force)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "disk %s: %s: %s (--force restores it nevertheless; verify --deep looks "
                           "again)",
                           disk, r->path, doubt);
    text = g_strdup_printf("warning: disk %s: %s: %s: what is restored may be wrong", disk, r->path,
                           doubt);
    note(o, text);
    return 0;
}

/* Open the chain of a disk, and add the task. */
static int prepare(const struct repository *r, const struct repo_member *m, const char *disk,
                   const char *target, const struct restore_options *o, GPtrArray *tasks,
                   GError **err)
{
    g_autoptr(GPtrArray) chain = repo_chain(r, m, disk, err);
    struct q2_image *image = NULL;

    if (chain && look_for_doubt(r, m, disk, o, err) == 0)
        image = repo_chain_open(r, chain, err);
    if (!image)
        return -1;
    add_task(tasks, disk, target, ((struct repo_disk *)chain->pdata[0])->size, image);
    if (o->to.force && repo_guard_target(r, target, err) < 0)
        return -1;
    return o->verify ? repo_chain_verify(r, chain, chain->len, lanes(o), err) : 0;
}

int restore_disk(const struct repository *r, const struct repo_member *m, const char *disk,
                 const struct restore_options *o, struct progress *p, GPtrArray *done, GError **err)
{
    g_autoptr(GPtrArray) tasks = g_ptr_array_new_with_free_func(task_free);

    if (prepare(r, m, disk, o->to.target, o, tasks, err) < 0)
        return -1;
    return run_tasks(tasks, o, p, done, err);
}

/* FOLDER/DISK.raw; the disk's name is that of its folder in the repository, which is safe. */
static char *target_in(const struct restore_options *o, const struct repo_disk *d)
{
    g_autofree char *name = g_path_get_dirname(d->file);

    return g_strdup_printf("%s/%s.%s", o->to.target, name,
                           o->to.format == DESTINATION_QCOW2 ? "qcow2" : "raw");
}

static int make_folder(const char *path, bool *made, GError **err)
{
    struct stat st;

    *made = mkdir(path, 0777) == 0;
    if (*made)
        return 0;
    if (errno != EEXIST)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: cannot make this folder: %s", path,
                           g_strerror(errno));
    if (stat(path, &st) < 0 || !S_ISDIR(st.st_mode))
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: not a folder, which is needed for all disks: --disk restores one",
                           path);
    return 0;
}

/* A backup of some disks only is no reason to think that the others are restored as well. */
static void note_other_disks(const struct repository *r, const struct repo_member *m,
                             const struct restore_options *o)
{
    g_autoptr(GHashTable) told = g_hash_table_new(g_str_hash, g_str_equal);

    for (guint i = r->members->len; i-- > 0;) {
        const struct repo_member *older = r->members->pdata[i];

        for (guint k = 0; older->id < m->id && k < older->disks->len; k++) {
            const char *disk = ((const struct repo_disk *)older->disks->pdata[k])->disk;
            g_autofree char *text = NULL;

            if (repo_member_disk(m, disk) || !g_hash_table_add(told, (void *)disk))
                continue;
            text = g_strdup_printf("note: disk %s is not restored: backup %" PRId64
                                   " does not have it; the newest before it that has is backup "
                                   "%" PRId64,
                                   disk, m->id, older->id);
            note(o, text);
        }
    }
}

int restore_member(const struct repository *r, const struct repo_member *m,
                   const struct restore_options *o, struct progress *p, GPtrArray *done,
                   GError **err)
{
    g_autoptr(GPtrArray) tasks = g_ptr_array_new_with_free_func(task_free);
    bool made = false;
    int result;

    for (guint i = 0; i < m->disks->len; i++) {
        const struct repo_disk *d = m->disks->pdata[i];
        g_autofree char *target = target_in(o, d);

        if (prepare(r, m, d->disk, target, o, tasks, err) < 0)
            return -1;
    }
    note_other_disks(r, m, o);
    if (make_folder(o->to.target, &made, err) < 0)
        return -1;
    result = run_tasks(tasks, o, p, done, err);
    g_ptr_array_set_size(tasks, 0); /* with what is left of files that are not whole */
    if (result < 0 && made)
        rmdir(o->to.target); /* stays, where there is something in it */
    return result;
}

int restore_image(const char *path, const struct restore_options *o, struct progress *p,
                  GPtrArray *done, GError **err)
{
    g_autoptr(GPtrArray) tasks = g_ptr_array_new_with_free_func(task_free);
    struct q2_error error = {0};
    struct q2_image *image;

    if (o->to.force && repo_guard_target(NULL, o->to.target, err) < 0)
        return -1;
    image = q2_image_open(path, Q2_REFERENCES_FOLDER, &error);
    if (!image)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s", error.text);
    add_task(tasks, path, o->to.target, q2_image_size(image), image);
    return run_tasks(tasks, o, p, done, err);
}

int restore_stream(int fd, const char *name, const struct restore_options *o, struct progress *p,
                   GPtrArray *done, GError **err)
{
    g_autoptr(GPtrArray) tasks = g_ptr_array_new_with_free_func(task_free);
    struct copy_source *source;

    if (o->to.force && repo_guard_target(NULL, o->to.target, err) < 0)
        return -1;
    source = stream_source_new(fd, name, err);
    if (!source)
        return -1;
    add_task(tasks, name, o->to.target, source->size, NULL)->source = source;
    return run_tasks(tasks, o, p, done, err);
}
