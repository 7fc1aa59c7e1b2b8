/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The start of a server that finds views of the last one: what it leaves for the next if it comes to
 * nothing, what it removes when it has begun, and what it must not touch.
 */
#include "common/state/folder.h"
#include "server/disk/scratch-file.h"
#include "tests/rigs/resume-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- calls that fail; they take the place of libc's ---- */

static atomic_int seeks_until_one_fails = -1;
static atomic_int busy_locks;

off_t lseek(int fd, off_t offset, int whence)
{
    if ((whence == SEEK_DATA || whence == SEEK_HOLE) &&
        atomic_fetch_sub(&seeks_until_one_fails, 1) == 0) {
        errno = EIO;
        return -1;
    }
    return (off_t)syscall(SYS_lseek, fd, offset, whence);
}

int flock(int fd, int operation)
{
    if (atomic_load(&busy_locks) > 0 && atomic_fetch_sub(&busy_locks, 1) > 0) {
        errno = EWOULDBLOCK;
        return -1;
    }
    return (int)syscall(SYS_flock, fd, operation);
}

/* ---- a start that comes to nothing ---- */

/* What the last server has left is judged, and nothing more. */
static void judge(struct resume_rig *f, const char *stale)
{
    resume_rig_open(f);
    f->disk->state.stale = stale;
    disk_resume_views(f->disk);
}

static void assert_both(struct resume_rig *f)
{
    g_assert_true(resume_rig_block_is(f, "a", 0, 1));
    g_assert_true(resume_rig_block_is(f, "a", 5, 6));
    g_assert_true(resume_rig_block_is(f, "b", 0, 1));
    g_assert_true(resume_rig_block_is(f, "b", 5, 0x7f));
}

/* Of the wrong image: when the right one is there, so are the views. */
static void test_wrong_image(void)
{
    struct resume_rig f;

    resume_rig_leave_two(&f);
    resume_rig_next_run(&f);
    judge(&f, "it is another image");
    g_assert_cmpstr(disk_lost_views(f.disk), ==, "it is another image");
    resume_rig_close(&f);
    f.lasting.run++;
    judge(&f, NULL);
    assert_both(&f);
    resume_rig_end(&f);
}

/* A map that cannot be read is no empty one. */
static void test_seek_fails(void)
{
    struct resume_rig f;

    resume_rig_leave_two(&f);
    resume_rig_next_run(&f);
    for (int n = 0; n < 4; n++) {
        atomic_store(&seeks_until_one_fails, n);
        judge(&f, NULL);
        g_assert_cmpint(atomic_load(&seeks_until_one_fails), ==, -1);
        g_assert_null(resume_rig_view(&f, "a"));
        g_assert_nonnull(strstr(disk_lost_views(f.disk), "the map of view "));
        resume_rig_close(&f);
    }
    judge(&f, NULL);
    assert_both(&f);
    resume_rig_end(&f);
}

/* One of the files cannot be read: the others stay. */
static void test_one_of_them(void)
{
    struct lasting_head head, good;
    struct resume_rig f;
    int fd;

    resume_rig_leave_two(&f);
    resume_rig_next_run(&f);
    fd = left_open(&f, "b", &good);
    head = good;
    head.view.unit = 0;
    g_assert_cmpint(pwrite(fd, &head, sizeof head, 0), ==, sizeof head);
    judge(&f, NULL);
    g_assert_null(resume_rig_view(&f, "a"));
    resume_rig_close(&f);
    left_set_head(fd, &good);
    judge(&f, NULL);
    assert_both(&f);
    resume_rig_end(&f);
}

/* The server was killed when the catalogue had it, and before it had removed anything: nobody believes any
 * more what it had not taken over. */
