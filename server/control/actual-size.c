/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/control/actual-size.h"

#include <stdatomic.h>
#include <sys/stat.h>

/* An asker waits no longer than this, milliseconds. */
#define WAIT_MS 1000
/* No more threads than this ask about one file at the same time. */
#define MAX_ASKING 4

/* All is the main thread's, except what a question's thread uses. */
struct file {
    char *path;      /* fixed */
    unsigned asking; /* questions about it that are open */
    bool late;       /* one of them was waited for in vain */
    gint64 bytes;    /* -1: unknown */
};

struct actual_sizes {
    unsigned refs;     /* one of the owner, one of each job */
    GHashTable *files; /* struct file by path */
    GQueue jobs;       /* those whose `done` is still to come */
};

/* An asker that waits. */
struct job {
    struct actual_sizes *sizes;
    GPtrArray *open;            /* struct question: not answered yet */
    void (*done)(void *opaque); /* NULL: nobody waits any more */
    void *opaque;
    guint timer;
    GList link;
};

/* Each file has a thread of its own, so that none is unknown because another hangs. */
struct question {
    struct job *job;
    struct file *file;
    _Atomic gint64 bytes; /* the last that the thread touches of it */
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

    s->refs = 1;
    s->files = g_hash_table_new_full(g_str_hash, g_str_equal, NULL, file_free);
    return s;
}

static void unref(struct actual_sizes *s)
{
    if (--s->refs > 0)
        return;
    g_hash_table_unref(s->files);
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
    for (guint i = 0; i < j->open->len; i++) {
        const struct question *q = j->open->pdata[i];

        q->file->late = true;
    }
    tell(j);
    return G_SOURCE_REMOVE;
}

static void end_if_answered(struct job *j)
{
    if (j->open->len > 0)
        return;
    tell(j);
    g_ptr_array_unref(j->open);
    unref(j->sizes);
    g_free(j);
}

static gboolean answered(gpointer question)
{
    struct question *q = question;

    q->file->bytes = atomic_load(&q->bytes);
    q->file->asking--;
    q->file->late = false;
    g_ptr_array_remove_fast(q->job->open, q);
    end_if_answered(q->job);
    g_free(q);
    return G_SOURCE_REMOVE;
}

static gpointer work(gpointer question)
{
    struct question *q = question;
    gint64 bytes = -1;
    struct stat st;

    if (stat(q->file->path, &st) == 0 && S_ISREG(st.st_mode))
        bytes = (gint64)st.st_blocks * 512;
    atomic_store(&q->bytes, bytes);
    g_idle_add_full(G_PRIORITY_DEFAULT, answered, q, NULL);
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

/* A file that did not answer is left out, so that nobody waits for it again. Without a thread, what
 * was known before has to do. */
static void ask(struct job *j, struct file *f)
{
    struct question *q;
    GThread *thread;

    if (f->late || f->asking >= MAX_ASKING)
        return;
    q = g_new0(struct question, 1);
    *q = (struct question){.job = j, .file = f};
    thread = g_thread_try_new("sizes", work, q, NULL);
    if (!thread) {
        g_free(q);
        return;
    }
    g_thread_unref(thread);
    f->asking++;
    g_ptr_array_add(j->open, q);
}

void actual_sizes_refresh(struct actual_sizes *s, const GPtrArray *paths,
                          void (*done)(void *opaque), void *opaque)
{
    struct job *j = g_new0(struct job, 1);

    s->refs++;
    *j = (struct job){.sizes = s, .open = g_ptr_array_new(), .done = done, .opaque = opaque};
    j->link.data = j;
    g_queue_push_tail_link(&s->jobs, &j->link);
    j->timer = g_timeout_add(WAIT_MS, run_out, j);
    for (guint i = 0; i < paths->len; i++)
        ask(j, have_file(s, paths->pdata[i]));
    end_if_answered(j);
}

bool actual_size(struct actual_sizes *s, const char *path, gint64 *bytes)
{
    const struct file *f = g_hash_table_lookup(s->files, path);

    *bytes = f ? f->bytes : -1;
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
