/* SPDX-License-Identifier: BSD-3-Clause */
/* Views that an earlier process has left: what it was in the middle of, and what goes on. */
#include "server/disk/view-chain.h"
#include "tests/rigs/resume-rig.h"

#include <string.h>

/* Blocks that are in memory, and others in the file. */
static void test_buffers(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    for (unsigned b = 0; b < 20; b++)
        resume_rig_write(&f, b, 0x7f);
    g_assert_cmpuint(resume_rig_count_lasting(&f), ==, 2);
    g_assert_cmpuint(count_files(f.dir), ==, 1);
    resume_rig_die(&f);
    resume_rig_resume(&f);
    for (unsigned b = 0; b < 21; b++)
        g_assert_true(resume_rig_block_is(&f, "a", b, (char)(b + 1)));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 20 * BLOCK);
    resume_rig_write(&f, 20, 0x7f);
    g_assert_true(resume_rig_block_is(&f, "a", 20, 21));
    resume_rig_delete_all(&f);
    resume_rig_close(&f);
    resume_rig_clear(&f);
}

/* Nobody claims it: an end in order leaves nothing. */
static void test_end(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    resume_rig_write(&f, 0, 0x7f);
    resume_rig_close(&f);
    resume_rig_clear(&f);
}

static void test_between_steps(void)
{
    struct resume_rig f;

    resume_rig_leave_two(&f);
    left_set_entry(&f, "a", 0, left_entry(&f, "b", 0)); /* handed over, and not yet taken out */
    left_set_entry(&f, "b", 2, BLOCK_COPYING);
    left_set_entry(&f, "b", 3, BLOCK_CONTENDED);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    for (unsigned b = 0; b < 4; b++)
        g_assert_true(resume_rig_block_is(&f, "a", b, (char)(b + 1)));
    g_assert_true(resume_rig_block_is(&f, "b", 0, 0));
    for (unsigned b = 1; b < 4; b++)
        g_assert_true(resume_rig_block_is(&f, "b", b, (char)(b + 1)));
    g_assert_true(resume_rig_block_is(&f, "a", 5, 6));
    g_assert_true(resume_rig_block_is(&f, "b", 5, 0x7f));
    for (unsigned b = 0; b < 4; b++)
        resume_rig_write(&f, b, 0x66);
    for (unsigned b = 1; b < 4; b++)
        g_assert_true(resume_rig_block_is(&f, "b", b, (char)(b + 1)));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 5 * BLOCK);
    resume_rig_end(&f);
}

/* Slots that nobody has are used again, before the file grows. */
static void test_free_slots(void)
{
    struct resume_rig f;
    struct view *b;

    resume_rig_leave_two(&f);
    left_set_entry(&f, "b", 0, BLOCK_DROPPED);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    b = resume_rig_view(&f, "b");
    resume_rig_write(&f, 9, 0x66);
    g_assert_cmpuint(atomic_load(&b->map[9]), ==, BLOCK_KEPT_SLOT + 1);
    resume_rig_write(&f, 10, 0x66);
    g_assert_cmpuint(atomic_load(&b->map[10]), ==, BLOCK_KEPT_SLOT + 3);
    g_assert_true(resume_rig_block_is(&f, "a", 5, 6));
    g_assert_true(resume_rig_block_is(&f, "b", 1, 2));
    g_assert_true(resume_rig_block_is(&f, "b", 9, 10));
    resume_rig_end(&f);
}

/* It was not in the chain yet, or no longer. */
static void test_not_linked(void)
{
    struct lasting_head head;
    struct resume_rig f;
    int fd;

    resume_rig_leave_two(&f);
    fd = left_open(&f, "a", &head);
    head.view.linked = 0;
    left_set_head(fd, &head);
    g_assert_cmpuint(resume_rig_count(&f), ==, 1);
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    g_assert_null(resume_rig_view(&f, "a"));
    g_assert_cmpuint(scratch_pool_used(f.pool), ==, 2 * BLOCK);
    resume_rig_end(&f);
}

