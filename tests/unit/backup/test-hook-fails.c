/* SPDX-License-Identifier: BSD-3-Clause */
/* A freeze hook that fails, hangs, or leaves something behind. */
#include "tests/rigs/hook-rig.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static void test_failure(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "echo to standard output\n"
                      "echo the first line >&2\n"
                      "echo 'the disk\tis on fire' >&2\n"
                      "echo >&2\n"
                      "exit 4");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze_fails(q, "freeze hook: %s: exit status 4: the disk is on fire", r.hook);
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_standard_output(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "printf 'no line feed, and \\377'; [ $action = thaw ]");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze_fails(q, "freeze hook: %s: exit status 1: no line feed, and \xef\xbf\xbd",
                          r.hook);
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_killed(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] || kill -SEGV $$");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze_fails(q, "freeze hook: %s: killed by signal %d", r.hook, SIGSEGV);
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* It is there when the server starts, and not later. */
static void test_gone(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *away = g_strconcat(r.hook, ".away", NULL);
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(rename(r.hook, away), ==, 0);
    hook_rig_freeze_fails(q, "freeze hook: %s: exit status 127: it cannot be run: %s", r.hook,
                          g_strerror(ENOENT));
    g_assert_cmpint(quiesce_thaw(q, &err), ==, -1);
    g_assert_nonnull(strstr(err->message, "it cannot be run"));
    quiesce_free(q);
    g_assert_cmpint(rename(away, r.hook), ==, 0);
    hook_rig_wait_for_log(&r, "thaw vda a disk\n");
    hook_rig_clear(&r);
}

/* It and its child do not care about SIGTERM. */
static void test_late(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "trap '' TERM\n"
                      "sleep 1000 & echo \"child $!\" >>\"$LOG\"\n"
                      "echo waiting >&2\n"
                      "wait");
    struct quiesce *q = hook_rig_quiesce(r.hook, 1);

    hook_rig_freeze_fails(q, "freeze hook: %s: it has not ended within 1 s: waiting", r.hook);
    hook_rig_wait_for_end(hook_rig_noted(&r, "child "));
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* Its end is what counts: a child of its own may live on, with its output open. */
static void test_child_left(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "sleep 1000 & echo \"child $!\" >>\"$LOG\"");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze(q);
    g_assert_false(hook_rig_has_ended(hook_rig_noted(&r, "child ")));
    kill(hook_rig_noted(&r, "child "), SIGKILL);
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_thaw_again(void)
{
    struct hook_rig r;
    hook_rig_init(&r,
                  "[ $action = freeze ] || [ -e \"$LOG.once\" ] || { : >\"$LOG.once\"; exit 1; }");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *once = g_strconcat(r.log, ".once", NULL);

    hook_rig_freeze(q);
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\nthaw vda a disk\n");
    unlink(once);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* It is tried until it works, and nobody freezes meanwhile. */
static void test_thaw_fails(void)
{
    struct hook_rig r;
    hook_rig_init(&r,
                  "[ $action = freeze ] || [ -e \"$LOG.works\" ] || { echo stuck >&2; exit 1; }");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG), *other = hook_rig_quiesce(r.hook, 1),
                   *last = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *works = g_strconcat(r.log, ".works", NULL), *text = NULL;
    g_autoptr(GError) err = NULL;
    g_autofree char *expected = g_strdup_printf(
        "guests may stand still: thaw: freeze hook: %s: exit status 1: stuck", r.hook);

    hook_rig_freeze(q);
    g_assert_cmpint(quiesce_thaw(q, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, expected);
    quiesce_free(q);
    hook_rig_freeze_fails(
        other, "freeze hook: %s: another session has not thawed its guests within 1 s", r.hook);
    hook_rig_thaw(other);
    quiesce_free(other);
    g_assert_true(g_file_set_contents(works, "", -1, NULL));
    hook_rig_freeze(last);
    text = hook_rig_read_log(&r);
    g_assert_true(g_str_has_suffix(text, "thaw vda a disk\nfreeze vda a disk\n"));
    hook_rig_thaw(last);
    quiesce_free(last);
    unlink(works);
    hook_rig_clear(&r);
}

/* Its output has no end, and nothing waits for that. */
static void test_endless_output(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "yes & yes & exec yes");
    struct quiesce *q = hook_rig_quiesce(r.hook, 1);
    int null = open("/dev/null", O_WRONLY), errors = dup(STDERR_FILENO);

    dup2(null, STDERR_FILENO);
    hook_rig_freeze_fails(q, "freeze hook: %s: it has not ended within 1 s: y", r.hook);
    hook_rig_thaw(q);
    dup2(errors, STDERR_FILENO);
    close(errors);
    close(null);
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_name_that_is_no_text(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ]");
    g_autofree char *odd = g_strconcat(r.hook, "\377", NULL);
    struct quiesce *q = hook_rig_quiesce(odd, LONG);

    g_assert_cmpint(rename(r.hook, odd), ==, 0);
    hook_rig_freeze_fails(q, "freeze hook: %s\xef\xbf\xbd: exit status 1", r.hook);
    hook_rig_thaw(q);
    quiesce_free(q);
    unlink(odd);
    hook_rig_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    hook_rig_find_guard();
    g_test_add_func("/hook-fails/failure", test_failure);
    g_test_add_func("/hook-fails/standard-output", test_standard_output);
    g_test_add_func("/hook-fails/killed", test_killed);
    g_test_add_func("/hook-fails/gone", test_gone);
    g_test_add_func("/hook-fails/late", test_late);
    g_test_add_func("/hook-fails/child-left", test_child_left);
    g_test_add_func("/hook-fails/thaw-again", test_thaw_again);
    g_test_add_func("/hook-fails/thaw-fails", test_thaw_fails);
    g_test_add_func("/hook-fails/endless-output", test_endless_output);
    g_test_add_func("/hook-fails/name-that-is-no-text", test_name_that_is_no_text);
    return g_test_run();
}
