/* SPDX-License-Identifier: BSD-3-Clause */
/* Views that are to survive the process, while the file system in memory is full. */
#include "tests/rigs/resume-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The file system in memory is full. Takes the place of libc's. */
static atomic_bool no_memory;

int fallocate(int fd, int mode, off_t offset, off_t length)
{
    if (atomic_load(&no_memory)) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_fallocate, fd, mode, offset, length);
}

/* A part of a map goes to memory of the process: the view is as good as ever, but it cannot be had back,
 * and neither can the older one, which needs it. A newer one can. */
static void test_map_full(void)
{
    struct resume_rig f;
    struct view *b;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    b = resume_rig_take(&f, "b");
    resume_rig_write(&f, 0, 0x7f);
    atomic_store(&no_memory, true);
    resume_rig_write(&f, 2000, 0x7f);
    atomic_store(&no_memory, false);
    resume_rig_write(&f, 2001, 0x7f);
    resume_rig_take(&f, "c");
    resume_rig_write(&f, 0, 0x66);
    g_assert_false(view_is_broken(b));
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    g_assert_true(resume_rig_block_is(&f, "b", 2000, 1));
    g_assert_true(resume_rig_block_is(&f, "b", 2001, 2));
    g_assert_true(resume_rig_block_is(&f, "a", 2001, 2));
    resume_rig_die(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 1);
    g_assert_cmpstr(disk_lost_views(f.disk), ==,
                    "not all that view b and older ones had kept was where it survives the server");
    g_assert_true(resume_rig_block_is(&f, "c", 0, 0x7f));
    resume_rig_end(&f);
}

/* A view without a file of its own, and buffers without memory. */
static void test_no_file(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    atomic_store(&no_memory, true);
    resume_rig_take(&f, "b");
    atomic_store(&no_memory, false);
    resume_rig_write(&f, 0, 0x7f);
    g_assert_true(resume_rig_block_is(&f, "a", 0, 1));
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    resume_rig_die(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 0);
    resume_rig_end(&f);
}

static void test_no_buffers(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    resume_rig_write(&f, 2000, 0x7f);
    for (unsigned b = 0; b < 40; b++) {
        atomic_store(&no_memory, b >= 15);
        resume_rig_write(&f, 2001 + b, 0x7f);
    }
    atomic_store(&no_memory, false);
    resume_rig_die(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 1);
    for (unsigned b = 0; b < 41; b++)
        g_assert_true(resume_rig_block_is(&f, "a", 2000 + b, (char)((2000 + b) % 250 + 1)));
    resume_rig_end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/map-full", test_map_full);
    g_test_add_func("/resume/no-file", test_no_file);
    g_test_add_func("/resume/no-buffers", test_no_buffers);
    return g_test_run();
}