/* One that was being deleted stays for the sake of older ones, and can only be deleted. */
static void test_retiring(void)
{
    struct lasting_head head;
    struct view_info info;
    struct resume_rig f;
    int fd;

    resume_rig_leave_two(&f);
    fd = left_open(&f, "b", &head);
    head.view.state = VIEW_RETIRING;
    left_set_head(fd, &head);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    view_info(resume_rig_view(&f, "b"), &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==, "it was being deleted");
    g_assert_true(resume_rig_block_is(&f, "a", 0, 1));
    resume_rig_write(&f, 2, 0x66);
    g_assert_true(view_delete(resume_rig_view(&f, "b"), NULL) == 0);
    for (unsigned b = 0; b < 3; b++)
        g_assert_true(resume_rig_block_is(&f, "a", b, (char)(b + 1)));
    resume_rig_end(&f);
}

/* A view that broke is still broken. */
static void test_broken(void)
{
    struct view_info info;
    struct resume_rig f;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    view_break(resume_rig_take(&f, "a"), "just so");
    resume_rig_write(&f, 0, 0x7f);
    resume_rig_take(&f, "b");
    resume_rig_die(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    view_info(resume_rig_view(&f, "a"), &info);
    g_assert_true(info.broken);
    g_assert_cmpstr(info.reason, ==, "just so");
    g_assert_true(resume_rig_block_is(&f, "b", 0, 0x7f));
    resume_rig_end(&f);
}

static void test_stale(void)
{
    struct disk_state state;
    struct resume_rig f;

    resume_rig_leave_two(&f);
    resume_rig_next_run(&f);
    resume_rig_open(&f);
    state = f.disk->state;
    f.disk->state.stale = "the image was changed";
    disk_resume_views(f.disk);
    g_assert_cmpstr(f.disk->lost_views, ==, "the image was changed");
    g_assert_null(resume_rig_view(&f, "a"));
    f.disk->state = state;
    resume_rig_started(&f);
    resume_rig_end(&f);
}

/* A start that has come to nothing leaves the views for the next one. */
static void test_second_start(void)
{
    struct resume_rig f;
    uint64_t before;

    resume_rig_leave_two(&f);
    before = f.lasting.run;
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    resume_rig_die(&f);
    f.lasting.run = before; /* the catalogue has never heard of that run */
    resume_rig_next_run(&f);
    f.lasting.run += 7;
    resume_rig_open(&f);
    disk_resume_views(f.disk);
    g_assert_true(resume_rig_block_is(&f, "a", 0, 1));
    g_assert_true(resume_rig_block_is(&f, "b", 0, 1));
    resume_rig_end(&f);
}

/* Files of a disk that is not served are swept away, those of others are not. */
static void test_sweep(void)
{
    g_autofree char *other = NULL;
    struct resume_rig f;

    resume_rig_leave_two(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 2);
    other = g_build_filename(f.dir, ".nbdfleece-scratch-11112222-0000-4000-8000-000000000000-9-x",
                             NULL);
    g_assert_true(g_file_set_contents(other, "x", 1, NULL));
    g_assert_cmpuint(count_files(f.dir), ==, 2);
    resume_rig_started(&f);
    g_assert_cmpuint(count_files(f.dir), ==, 1);
    g_assert_true(resume_rig_block_is(&f, "a", 0, 1));
    resume_rig_end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/buffers", test_buffers);
    g_test_add_func("/resume/end", test_end);
    g_test_add_func("/resume/between-steps", test_between_steps);
    g_test_add_func("/resume/free-slots", test_free_slots);
    g_test_add_func("/resume/not-linked", test_not_linked);
    g_test_add_func("/resume/retiring", test_retiring);
    g_test_add_func("/resume/broken", test_broken);
    g_test_add_func("/resume/stale", test_stale);
    g_test_add_func("/resume/second-start", test_second_start);
    g_test_add_func("/resume/sweep", test_sweep);
    return g_test_run();
}
