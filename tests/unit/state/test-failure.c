/* SPDX-License-Identifier: BSD-3-Clause */
/* Files that vanish under a mapping, and the lasting note of a failure. */
#include "common/state/note.h"
#include "server/state/failure.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"

struct watch {
    atomic_uint lost, incomplete;
    _Atomic(struct mapping *) mapping; /* not NULL: the handler asks whether it has `page` */
    size_t page;
    atomic_bool has_page;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

static void lost(void *opaque)
{
    struct watch *w = opaque;

    pthread_mutex_lock(&w->lock);
    w->lost++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

static void wait_lost(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    while (!w->lost)
        pthread_cond_wait(&w->changed, &w->lock);
    pthread_mutex_unlock(&w->lock);
}

static struct watch watch_new(void)
{
    struct watch w;

    memset(&w, 0, sizeof w);
    pthread_mutex_init(&w.lock, NULL);
    pthread_cond_init(&w.changed, NULL);
    return w;
}

static volatile unsigned char *map_file(unsigned pages, int *fd)
{
    void *at;

    *fd = memfd_create("test", MFD_CLOEXEC);
    g_assert_cmpint(ftruncate(*fd, pages * PAGE), ==, 0);
    at = mmap(NULL, pages * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    g_assert_true(at != MAP_FAILED);
    return at;
}

static void incomplete(void *opaque)
{
    struct watch *w = opaque;

    w->incomplete++;
    if (w->mapping)
        w->has_page = mapping_has_page(w->mapping, w->page);
}

static struct mapping *guard(volatile unsigned char *at, size_t length, int fd, struct watch *w)
{
    struct mapping_use use = {.fd = fd, .incomplete = incomplete, .lost = lost, .opaque = w};
    struct mapping *m = mapping_guard((void *)at, length, &use, NULL);

    g_assert_nonnull(m);
    return m;
}

static void test_truncated(void)
{
    struct watch w = watch_new();
    int fd;
    volatile unsigned char *at = map_file(4, &fd);
    struct mapping *m = guard(at, 4 * PAGE, fd, &w);

    at[3 * PAGE] = 1;
    g_assert_false(mapping_is_lost(m));
    g_assert_cmpint(ftruncate(fd, PAGE), ==, 0);
    at[2 * PAGE] = 7; /* goes on */
    g_assert_true(mapping_is_lost(m));
    g_assert_cmpuint(at[2 * PAGE], ==, 7);
    g_assert_cmpuint(at[0], ==, 0);
    wait_lost(&w);
    g_assert_cmpuint(w.lost, ==, 1);
    g_assert_cmpuint(w.incomplete, ==, 0);
    mapping_unguard(m);
    munmap((void *)at, 4 * PAGE);
    close(fd);
}

/* ---- no memory is left ---- */

static char *folder, *lasting;

#define ROOM  4u /* pages */
#define PAGES 8u

/* A file of PAGES pages, of which the first ROOM ones have taken all memory of its file system. NULL:
 * skipped. */
static volatile unsigned char *map_full(char **path, int *fd)
{
    g_autofree char *name = NULL;
    volatile unsigned char *at;

    *path = g_build_filename(folder, "small", NULL);
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        g_test_skip("file systems cannot be mounted here");
        return NULL;
    }
    g_assert_cmpint(mkdir(*path, 0700), ==, 0);
    g_assert_cmpint(mount("tmpfs", *path, "tmpfs", 0, "size=16k"), ==, 0);
    name = g_build_filename(*path, "file", NULL);
    *fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    g_assert_cmpint(ftruncate(*fd, PAGES * PAGE), ==, 0);
    at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, *fd, 0);
    g_assert_true(at != MAP_FAILED);
    for (unsigned p = 0; p < ROOM; p++)
        g_assert_cmpint(pwrite(*fd, "\x01", 1, p * PAGE), ==, 1);
    g_assert_cmpint(pwrite(*fd, "\x01", 1, ROOM * PAGE), <, 0);
    return at;
}

static void unmap_full(volatile unsigned char *at, const char *path, int fd)
{
    munmap((void *)at, PAGES * PAGE);
    close(fd);
    g_assert_cmpint(umount(path), ==, 0);
    g_assert_cmpint(rmdir(path), ==, 0);
}

/* Readers ask the mapping before memory of the process takes the page's place: what is set in it just
 * after that must not be missed. */
static void test_claimed(void)
{
    struct watch w = watch_new();
    g_autofree char *path = NULL;
    int fd;
    volatile unsigned char *at = map_full(&path, &fd);

    if (!at)
        return;
    w.page = ROOM + 1;
    w.mapping = guard(at, PAGES * PAGE, fd, &w);
    at[w.page * PAGE] = 7;
    g_assert_cmpuint(w.incomplete, ==, 1);
    g_assert_true(w.has_page);
    g_assert_cmpuint(at[w.page * PAGE], ==, 7);
    g_assert_false(mapping_has_page(w.mapping, ROOM));
    g_assert_false(mapping_is_lost(w.mapping));
    mapping_unguard(w.mapping);
    unmap_full(at, path, fd);
}

/* As many mappings as the kernel allows: their addresses begin at the result, of *length bytes. */
static void *use_up_mappings(size_t *length)
{
    unsigned char *at;

    *length = (size_t)1 << 32;
    at = mmap(NULL, *length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    g_assert_true(at != MAP_FAILED);
    for (size_t p = PAGE; p < *length; p += 2 * PAGE)
        if (mprotect(at + p, PAGE, PROT_READ) < 0)
            return at;
    munmap(at, *length);
    return NULL;
}

/* One page cannot be replaced, since that would need two more mappings: then all of them are. */
static void test_mappings_used_up(void)
{
    struct watch w = watch_new();
    g_autofree char *path = NULL;
    int fd;
    volatile unsigned char *at = map_full(&path, &fd);
    struct mapping *m;
    size_t length;
    void *others;

    if (!at)
        return;
    m = guard(at, PAGES * PAGE, fd, &w);
#ifdef __SANITIZE_THREAD__
    others = NULL; /* the sanitizer itself cannot go on without mappings */
    (void)use_up_mappings;
#else
    others = use_up_mappings(&length);
#endif
    if (others) {
        at[6 * PAGE] = 7; /* goes on */
        munmap(others, length);
        g_assert_true(mapping_is_lost(m));
        g_assert_cmpuint(at[6 * PAGE], ==, 7);
        wait_lost(&w);
    } else {
        g_test_skip(
            "the kernel allows more mappings than anybody needs, or the sanitizer needs some");
    }
    mapping_unguard(m);
    unmap_full(at, path, fd);
}

static void *touch(void *at)
{
    atomic_fetch_or((atomic_uchar *)at, 1);
    return NULL;
}

/* Several threads at once, and more mappings than a chunk of the table has. */
static void test_many(void)
{
    struct watch w = watch_new();
    struct mapping *m[200];
    volatile unsigned char *at[200];
    pthread_t threads[8];
    int fd[200];

    for (unsigned i = 0; i < 200; i++) {
        at[i] = map_file(1, &fd[i]);
        m[i] = guard(at[i], PAGE, fd[i], &w);
    }
    g_assert_cmpint(ftruncate(fd[170], 0), ==, 0);
    for (unsigned i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, touch, (void *)at[170]);
    for (unsigned i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    wait_lost(&w);
    for (unsigned i = 0; i < 200; i++) {
        g_assert_true(mapping_is_lost(m[i]) == (i == 170));
        mapping_unguard(m[i]);
        munmap((void *)at[i], PAGE);
        close(fd[i]);
    }
    g_assert_cmpuint(w.lost, ==, 1);
}

/* What others do with SIGBUS stays. The fault ends the child. */
static void test_foreign(void)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        int fd;
        volatile unsigned char *at = map_file(1, &fd);

        signal(SIGALRM, SIG_DFL);
        alarm(60);
        if (ftruncate(fd, 0) == 0)
            at[0] = 1;
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    /* A sanitizer reports it and exits. */
    g_assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
}

static void test_sent(void)
{
    int status;
    pid_t child;

    fflush(stdout);
    child = fork();
    if (child == 0) {
        alarm(60);
        raise(SIGBUS);
        _exit(0);
    }
    g_assert_cmpint(waitpid(child, &status, 0), ==, child);
    g_assert_true(WIFSIGNALED(status) ? WTERMSIG(status) == SIGBUS : WEXITSTATUS(status) != 0);
}

static void test_lasting(void)
{
    g_assert_cmpint(lasting_note_make(UUID, "/state", "it burns", NULL), ==, 0);
    g_assert_true(lasting_note_there(UUID));
    g_assert_cmpint(lasting_note_make(UUID, "/state", "it burns on", NULL), ==, 0);
    lasting_note_remove(UUID);
    g_assert_false(lasting_note_there(UUID));
    lasting_note_remove(UUID);
}

/* Root has run a server, and somebody else runs the next one. */
static void test_lasting_of_root(void)
{
    if (geteuid() != 0) {
        g_test_skip("only root can be somebody else for a while");
        return;
    }
    g_assert_cmpint(lasting_note_make(UUID, "/state", "it burns", NULL), ==, 0);
    g_assert_cmpint(chmod(folder, 0755), ==, 0);
    g_assert_cmpint(seteuid(65534), ==, 0);
    g_assert_true(lasting_note_there(UUID));
    g_assert_cmpint(seteuid(0), ==, 0);
    g_assert_cmpint(chown(lasting, 65533, 65533), ==, 0); /* it is neither's */
    g_assert_false(lasting_note_there(UUID));
    lasting_note_remove(UUID);
    g_assert_cmpint(symlink("/", lasting), ==, 0);
    g_assert_false(lasting_note_there(UUID));
    lasting_note_remove(UUID);
}

int main(int argc, char **argv)
{
    int result;

    g_test_init(&argc, &argv, NULL);
    folder = g_dir_make_tmp("test-failure-XXXXXX", NULL);
    lasting = g_strdup_printf("%s/nbdfleece-failed-" UUID, folder);
    lasting_note_set_folder(folder);
    g_test_add_func("/failure/mapping/truncated", test_truncated);
    g_test_add_func("/failure/mapping/many", test_many);
    g_test_add_func("/failure/mapping/foreign", test_foreign);
    g_test_add_func("/failure/mapping/sent", test_sent);
    g_test_add_func("/failure/mapping/claimed", test_claimed);
    g_test_add_func("/failure/mapping/used-up", test_mappings_used_up);
    g_test_add_func("/failure/note/lasting", test_lasting);
    g_test_add_func("/failure/note/root", test_lasting_of_root);
    result = g_test_run();
    g_rmdir(folder);
    g_free(folder);
    g_free(lasting);
    return result;
}
