/* SPDX-License-Identifier: BSD-3-Clause */
/* Views that an earlier process has left in files that are damaged, of others, cut short or not there. */
#include "server/disk/view-chain.h"
#include "tests/rigs/resume-rig.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* Views of a file that cannot be trusted are not had back: none of them. */
static void test_damaged(void)
{
    static const struct {
        const char *view;
        unsigned block;
        uint32_t entry;
    } damages[] = {
        {"b", 7, BLOCK_KEPT_HOLE + 1},      /* says nothing */
        {"b", 7, BLOCK_KEPT_SLOT + 1},      /* another block's slot */
        {"b", 7, BLOCK_KEPT_SLOT + 100000}, /* behind the file's end */
        {"a", 7, UINT32_MAX},               /* no slot at all */
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(damages); i++) {
        struct resume_rig f;

        resume_rig_leave_two(&f);
        left_set_entry(&f, damages[i].view, damages[i].block, damages[i].entry);
        g_assert_cmpuint(resume_rig_count(&f), ==, 0);
        g_assert_nonnull(f.disk->lost_views);
        resume_rig_end(&f);
    }
}

enum head_damage {
    OTHER_RUN,
    OTHER_BOOT,
    OTHER_MAGIC,
    OTHER_UNIT,
    TOO_LARGE,
    OTHER_SCRATCH,
    HEAD_DAMAGES
};

static void damage_head(struct lasting_head *h, enum head_damage damage)
{
    switch (damage) {
    case OTHER_RUN:
        h->run = h->run_next = 99;
        break;
    case OTHER_BOOT:
        strcpy(h->boot_id, "another");
        break;
    case OTHER_MAGIC:
        h->magic++;
        break;
    case OTHER_UNIT:
        h->view.unit *= 2;
        break;
    case TOO_LARGE:
        h->view.size = SIZE + 1;
        break;
    default:
        strcpy(h->view.scratch, "7-there-is-none");
    }
}

static void test_heads(void)
{
    for (enum head_damage damage = 0; damage < HEAD_DAMAGES; damage++) {
        struct lasting_head head;
        struct resume_rig f;
        int fd;

        resume_rig_leave_two(&f);
        fd = left_open(&f, "b", &head);
        damage_head(&head, damage);
        left_set_head(fd, &head);
        g_assert_cmpuint(resume_rig_count(&f), ==, 0);
        g_assert_nonnull(f.disk->lost_views);
        resume_rig_end(&f);
    }
}

/* The scratch file was cut short, or is not there. */
static void test_scratch_gone(void)
{
    for (unsigned i = 0; i < 2; i++) {
        struct lasting_head head;
        struct resume_rig f;
        int fd;

        resume_rig_leave_two(&f);
        /* What was in memory is in the file already. */
        fd = left_open(&f, "scratch", &head);
        memset(head.scratch.first, 0, sizeof head.scratch.first);
        left_set_head(fd, &head);
        if (i == 0)
            g_assert_cmpint(truncate(head.scratch.path, BLOCK), ==, 0);
        else
            g_assert_cmpint(unlink(head.scratch.path), ==, 0);
        g_assert_cmpuint(resume_rig_count(&f), ==, 0);
        resume_rig_end(&f);
    }
}

/* The map is gone: the view is never wrong, nor is an older one. */
static void test_map_cut_short(void)
{
    struct lasting_head head;
    struct resume_rig f;
    struct view *a, *b, *c;
    int fd;

    resume_rig_init(&f);
    resume_rig_fill(&f);
    resume_rig_open(&f);
    a = resume_rig_take(&f, "a");
    b = resume_rig_take(&f, "b");
    resume_rig_write(&f, 0, 0x7f);
    c = resume_rig_take(&f, "c");
    fd = left_open(&f, "b", &head);
    g_assert_cmpint(ftruncate(fd, 0), ==, 0);
    close(fd);
    g_assert_cmpint(rig_try_read(b, 0, BLOCK), ==, -EIO);
    g_assert_cmpint(rig_try_read(a, 0, BLOCK), ==, -EIO);
    g_assert_cmpint(rig_try_read(c, 0, BLOCK), ==, 0);
    resume_rig_wait_broken(&f, 2);
    g_assert_false(view_is_broken(c));
    resume_rig_end(&f);
}

