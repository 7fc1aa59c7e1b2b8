/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Views that survive the process. A child process has a disk, takes views and deletes some, while guests
 * write and clients trim views; then it is killed at one of the steps that they go through. The parent
 * has the views back, and compares each, byte by byte, with the copy of the disk that the child had
 * made at the view's instant in memory that both have.
 */
#include "server/disk/view-chain.h"
#include "tests/rigs/resume-rig.h"

#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define GUESTS 3u
#define CHILD  "--be-killed" /* of the process that is */

/* ---- the child ---- */

struct child {
    struct resume_rig *f;
    pthread_rwlock_t stand_still; /* guests hold it while they write */
    atomic_bool stop;
    atomic_uint seed;
};

static int at_point(void *opaque, enum disk_point point, uint64_t offset)
{
    struct resume_rig *f = opaque;

    if (atomic_fetch_sub(&f->shared->left, 1) == 0)
        kill(getpid(), SIGKILL);
    return 0;
}

static void change(struct node_io *io, GRand *r, char *buf)
{
    unsigned block = (unsigned)g_rand_int_range(r, 0, BLOCKS);
    uint64_t offset = (uint64_t)block * BLOCK + (g_rand_boolean(r) ? 0 : 512);
    uint64_t most = (uint64_t)g_rand_int_range(r, 1, 40) * 1024;
    uint64_t length = MIN(SIZE - offset, most);

    switch (g_rand_int_range(r, 0, 8)) {
    case 0:
        node_trim(io, MIN(SIZE - offset, length * 50), offset, 0);
        break;
    case 1:
        node_zero(io, MIN(SIZE - offset, length * 10), offset, 0);
        break;
    default:
        memset(buf, g_rand_int_range(r, 1, 256), length);
        (void)node_write(io, buf, (uint32_t)length, offset, 0);
    }
}

static gpointer guest(gpointer p)
{
    struct child *c = p;
    struct node_io *io = resume_rig_io(disk_node(c->f->disk), true);
    GRand *r = g_rand_new_with_seed(atomic_fetch_add(&c->seed, 1));
    g_autofree char *buf = g_malloc(64 << 10);

    while (!atomic_load(&c->stop)) {
        pthread_rwlock_rdlock(&c->stand_still);
        change(io, r, buf);
        pthread_rwlock_unlock(&c->stand_still);
    }
    return NULL;
}

/* A client trims what it has read, and more of it. */
static void trim_view(struct resume_rig *f, unsigned k, GRand *r)
{
    g_autofree char *name = g_strdup_printf("view%u", k);
    struct view *v = resume_rig_view(f, name);
    struct node_io *io = v ? resume_rig_io(view_node(v), false) : NULL;
    unsigned first = (unsigned)g_rand_int_range(r, 0, BLOCKS - 300);

    if (!io)
        return;
    for (unsigned b = first; b < first + 200; b++)
        f->shared->views[k].trimmed[b] = true;
    node_trim(io, 200 * BLOCK, (uint64_t)first * BLOCK, 0);
    node_io_close(io);
}

static void delete_view(struct resume_rig *f, unsigned k)
{
    g_autofree char *name = g_strdup_printf("view%u", k);
    struct view *v = resume_rig_view(f, name);

    f->shared->views[k].deleting = true;
    if (v)
        (void)view_delete(v, NULL);
}

/* Guests stand still while the disk is copied, and until the instant is over. */
static void take_model(struct child *c, unsigned k)
{
    g_autofree char *name = g_strdup_printf("view%u", k);

    pthread_rwlock_wrlock(&c->stand_still);
    memcpy(c->f->shared->views[k].bytes, c->f->shared->bytes, SIZE);
    resume_rig_take(c->f, name);
    c->f->shared->views[k].taken = true;
    pthread_rwlock_unlock(&c->stand_still);
}

static void live_and_die(struct resume_rig *f, unsigned seed)
{
    struct child c = {.f = f, .seed = seed * 100};
    pthread_rwlockattr_t attr;
    GRand *r = g_rand_new_with_seed(seed);

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&c.stand_still, &attr);
    f->hooks = (struct disk_hooks){.at = at_point, .opaque = f};
    resume_rig_open(f);
    for (unsigned g = 0; g < GUESTS; g++)
        g_thread_new("guest", guest, &c);
    for (unsigned k = 0;; k++) {
        if (k < VIEWS)
            take_model(&c, k);
        g_usleep((gulong)g_rand_int_range(r, 0, 3000));
        trim_view(f, (unsigned)g_rand_int_range(r, 0, VIEWS), r);
        if (k > 2 && k < VIEWS && g_rand_boolean(r))
            delete_view(f, (unsigned)g_rand_int_range(r, 0, (gint)k));
    }
}