static void test_never_again(void)
{
    g_autofree char *aside = NULL;
    struct lasting_head head;
    struct resume_rig f;

    resume_rig_leave_two(&f);
    close(left_open(&f, "scratch", &head));
    aside = g_strconcat(head.scratch.path, "-aside", NULL);
    resume_rig_next_run(&f);
    g_assert_cmpint(g_rename(head.scratch.path, aside), ==, 0);
    judge(&f, NULL);
    g_assert_nonnull(strstr(disk_lost_views(f.disk), head.scratch.path));
    resume_rig_close(&f);
    g_assert_cmpint(g_rename(aside, head.scratch.path), ==, 0);
    g_assert_cmpuint(resume_rig_count(&f), ==, 0);
    resume_rig_end(&f);
}

/* The same behind a view that cannot be had back, and has not been removed either: the other one can, also
 * the next time. */
static void check_beside(void (*spoil)(struct lasting_view *view))
{
    struct lasting_head head;
    struct resume_rig f;
    int fd;

    resume_rig_leave_two(&f);
    fd = left_open(&f, "a", &head);
    spoil(&head.view);
    left_set_head(fd, &head);
    for (unsigned k = 0; k < 2; k++) {
        resume_rig_next_run(&f);
        judge(&f, NULL);
        g_assert_null(resume_rig_view(&f, "a"));
        g_assert_nonnull(resume_rig_view(&f, "b"));
        resume_rig_die(&f);
    }
    g_assert_cmpuint(resume_rig_count(&f), ==, 1);
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    resume_rig_end(&f);
}

static void unlink_view(struct lasting_view *view)
{
    atomic_store(&view->linked, 0);
}

static void lose_part(struct lasting_view *view)
{
    atomic_store(&view->incomplete, 1);
}

static void test_beside(void)
{
    check_beside(unlink_view);
    check_beside(lose_part);
}

/* The server was killed when it had removed the view that was not whole, and not yet the older one, which is
 * not whole without it. */
static void test_half_removed(void)
{
    g_autofree char *path = NULL;
    struct lasting_head head;
    struct resume_rig f;
    int fd;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    resume_rig_take(&f, "b");
    resume_rig_write(&f, 0, 0x7f);
    resume_rig_take(&f, "c");
    path = g_build_filename(f.shm, STATE_VIEWS, resume_rig_view(&f, "b")->file->id, NULL);
    resume_rig_die(&f);
    fd = left_open(&f, "b", &head);
    lose_part(&head.view);
    left_set_head(fd, &head);
    resume_rig_next_run(&f);
    judge(&f, NULL);
    g_assert_nonnull(resume_rig_view(&f, "c"));
    resume_rig_die(&f);
    g_assert_cmpint(g_unlink(path), ==, 0);
    resume_rig_next_run(&f);
    judge(&f, NULL);
    g_assert_null(resume_rig_view(&f, "a"));
    g_assert_nonnull(resume_rig_view(&f, "c"));
    resume_rig_started(&f);
    resume_rig_end(&f);
}

/* ---- the scratch file of a disk that is not served ---- */

/* Another disk is served, and scratch has moved to another folder, which the caller frees. */
static char *serve_another(struct resume_rig *f)
{
    char *before = f->dir;

    f->dir = g_dir_make_tmp("resume-scratch-XXXXXX", NULL);
    f->id = 77;
    resume_rig_resume(f);
    return before;
}

static void test_another_disk(void)
{
    g_autofree char *before = NULL;
    struct resume_rig f;

    resume_rig_leave_two(&f);
    before = serve_another(&f);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 0);
    g_assert_cmpuint(count_files(before), ==, 0);
    g_assert_cmpint(g_rmdir(before), ==, 0);
    resume_rig_end(&f);
}

