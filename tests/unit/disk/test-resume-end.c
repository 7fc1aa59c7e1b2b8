/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a disk whose scratch survives the process, while an earlier scratch is still being removed. */
#include "server/disk/scratch-private.h"
#include "tests/rigs/resume-rig.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A call on the scratch file that does not come back before it is let go. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int fd;           /* its close hangs; -1: no */
    const char *path; /* its removal does; NULL: no */
    bool begun;
} hanging = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1, NULL, false};

static bool hangs(int fd, const char *path)
{
    return (fd >= 0 && fd == hanging.fd) || (path && g_strcmp0(path, hanging.path) == 0);
}

static void pass(int fd, const char *path)
{
    pthread_mutex_lock(&hanging.lock);
    while (hangs(fd, path)) {
        hanging.begun = true;
        pthread_cond_broadcast(&hanging.changed);
        pthread_cond_wait(&hanging.changed, &hanging.lock);
    }
    pthread_mutex_unlock(&hanging.lock);
}

/* They stand in for the C library's. */
int close(int fd)
{
    pass(fd, NULL);
    return (int)syscall(SYS_close, fd);
}

int unlink(const char *path)
{
    pass(-1, path);
    return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
}

static void hang(int fd, const char *path)
{
    pthread_mutex_lock(&hanging.lock);
    hanging.fd = fd;
    hanging.path = path;
    hanging.begun = false;
    pthread_cond_broadcast(&hanging.changed);
    pthread_mutex_unlock(&hanging.lock);
}

static void wait_begun(void)
{
    pthread_mutex_lock(&hanging.lock);
    while (!hanging.begun)
        pthread_cond_wait(&hanging.changed, &hanging.lock);
    pthread_mutex_unlock(&hanging.lock);
}

/* The scratch of a view is ended by a thread of its own. */
static void take(struct resume_rig *f)
{
    resume_rig_init(f);
    resume_rig_open(f);
    f->disk->holding.may_block = false;
    resume_rig_take(f, "a");
    f->disk->holding.may_block = false; /* an instant says so, too */
}

/* The disk is not ended, and so its store is not, either. */
static void test_removal_hangs(void)
{
    struct lasting_head head;
    struct resume_rig f;

    take(&f);
    close(left_open(&f, "scratch", &head));
    hang(-1, head.scratch.path);
    resume_rig_delete_all(&f);
    wait_begun();
    f.disk->leaving_usec = 0;
    g_assert_false(disk_free(f.disk));
    f.disk->leaving_usec = LEAVING_USEC;
    hang(-1, NULL);
    resume_rig_close(&f);
    resume_rig_clear(&f);
}

/* What a large file has on disk is freed, which takes long. Nobody waits for that. */
static void test_close_hangs(void)
{
    struct resume_rig f;

    take(&f);
    hang(f.disk->scratch->fd, NULL);
    resume_rig_delete_all(&f);
    wait_begun();
    resume_rig_close(&f);
    hang(-1, NULL);
    resume_rig_clear(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/removal-hangs", test_removal_hangs);
    g_test_add_func("/resume/close-hangs", test_close_hangs);
    return g_test_run();
}