/* A process of its own, and not only a fork: this one has threads. */
static void run_child(struct resume_rig *f, unsigned seed)
{
    g_autofree char *fd = g_strdup_printf("%d", f->fd), *number = g_strdup_printf("%u", seed);
    const char *const words[] = {"test-resume-killed", CHILD, f->shm, f->dir, fd, number, NULL};
    int status;
    pid_t pid = fork();

    g_assert_cmpint(pid, >=, 0);
    if (pid == 0) {
        execv("/proc/self/exe", (char **)words);
        _exit(1);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    g_assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static int be_child(char **words)
{
    struct resume_rig f;

    resume_rig_join(&f, words[2], words[3], atoi(words[4]));
    live_and_die(&f, (unsigned)atoi(words[5]));
    return 1;
}

/* ---- what the parent finds ---- */

static void compare(struct view *v, const struct resume_model *m)
{
    struct node_io *io = resume_rig_io(view_node(v), false);
    g_autofree char *buf = g_malloc(BLOCK);

    for (unsigned b = 0; b < BLOCKS; b++) {
        uint64_t offset = (uint64_t)b * BLOCK;
        uint32_t length = (uint32_t)MIN(BLOCK, SIZE - offset);

        if (m->trimmed[b])
            continue;
        g_assert_cmpint(node_read(io, buf, length, offset, 0), ==, 0);
        if (memcmp(buf, m->bytes + offset, length) != 0)
            g_error("view %s: block %u is not as it was", view_name(v), b);
    }
    node_io_close(io);
}

/* All of a view that nobody deletes is there. */
static unsigned compare_all(struct resume_rig *f)
{
    unsigned n = 0;

    for (unsigned k = 0; k < VIEWS; k++) {
        const struct resume_model *m = &f->shared->views[k];
        g_autofree char *name = g_strdup_printf("view%u", k);
        struct view *v = resume_rig_view(f, name);

        if (!m->taken || m->deleting)
            continue;
        g_assert_nonnull(v);
        compare(v, m);
        n++;
    }
    return n;
}

/* Guests go on, and the views stay as they are. */
static void write_on(struct resume_rig *f, unsigned seed)
{
    struct node_io *io = resume_rig_io(disk_node(f->disk), true);
    GRand *r = g_rand_new_with_seed(seed);
    g_autofree char *buf = g_malloc(64 << 10);

    for (unsigned i = 0; i < 200; i++)
        change(io, r, buf);
    g_rand_free(r);
    node_io_close(io);
}

static void claim_all(struct resume_rig *f)
{
    g_autoptr(GPtrArray) views = disk_views(f->disk);

    for (unsigned k = 0; k < views->len; k++)
        ((struct view *)views->pdata[k])->claimed = true;
}

static void test_killed(void)
{
    unsigned runs = g_test_thorough() ? 400 : 40, seen = 0;

    for (unsigned seed = 1; seed <= runs; seed++) {
        struct resume_rig f;

        resume_rig_init(&f);
        GRand *r = g_rand_new_with_seed(seed);
        atomic_store(&f.shared->left, g_rand_int_range(r, 1, g_rand_boolean(r) ? 300 : 6000));
        g_rand_free(r);
        run_child(&f, seed);
        resume_rig_resume(&f);
        seen += compare_all(&f);
        write_on(&f, seed);
        compare_all(&f);
        /* The same once more, after an end in order. */
        claim_all(&f);
        resume_rig_close(&f);
        resume_rig_resume(&f);
        compare_all(&f);
        write_on(&f, seed);
        compare_all(&f);
        resume_rig_delete_all(&f);
        resume_rig_close(&f);
        resume_rig_clear(&f);
    }
    g_test_message("%u views were had back", seen);
    g_assert_cmpuint(seen, >, runs / 4);
}

int main(int argc, char **argv)
{
    if (argc == 6 && g_str_equal(argv[1], CHILD))
        return be_child(argv);
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/killed", test_killed);
    return g_test_run();
}
