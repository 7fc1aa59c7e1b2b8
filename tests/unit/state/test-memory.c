/* SPDX-License-Identifier: BSD-3-Clause */
/* The memory folder. */
#include "common/state/memory.h"

#include "common/state/bit-file.h"
#include "common/state/folder.h"
#include "server/state/store-break.h"
#include "tests/rigs/store-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define UUID "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
#define RUN  UINT64_C(0x8000123456789abc)

struct place {
    char *top, *path;
};

static void place_begin(struct place *p)
{
    p->top = g_dir_make_tmp("test-memory-XXXXXX", NULL);
    memory_set_folder(p->top);
    p->path = memory_path(UUID);
}

static void place_end(struct place *p)
{
    memory_set_folder(NULL);
    g_assert_cmpint(g_rmdir(p->top), ==, 0); /* nothing is left in it */
    g_free(p->top);
    g_free(p->path);
}

static struct memory *make(void)
{
    g_autoptr(GError) error = NULL;
    struct memory *m = memory_new(UUID, RUN, &error);

    g_assert_no_error(error);
    return m;
}

static void expect(uint64_t run, enum memory_kind kind, bool files)
{
    struct memory_left left = memory_find(UUID, run);

    g_assert_cmpint(left.kind, ==, kind);
    g_assert_true((left.files != NULL) == files);
    if (left.files)
        left.files->ops->free(left.files);
}

static void expect_refused(int error)
{
    g_autoptr(GError) said = NULL;

    g_assert_null(memory_new(UUID, RUN, &said));
    g_assert_nonnull(strstr(said->message, g_strerror(error)));
}

static void test_life(void)
{
    struct place p;
    struct memory *m;
    struct bit_file *f;
    struct stat st;

    place_begin(&p);
    expect(RUN, MEMORY_GONE, false);
    m = make();
    g_assert_cmpint(stat(p.path, &st), ==, 0);
    g_assert_cmpuint(st.st_mode & 07777, ==, 0700);
    f = bit_file_create(memory_storage(m), UUID, 64 * MIB, 65536, NULL);
    g_assert_nonnull(f);
    bit_file_close(f);
    memory_free(m); /* the process dies */
    expect(RUN, MEMORY_WHOLE, true);
    m = make(); /* the next one begins anew */
    g_assert_null(bit_file_open(memory_storage(m), UUID, 64 * MIB, 65536, NULL));
    memory_note_failed(m);
    expect(RUN, MEMORY_FAILED, true);
    memory_note_settled(m);
    expect(RUN, MEMORY_WHOLE, true);
    g_assert_false(memory_is_incomplete(m));
    memory_note_incomplete(m);
    g_assert_true(memory_is_incomplete(m));
    memory_note_settled(m); /* that is another matter */
    expect(RUN, MEMORY_INCOMPLETE, false);
    memory_note_failed(m);
    expect(RUN, MEMORY_FAILED, false);
    memory_remove(m);
    memory_free(m);
    expect(RUN, MEMORY_GONE, false);
    memory_note_failed(NULL);
    memory_note_settled(NULL);
    memory_note_incomplete(NULL);
    memory_remove(NULL);
    memory_free(NULL);
    place_end(&p);
}

static void test_another_run(void)
{
    struct place p;
    struct memory *m;

    place_begin(&p);
    m = make();
    expect(RUN + 1, MEMORY_GONE, false);
    expect(0, MEMORY_GONE, false);
    memory_note_failed(m);
    expect(RUN + 1, MEMORY_GONE, false);
    memory_remove(m);
    memory_free(m);
    place_end(&p);
}

/* Others can write to it, it is a link, it is no folder, or it belongs to somebody else. */
static void test_not_ours(void)
{
    struct place p;
    struct memory *m;
    g_autofree char *target = NULL;

    place_begin(&p);
    m = make();
    g_assert_cmpint(chmod(p.path, 0777), ==, 0);
    expect(RUN, MEMORY_GONE, false);
    expect_refused(EPERM);
    g_assert_cmpint(chmod(p.path, 0700), ==, 0);
    expect(RUN, MEMORY_WHOLE, true);
    target = g_strconcat(p.path, "-elsewhere", NULL);
    g_assert_cmpint(g_rename(p.path, target), ==, 0);
    g_assert_cmpint(symlink(target, p.path), ==, 0);
    expect(RUN, MEMORY_GONE, false);
    g_assert_null(memory_new(UUID, RUN, NULL));
    g_assert_cmpint(g_unlink(p.path), ==, 0);
    g_assert_cmpint(g_rename(target, p.path), ==, 0);
    if (geteuid() == 0) {
        g_assert_cmpint(chown(p.path, 65533, 65533), ==, 0);
        expect(RUN, MEMORY_GONE, false);
        expect_refused(EPERM);
        g_assert_cmpint(chown(p.path, 0, 0), ==, 0);
    }
    memory_remove(m);
    memory_free(m);
    place_end(&p);
}

/* Earlier versions had a file there. */
static void test_old_note(void)
{
    struct place p;
    struct memory *m;

    place_begin(&p);
    g_assert_true(g_file_set_contents(p.path, "0123456789abcdef", -1, NULL));
    expect(RUN, MEMORY_GONE, false);
    m = make();
    memory_remove(m);
    memory_free(m);
    place_end(&p);
}

/* A note that is cut short or damaged says nothing. */
static void test_damaged_note(void)
{
    struct place p;
    struct memory *m;
    g_autofree char *note = NULL;

    place_begin(&p);
    m = make();
    note = g_build_filename(p.path, "note", NULL);
    g_assert_cmpint(truncate(note, 39), ==, 0);
    expect(RUN, MEMORY_GONE, false);
    g_assert_true(g_file_set_contents(note, "0123456789abcdef0123456789abcdef01234567", -1, NULL));
    expect(RUN, MEMORY_GONE, false);
    memory_remove(m);
    memory_free(m);
    place_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/memory/life", test_life);
    g_test_add_func("/memory/another-run", test_another_run);
    g_test_add_func("/memory/not-ours", test_not_ours);
    g_test_add_func("/memory/old-note", test_old_note);
    g_test_add_func("/memory/damaged-note", test_damaged_note);
    return g_test_run();
}