/* A file of the memory folder loses its pages behind the head, and has them again later, as they were
 * then, while the process goes on with memory of its own. */
static void lose_pages(struct resume_rig *f, const char *name,
                       void (*meanwhile)(struct resume_rig *f))
{
    struct lasting_head head;
    int fd = left_open(f, name, &head);
    size_t length = head.mapped - LASTING_PAGE;
    g_autofree char *rest = g_malloc(length);

    g_assert_cmpint(pread(fd, rest, length, LASTING_PAGE), ==, length);
    g_assert_cmpint(ftruncate(fd, LASTING_PAGE), ==, 0);
    meanwhile(f);
    g_assert_cmpint(pwrite(fd, rest, length, LASTING_PAGE), ==, length);
    close(fd);
}

static void read_view(struct resume_rig *f)
{
    g_assert_cmpint(rig_try_read(resume_rig_view(f, "a"), 0, BLOCK), ==, -EIO);
    resume_rig_write(f, 1, 0x66);
}

static void read_buffer(struct resume_rig *f)
{
    g_assert_cmpint(rig_try_read(resume_rig_view(f, "a"), 0, BLOCK), ==, -EIO);
}

/* The next server must not believe it. */
static void test_lost(void)
{
    static const struct {
        const char *file;
        void (*meanwhile)(struct resume_rig *f);
    } losses[] = {{"a", read_view}, {"scratch", read_buffer}};

    for (unsigned i = 0; i < G_N_ELEMENTS(losses); i++) {
        struct resume_rig f;

        resume_rig_init(&f);
        resume_rig_fill(&f);
        resume_rig_open(&f);
        resume_rig_take(&f, "a");
        resume_rig_write(&f, 0, 0x7f);
        lose_pages(&f, losses[i].file, losses[i].meanwhile);
        resume_rig_die(&f);
        g_assert_cmpuint(resume_rig_count(&f), ==, 0);
        g_assert_nonnull(f.disk->lost_views);
        resume_rig_end(&f);
    }
}

static char *left_id(int fd)
{
    g_autofree char *link = g_strdup_printf("/proc/self/fd/%d", fd);
    g_autofree char *path = g_file_read_link(link, NULL);

    return g_path_get_basename(path);
}

/* Before anybody uses it: nobody is to take it for whole later. */
static void test_lost_early(void)
{
    struct lasting_head head;
    struct resume_rig f;
    struct lasting *left;
    g_autofree char *id = NULL;
    g_autoptr(GError) error = NULL;
    int fd;

    resume_rig_leave_two(&f);
    resume_rig_next_run(&f);
    fd = left_open(&f, "a", &head);
    id = left_id(fd);
    resume_rig_open(&f);
    left = lasting_open(&f.disk->state, id, &error);
    g_assert_no_error(error);
    g_assert_cmpint(ftruncate(fd, LASTING_PAGE), ==, 0);
    g_assert_cmpint(*(volatile char *)lasting_rest(left), ==, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)head.mapped), ==, 0);
    g_assert_cmpint(lasting_tell_lost(left, NULL, NULL, &error), ==, -1);
    lasting_close(left, false);
    close(fd);
    resume_rig_started(&f);
    resume_rig_end(&f);
}

/* On a machine that does not tell one boot from another. */
static void test_no_boot(void)
{
    struct resume_rig f;

    resume_rig_init(&f);
    f.lasting.boot_id = "";
    resume_rig_fill(&f);
    resume_rig_open(&f);
    resume_rig_take(&f, "a");
    resume_rig_write(&f, 0, 0x7f);
    resume_rig_die(&f);
    g_assert_cmpuint(resume_rig_count(&f), ==, 0);
    g_assert_nonnull(f.disk->lost_views);
    resume_rig_end(&f);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/resume/damaged", test_damaged);
    g_test_add_func("/resume/heads", test_heads);
    g_test_add_func("/resume/scratch-gone", test_scratch_gone);
    g_test_add_func("/resume/map-cut-short", test_map_cut_short);
    g_test_add_func("/resume/no-boot", test_no_boot);
    g_test_add_func("/resume/lost", test_lost);
    g_test_add_func("/resume/lost-early", test_lost_early);
    return g_test_run();
}
