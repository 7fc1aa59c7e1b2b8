/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The model test of checkpoints and backup sessions: a guest writes, checkpoints, users' bitmaps and
 * sessions come and go, disks change their size, and the server is stopped or killed, all at random.
 * Everything is compared with a simple model (tests/rigs/backup-model.h says how).
 *
 *   FLEECE_SEED         the seed; without it the test chooses one, and prints it. A server's threads
 *                       have no seed, so it repeats the plan, and not always the moment of a kill.
 *   FLEECE_MODEL_STEPS  how many steps
 *   FLEECE_LONG         many more of them
 */
#include "common/util/log.h"
#include "tests/rigs/backup-model.h"

#include <glib/gstdio.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/state/memory.h"
#include "common/state/note.h"

#if defined __SANITIZE_THREAD__
#define DEFAULT_STEPS 20000u
#elif defined __SANITIZE_ADDRESS__
#define DEFAULT_STEPS 100000u
#else
#define DEFAULT_STEPS 300000u
#endif
#define LONG_TIMES 50u

/* ---- a child ---- */

/* How a server's life ends. */
struct fate {
    bool killed;
    bool early;   /* it may already be at the start */
    bool command; /* in the first command after `end` */
    long fuse;    /* points of its life that are left then, or altogether */
    uint64_t end; /* step */
};

static struct fate choose_fate(struct model *m)
{
    struct fate f = {.killed = !model_once_in(m, 3), .early = model_once_in(m, 4)};
    uint64_t end = m->steps + model_below(m, 2000);

    f.command = f.killed && !f.early && model_once_in(m, 2);
    f.fuse = (long)model_below(m, 64u << model_below(m, f.command ? 4 : 11)) + 1;
    f.end = f.killed && !f.command ? m->limit : MIN(m->limit, end);
    return f;
}

static void step(struct life *l, uint32_t what)
{
    l->m->steps++;
    if (what < 8)
        bitmap_step(l);
    else if (what < 18)
        checkpoint_step(l);
    else if (what < 30)
        session_step(l);
    else if (what < 32)
        resize_step(l);
    else if (what < 33)
        lease_step(l);
    else if (what < 50)
        trim_step(l);
    else if (what < 200)
        view_step(l);
    else
        guest_step(l);
    if (what < 32)
        check_all(l);
}

static void live(struct model *m, const char *top)
{
    struct fate f = choose_fate(m);
    struct life l;

    /* Every child has the parent's generator, which would make the same UUIDs again. */
    g_random_set_seed((guint32)model_random(m));
    m->may_have_orphans = false;
    fuse_set(m, f.killed && f.early ? f.fuse : -1);
    life_begin(&l, m, top);
    learn(&l);
    if (f.killed && !f.early && !f.command)
        fuse_set(m, f.fuse);
    while (m->steps < f.end)
        step(&l, model_below(m, 1000));
    for (fuse_set(m, f.command ? f.fuse : -1); f.command;)
        step(&l, model_below(m, 32));
    if (model_once_in(m, 2))
        sessions_end_all(&l);
    check_all(&l);
    life_end(&l);
    m->count.stops++;
}

/* ---- the parent ---- */

/* After a stop in order, the folder has a file for each persistent bitmap, and no other. */
static void check_files(struct model *m, const char *top)
{
    g_autofree char *path = g_build_filename(top, "state", "bits", NULL);
    g_autoptr(GDir) dir = g_dir_open(path, 0, NULL);
    unsigned want = 0, got = 0;

    for (unsigned d = 0; d < DISKS; d++) {
        for (unsigned i = 0; i < BITMAPS; i++)
            want += m->bitmaps[d][i].used && m->bitmaps[d][i].persistent;
        for (unsigned i = 0; i < CHECKPOINTS; i++)
            want += m->checkpoints[i].used && m->checkpoints[i].on[d];
    }
    while (g_dir_read_name(dir))
        got++;
    model_check(m, got == want || (got > want && m->may_have_orphans),
                "%u files of bits are left, not %u", got, want);
}

/* True: it was stopped in order. */
static bool wait_for(struct model *m, pid_t pid)
{
    int status;

    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    model_check(m, WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
                "the server has ended with status 0x%x", (unsigned)status);
    m->count.kills++;
    return false;
}

static void run_lives(struct model *m, const char *top)
{
    bool stopped = false;

    while (m->steps < m->limit || !stopped) {
        pid_t pid;

        fflush(stdout);
        pid = fork();
        g_assert_cmpint(pid, >=, 0);
        if (pid == 0) {
            live(m, top);
            fflush(stdout);
            _exit(0);
        }
        stopped = wait_for(m, pid);
        if (stopped)
            check_files(m, top);
    }
}

static uint64_t number_from(const char *variable, uint64_t otherwise)
{
    const char *text = g_getenv(variable);

    return text ? g_ascii_strtoull(text, NULL, 0) : otherwise;
}

static struct model *new_model(void)
{
    static const uint32_t sectors[DISKS] = {2048, 2437, 4101};
    uint64_t steps = g_getenv("FLEECE_LONG") ? (uint64_t)DEFAULT_STEPS * LONG_TIMES : DEFAULT_STEPS;
    struct model *m =
        mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    g_assert(m != MAP_FAILED);
    m->seed = m->random = number_from("FLEECE_SEED", (uint64_t)g_test_rand_int() & INT32_MAX);
    m->limit = number_from("FLEECE_MODEL_STEPS", steps);
    for (unsigned d = 0; d < DISKS; d++)
        m->now[d].sectors = m->image_sectors[d] = sectors[d];
    return m;
}

static char *new_folder(void)
{
    char *top = g_strdup("/dev/shm/test-backup-XXXXXX"); /* a sync of a busy disk takes long */

    if (g_mkdtemp(top))
        return top;
    g_free(top);
    return g_dir_make_tmp("test-backup-XXXXXX", NULL);
}

static void tell(const struct model *m)
{
    const unsigned *cut = m->count.cut;

    g_test_message("%" PRIu64 " steps, %u instants, %u stops, %u commands refused, %" PRIu64
                   " sectors of views compared",
                   m->steps, m->count.instants, m->count.stops, m->count.refused,
                   m->count.compared);
    g_test_message(
        "sessions: %u begun, %u committed, %u aborted, %u of them by themselves, %u resumed",
        m->count.begun, m->count.committed, m->count.aborted, m->count.ended, m->count.resumed);
    g_test_message("%u kills, in the middle of %u writes, %u creations and %u deletions of "
                   "checkpoints, %u beginnings and %u ends of sessions, %u changes of bitmaps, %u "
                   "resizes",
                   m->count.kills, m->count.cut_changes, cut[PENDING_CREATE], cut[PENDING_DELETE],
                   cut[PENDING_BEGIN], cut[PENDING_END], cut[PENDING_BITMAP], cut[PENDING_RESIZE]);
}

static void test_model(void)
{
    struct model *m = new_model();
    g_autofree char *top = new_folder();
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", top);

    g_test_message("FLEECE_SEED=%" PRIu64, m->seed);
    memory_set_folder(top);
    lasting_note_set_folder(top);
    run_lives(m, top);
    tell(m);
    g_assert_cmpint(system(command), ==, 0);
    munmap(m, sizeof *m);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    log_setup(g_getenv("FLEECE_MODEL_LOG") ? LOG_TO_STDERR : LOG_TO_NULL, "test-model", false);
    g_test_add_func("/backup/model", test_model);
    return g_test_run();
}