/* Its server is still about to die. What says where the file is stays, and does not disturb. */
static void test_still_locked(void)
{
    g_autofree char *before = NULL, *now = NULL;
    struct lasting_head head;
    struct resume_rig f;
    int fd;

    resume_rig_leave_two(&f);
    close(left_open(&f, "scratch", &head));
    fd = open(head.scratch.path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(flock(fd, LOCK_EX), ==, 0);
    before = serve_another(&f);
    g_assert_cmpuint(count_files(before), ==, 1);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 1);
    now = f.dir;
    resume_rig_close(&f);
    f.id = 7;
    g_assert_cmpuint(resume_rig_count(&f), ==, 0);
    g_assert_null(disk_lost_views(f.disk));
    g_assert_cmpuint(count_files(before), ==, 1);
    resume_rig_close(&f);
    close(fd);
    resume_rig_resume(&f);
    g_assert_cmpuint(count_files(before), ==, 0);
    g_assert_cmpint(g_rmdir(before), ==, 0);
    f.dir = g_steal_pointer(&now);
    resume_rig_end(&f);
}

/* ---- a path that is another file's by now ---- */

/* Somebody else's. */
static void replace(const char *path)
{
    g_autofree char *other = g_strconcat(path, "-other", NULL);

    g_assert_true(g_file_set_contents(other, "x", 1, NULL));
    g_assert_cmpint(g_rename(other, path), ==, 0);
}

static void test_replaced_later(void)
{
    struct lasting_head head;
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    close(left_open(&f, "scratch", &head));
    replace(head.scratch.path);
    resume_rig_delete_all(&f);
    resume_rig_close(&f);
    g_assert_cmpint(g_unlink(head.scratch.path), ==, 0);
    resume_rig_clear(&f);
}

static void test_replaced_before(void)
{
    g_autofree char *before = NULL;
    struct lasting_head head;
    struct resume_rig f;

    resume_rig_leave_two(&f);
    close(left_open(&f, "scratch", &head));
    replace(head.scratch.path);
    before = serve_another(&f);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 0);
    g_assert_cmpint(g_unlink(head.scratch.path), ==, 0);
    g_assert_cmpint(g_rmdir(before), ==, 0);
    resume_rig_end(&f);
}

/* ---- a server that takes its time to die ---- */

static void test_busy_lock(void)
{
    struct resume_rig f;

    resume_rig_leave_two(&f);
    atomic_store(&busy_locks, 3);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    g_assert_cmpint(atomic_load(&busy_locks), <=, 0);
    assert_both(&f);
    resume_rig_end(&f);
}

/* ---- names ---- */

/* A view that was given up is still in the chain, when another one has its name. */
static void test_same_name(void)
{
    struct lasting_head head;
    struct resume_rig f;
    struct view *v;
    int fd;

    resume_rig_leave_two(&f);
    fd = left_open(&f, "a", &head);
    head.view.name[0] = 'b';
    head.view.state = VIEW_RETIRING;
    left_set_head(fd, &head);
    g_assert_cmpuint(resume_rig_count(&f), ==, 1);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 3);
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    g_assert_true(resume_rig_block_is(&f, "b", 5, 0x7f));
    v = resume_rig_take(&f, "c"); /* an instant takes it out */
    g_assert_cmpuint(f.disk->strays->len, ==, 0);
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 2 * BLOCK);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 3);
    g_assert_true(resume_rig_block_is(&f, view_name(v), 0, 0x7f));
    resume_rig_end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/wrong-image", test_wrong_image);
    g_test_add_func("/resume/seek-fails", test_seek_fails);
    g_test_add_func("/resume/one-of-them", test_one_of_them);
    g_test_add_func("/resume/never-again", test_never_again);
    g_test_add_func("/resume/beside", test_beside);
    g_test_add_func("/resume/half-removed", test_half_removed);
    g_test_add_func("/resume/another-disk", test_another_disk);
    g_test_add_func("/resume/still-locked", test_still_locked);
    g_test_add_func("/resume/replaced-later", test_replaced_later);
    g_test_add_func("/resume/replaced-before", test_replaced_before);
    g_test_add_func("/resume/busy-lock", test_busy_lock);
    g_test_add_func("/resume/same-name", test_same_name);
    return g_test_run();
}
