/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/actual-size.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

/* How long whoever asks waits at most, milliseconds. */
#define WAIT_MS 1000
/* How many threads ask about one file at the same time at most. */
#define MAX_ASKING 4

struct file {
    char *path;
    /* under `lock` */
    unsigned asking; /* threads that ask about it just now */
    bool late;       /* one of them has been waited for in vain */
    gint64 bytes;    /* -1: unknown */
};

struct actual_sizes {
    atomic_uint refs; /* one of the owner, one of each job */
    pthread_mutex_t lock;
    GHashTable *files; /* struct file by path; the main thread's */
    GQueue jobs;       /* those whose `done` is still to come; the main thread's */
};

/* A thread and the one who waits for it. */
struct job {
    struct actual_sizes *sizes;
    GPtrArray *files;           /* struct file: in the order in which the thread asks */
    struct file *at;            /* under sizes->lock: what it asks about; NULL: nothing */
    void (*done)(void *opaque); /* NULL: nobody waits any more */
    void *opaque;
    guint timer;
    GList link;
};

static void file_free(gpointer p)
{
    struct file *f = p;

    g_free(f->path);
    g_free(f);
}

struct actual_sizes *actual_sizes_new(void)
{
    struct actual_sizes *s = g_new0(struct actual_sizes, 1);

    atomic_init(&s->refs, 1);
    pthread_mutex_init(&s->lock, NULL);
    s->files = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, file_free);
    return s;
}

static void unref(struct actual_sizes *s)
{
    if (atomic_fetch_sub(&s->refs, 1) != 1)
        return;
    g_hash_table_unref(s->files);
    pthread_mutex_destroy(&s->lock);
    g_free(s);
}

static void tell(struct job *j)
{
    void (*done)(void *opaque) = j->done;

    if (!done)
        return;
    j->done = NULL;
    if (j->timer)
        g_source_remove(j->timer);
    g_queue_unlink(&j->sizes->jobs, &j->link);
    done(j->opaque);
}

static gboolean run_out(gpointer job)
{
    struct job *j = job;

    j->timer = 0;
    pthread_mutex_lock(&j->sizes->lock);
    if (j->at)
        j->at->late = true;
    pthread_mutex_unlock(&j->sizes->lock);
    tell(j);
    return G_SOURCE_REMOVE;
}

static gboolean job_ends(gpointer job)
{
    struct job *j = job;

    tell(j);
    g_ptr_array_unref(j->files);
    unref(j->sizes);
    g_free(j);
    return G_SOURCE_REMOVE;
}

/* Under `lock`. Does it answer, as far as we know? */
static bool may_ask(const struct file *f)
{
    return !f->late && f->asking < MAX_ASKING;
}

static bool begin_asking(struct job *j, struct file *f)
{
    bool may;

    pthread_mutex_lock(&j->sizes->lock);
    may = may_ask(f);
    if (may) {
        f->asking++;
        j->at = f;
    }
    pthread_mutex_unlock(&j->sizes->lock);
    return may;
}

static void ask(struct job *j, struct file *f)
{
    gint64 bytes = -1;
    struct stat st;

    if (!begin_asking(j, f))
        return;
    if (stat(f->path, &st) == 0 && S_ISREG(st.st_mode))
        bytes = (gint64)st.st_blocks * 512;
    pthread_mutex_lock(&j->sizes->lock);
    j->at = NULL;
    f->asking--;
    f->late = false;
    f->bytes = bytes;
    pthread_mutex_unlock(&j->sizes->lock);
}

static gpointer work(gpointer job)
{
    struct job *j = job;

    for (guint i = 0; i < j->files->len; i++)
        ask(j, j->files->pdata[i]);
    g_idle_add_full(G_PRIORITY_DEFAULT, job_ends, j, NULL);
    return NULL;
}

static struct file *have_file(struct actual_sizes *s, const char *path)
{
    struct file *f = g_hash_table_lookup(s->files, path);

    if (f)
        return f;
    f = g_new0(struct file, 1);
    f->path = g_strdup(path);
    f->bytes = -1;
    g_hash_table_insert(s->files, f->path, f);
    return f;
}

/* Those that do not answer are left out, so that nobody waits for them again. */
static GPtrArray *choose(struct actual_sizes *s, const GPtrArray *paths)
{
    GPtrArray *files = g_ptr_array_new();

    for (guint i = 0; i < paths->len; i++) {
        struct file *f = have_file(s, paths->pdata[i]);

        pthread_mutex_lock(&s->lock);
        if (may_ask(f))
            g_ptr_array_add(files, f);
        pthread_mutex_unlock(&s->lock);
    }
    return files;
}

static void start(struct job *j)
{
    GThread *thread = NULL;

    if (j->files->len > 0)
        thread = g_thread_try_new("sizes", work, j, NULL);
    if (thread)
        g_thread_unref(thread);
    else
        job_ends(j); /* with what was known before */
}

void actual_sizes_refresh(struct actual_sizes *s, const GPtrArray *paths,
                          void (*done)(void *opaque), void *opaque)
{
    struct job *j = g_new0(struct job, 1);

    atomic_fetch_add(&s->refs, 1);
    *j = (struct job){.sizes = s, .files = choose(s, paths), .done = done, .opaque = opaque};
    j->link.data = j;
    g_queue_push_tail_link(&s->jobs, &j->link);
    j->timer = g_timeout_add(WAIT_MS, run_out, j);
    start(j);
}

bool actual_size(struct actual_sizes *s, const char *path, gint64 *bytes)
{
    struct file *f = g_hash_table_lookup(s->files, path);

    *bytes = -1;
    if (!f)
        return false;
    pthread_mutex_lock(&s->lock);
    *bytes = f->bytes;
    pthread_mutex_unlock(&s->lock);
    return *bytes >= 0;
}

void actual_sizes_free(struct actual_sizes *s)
{
    if (!s)
        return;
    while (s->jobs.head)
        tell(s->jobs.head->data);
    unref(s);
}
