/* SPDX-License-Identifier: BSD-3-Clause */
/* The end of a disk whose scratch survives the process, while an earlier scratch is still being closed. */
#include "server/disk/scratch-private.h"
#include "tests/rigs/resume-rig.h"

#include <sys/syscall.h>
#include <unistd.h>

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int hangs; /* the descriptor; -1: none */
    bool begun;
} closing = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, -1, false};

/* It stands in for the C library's. */
int close(int fd)
{
    pthread_mutex_lock(&closing.lock);
    while (fd >= 0 && fd == closing.hangs) {
        closing.begun = true;
        pthread_cond_broadcast(&closing.changed);
        pthread_cond_wait(&closing.changed, &closing.lock);
    }
    pthread_mutex_unlock(&closing.lock);
    return (int)syscall(SYS_close, fd);
}

static void hang(int fd)
{
    pthread_mutex_lock(&closing.lock);
    closing.hangs = fd;
    pthread_cond_broadcast(&closing.changed);
    pthread_mutex_unlock(&closing.lock);
}

static void wait_begun(void)
{
    pthread_mutex_lock(&closing.lock);
    while (!closing.begun)
        pthread_cond_wait(&closing.changed, &closing.lock);
    pthread_mutex_unlock(&closing.lock);
}

/* The disk is not ended, and so its store is not, either. */
static void test_close_hangs(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_open(&f);
    f.disk->holding.may_block = false;
    resume_rig_take(&f, "a");
    f.disk->holding.may_block = false; /* an instant says so, too */
    hang(f.disk->scratch->fd);
    resume_rig_delete_all(&f);
    wait_begun();
    f.disk->closing_usec = 0;
    g_assert_false(disk_free(f.disk));
    f.disk->closing_usec = CLOSING_USEC;
    hang(-1);
    resume_rig_close(&f);
    resume_rig_clear(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/close-hangs", test_close_hangs);
    return g_test_run();
}
