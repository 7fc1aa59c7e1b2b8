/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The freeze hook, as scripts that note in a log what they are called with. `$LOG` is its path. A server
 * that dies is a subprocess of the test.
 */
#include "server/backup/hook-command.h"
#include "server/backup/quiesce.h"

#include "common/util/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Seconds that nothing here reaches. */
#define LONG 60

struct rig {
    char *folder, *hook, *log;
};

/* The script gets `body` behind a line that notes its arguments. */
static void rig_init(struct rig *r, const char *body)
{
    g_autofree char *text = g_strdup_printf("#!/bin/sh\n"
                                            "action=$1\n"
                                            "echo \"$*\" >>\"$LOG\"\n"
                                            "%s\n",
                                            body);

    r->folder = g_dir_make_tmp("quiesce-XXXXXX", NULL);
    r->hook = g_build_filename(r->folder, "hook", NULL);
    r->log = g_build_filename(r->folder, "log", NULL);
    g_assert_true(g_file_set_contents(r->hook, text, -1, NULL));
    g_assert_cmpint(chmod(r->hook, 0755), ==, 0);
    g_assert_true(g_file_set_contents(r->log, "", -1, NULL));
    g_setenv("LOG", r->log, TRUE);
}

static void rig_clear(struct rig *r)
{
    unlink(r->hook);
    unlink(r->log);
    g_assert_cmpint(rmdir(r->folder), ==, 0);
    g_free(r->hook);
    g_free(r->log);
    g_free(r->folder);
}

static char *read_log(const struct rig *r)
{
    char *text;

    g_assert_true(g_file_get_contents(r->log, &text, NULL, NULL));
    return text;
}

static void assert_log(const struct rig *r, const char *expected)
{
    g_autofree char *text = read_log(r);

    g_assert_cmpstr(text, ==, expected);
}

static struct quiesce *make(const char *command, unsigned seconds)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    g_ptr_array_add(disks, (char *)"vda");
    g_ptr_array_add(disks, (char *)"a disk");
    return quiesce_new(command, seconds, disks);
}

static void assert_freezes(struct quiesce *q)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(quiesce_freeze(q, &err), ==, 0);
    g_assert_no_error(err);
}

static void assert_freeze_fails(struct quiesce *q, const char *format, ...) G_GNUC_PRINTF(2, 3);
static void assert_freeze_fails(struct quiesce *q, const char *format, ...)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *expected = NULL;
    va_list args;

    va_start(args, format);
    expected = g_strdup_vprintf(format, args);
    va_end(args);
    g_assert_cmpint(quiesce_freeze(q, &err), ==, -1);
    g_assert_error(err, FLEECE_ERROR, FLEECE_ERROR_GENERIC);
    g_assert_cmpstr(err->message, ==, expected);
}

static void assert_thaws(struct quiesce *q)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(quiesce_thaw(q, &err), ==, 0);
    g_assert_no_error(err);
}

/* ---- what a hook is called with ---- */

static void test_calls(void)
{
    struct rig r;
    rig_init(&r, "");
    struct quiesce *q = make(r.hook, LONG);

    assert_freezes(q);
    assert_log(&r, "freeze vda a disk\n");
    assert_thaws(q);
    assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(q);
    rig_clear(&r);
}

static void test_words(void)
{
    struct rig r;
    rig_init(&r, "for word; do echo \"<$word>\" >>\"$LOG\"; done");
    g_autofree char *command = g_strdup_printf("%s --socket 'my vm'", r.hook);
    struct quiesce *q = make(command, LONG);

    assert_freezes(q);
    assert_log(&r, "--socket my vm freeze vda a disk\n"
                   "<--socket>\n<my vm>\n<freeze>\n<vda>\n<a disk>\n");
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

/* Signals are the default (but for two of libc's own), no descriptor of ours is open, and our group is another one. */
static void test_surroundings(void)
{
    struct rig r;
    rig_init(&r, "cat >>\"$LOG\"\n"
                 "for set in $(grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f 2); do\n"
                 "    echo $((0x$set & 0x7fffffff)) >>\"$LOG\"\n"
                 "done\n"
                 "ls -l /proc/self/fd | grep -c \"$LOG\" >>\"$LOG\"\n"
                 "[ $(ps -o pgid= -p $$) -eq $$ ] && echo own group >>\"$LOG\"\n"
                 "exit 0");
    struct quiesce *q = make(r.hook, LONG);
    int open_one = open(r.log, O_RDONLY);
    sigset_t set, before;
    void (*pipes)(int) = signal(SIGPIPE, SIG_IGN);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    assert_freezes(q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, pipes);
    close(open_one);
    /* `ls` itself has no descriptor of the log, but grep's output. */
    assert_log(&r, "freeze vda a disk\n"
                   "0\n0\n"
                   "0\n"
                   "own group\n");
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

/* ---- a hook that fails ---- */

static void test_failure(void)
{
    struct rig r;
    rig_init(&r, "[ $action = thaw ] && exit\n"
                 "echo to standard output\n"
                 "echo the first line >&2\n"
                 "echo 'the disk\tis on fire' >&2\n"
                 "echo >&2\n"
                 "exit 3");
    struct quiesce *q = make(r.hook, LONG);

    assert_freeze_fails(q, "freeze hook: %s: exit status 3: the disk is on fire", r.hook);
    assert_thaws(q);
    assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(q);
    rig_clear(&r);
}

static void test_standard_output(void)
{
    struct rig r;
    rig_init(&r, "printf 'no line feed, and \\377'; [ $action = thaw ]");
    struct quiesce *q = make(r.hook, LONG);

    assert_freeze_fails(q, "freeze hook: %s: exit status 1: no line feed, and \xef\xbf\xbd",
                        r.hook);
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

static void test_killed(void)
{
    struct rig r;
    rig_init(&r, "[ $action = thaw ] || kill -SEGV $$");
    struct quiesce *q = make(r.hook, LONG);

    assert_freeze_fails(q, "freeze hook: %s: killed by signal %d", r.hook, SIGSEGV);
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

/* It is there when the server starts, and not later. */
static void test_gone(void)
{
    struct rig r;
    rig_init(&r, "");
    struct quiesce *q = make(r.hook, LONG);
    g_autoptr(GError) err = NULL;

    unlink(r.hook);
    assert_freeze_fails(q, "freeze hook: %s: exit status 127: it cannot be run: %s", r.hook,
                        g_strerror(ENOENT));
    g_assert_cmpint(quiesce_thaw(q, &err), ==, -1);
    g_assert_nonnull(strstr(err->message, "it cannot be run"));
    quiesce_free(q);
    rig_clear(&r);
}

/* Is this process gone, or a zombie? */
static bool is_dead(int pid)
{
    g_autofree char *path = g_strdup_printf("/proc/%d/stat", pid);
    g_autofree char *text = NULL;

    return !g_file_get_contents(path, &text, NULL, NULL) || strstr(text, ") Z");
}

/* The number in the log behind `word`. */
static int noted(const struct rig *r, const char *word)
{
    g_autofree char *text = read_log(r);
    const char *at = strstr(text, word);

    g_assert_nonnull(at);
    return atoi(at + strlen(word));
}

/* It and its child do not care about SIGTERM. */
static void test_late(void)
{
    struct rig r;
    rig_init(&r, "[ $action = thaw ] && exit\n"
                 "trap '' TERM\n"
                 "sleep 1000 & echo \"child $!\" >>\"$LOG\"\n"
                 "echo waiting >&2\n"
                 "wait");
    struct quiesce *q = make(r.hook, 1);

    assert_freeze_fails(q, "freeze hook: %s: it has not ended within 1 s: waiting", r.hook);
    while (!is_dead(noted(&r, "child ")))
        g_usleep(1000);
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

/* Its end is what counts: a child of its own may live on, with its output open. */
static void test_child_left(void)
{
    struct rig r;
    rig_init(&r, "[ $action = thaw ] && exit\n"
                 "sleep 1000 & echo \"child $!\" >>\"$LOG\"");
    struct quiesce *q = make(r.hook, LONG);

    assert_freezes(q);
    g_assert_false(is_dead(noted(&r, "child ")));
    kill(noted(&r, "child "), SIGKILL);
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

static void test_thaw_again(void)
{
    struct rig r;
    rig_init(&r, "[ $action = freeze ] || [ -e \"$LOG.once\" ] || { : >\"$LOG.once\"; exit 1; }");
    struct quiesce *q = make(r.hook, LONG);
    g_autofree char *once = g_strconcat(r.log, ".once", NULL);

    assert_freezes(q);
    assert_thaws(q);
    assert_log(&r, "freeze vda a disk\nthaw vda a disk\nthaw vda a disk\n");
    unlink(once);
    quiesce_free(q);
    rig_clear(&r);
}

static void test_thaw_fails(void)
{
    struct rig r;
    rig_init(&r, "[ $action = freeze ] || { echo it is stuck >&2; exit 1; }");
    struct quiesce *q = make(r.hook, LONG);
    g_autoptr(GError) err = NULL;
    g_autofree char *expected =
        g_strdup_printf("freeze hook: %s: exit status 1: it is stuck", r.hook);

    assert_freezes(q);
    g_assert_cmpint(quiesce_thaw(q, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, expected);
    quiesce_free(q);
    rig_clear(&r);
}

/* ---- the guard ---- */

/* Signals that end a server and its processes do not end the guard. */
static void test_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE};
    struct rig r;
    rig_init(&r, "echo \"$action by $PPID\" >>\"$LOG\"");
    struct quiesce *q = make(r.hook, LONG);

    assert_freezes(q);
    g_assert_cmpint(getpgid(noted(&r, "freeze by ")), !=, getpgrp());
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        g_assert_cmpint(kill(noted(&r, "freeze by "), numbers[i]), ==, 0);
    assert_thaws(q);
    g_assert_cmpint(noted(&r, "freeze by "), ==, noted(&r, "thaw by "));
    g_assert_true(is_dead(noted(&r, "thaw by ")));
    quiesce_free(q);
    rig_clear(&r);
}

static void test_guard_killed(void)
{
    struct rig r;
    rig_init(&r, "echo \"by $PPID\" >>\"$LOG\"");
    struct quiesce *q = make(r.hook, LONG);
    g_autofree char *text = NULL;

    assert_freezes(q);
    kill(noted(&r, "by "), SIGKILL);
    assert_thaws(q);
    text = read_log(&r);
    g_assert_nonnull(strstr(text, "thaw vda a disk\n"));
    quiesce_free(q);
    rig_clear(&r);
}

static void test_guard_killed_in_freeze(void)
{
    struct rig r;
    rig_init(&r, "[ $action = thaw ] && exit\n"
                 "echo \"hook $$\" >>\"$LOG\"\n"
                 "kill -KILL $PPID\n"
                 "exec sleep 1000");
    struct quiesce *q = make(r.hook, LONG);

    assert_freeze_fails(q, "freeze hook: %s: the freeze-guard has ended", r.hook);
    while (!is_dead(noted(&r, "hook ")))
        g_usleep(1000);
    assert_thaws(q);
    quiesce_free(q);
    rig_clear(&r);
}

/* ---- a server that dies ---- */

/* Wait for this line at the end of the log. */
static void wait_for_log(const struct rig *r, const char *line)
{
    for (;;) {
        g_autofree char *text = read_log(r);

        if (g_str_has_suffix(text, line))
            return;
        g_usleep(1000);
    }
}

/* The test is its own server. $HOOK is the hook there. */
static void serve_and_die(void)
{
    g_autofree char *pid = g_strdup_printf("%d", getpid());
    struct quiesce *q = make(g_getenv("HOOK"), LONG);

    g_setenv("SERVER", pid, TRUE);
    quiesce_freeze(q, NULL);
    kill(getpid(), SIGKILL);
}

static void die_with(struct rig *r, const char *body)
{
    rig_init(r, body);
    g_setenv("HOOK", r->hook, TRUE);
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    wait_for_log(r, "thaw vda a disk\n");
}

static void test_death(void)
{
    struct rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(&r, "");
    assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    rig_clear(&r);
}

/* A freeze that is under way is ended first: otherwise it could end after the thaw. */
static void test_death_in_freeze(void)
{
    struct rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(&r, "[ $action = thaw ] && exit\n"
                 "trap 'echo ended >>\"$LOG\"; exit' TERM\n"
                 "kill -KILL $SERVER\n"
                 "while :; do sleep 0.01; done");
    assert_log(&r, "freeze vda a disk\nended\nthaw vda a disk\n");
    rig_clear(&r);
}

/* Somebody ends all processes of the server, also the hook. */
static void test_death_of_all(void)
{
    struct rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(
        &r, "[ $action = freeze ] && exit\n"
            "[ -e \"$LOG.once\" ] || { : >\"$LOG.once\"; echo killed >>\"$LOG\"; kill -TERM $$; }\n"
            "rm \"$LOG.once\"\n"
            "echo \"$*\" >>\"$LOG\"");
    assert_log(&r,
               "freeze vda a disk\nthaw vda a disk\nkilled\nthaw vda a disk\nthaw vda a disk\n");
    rig_clear(&r);
}

/* ---- several sessions ---- */

static void *freeze_and_thaw(void *opaque)
{
    struct quiesce *q = opaque;

    assert_freezes(q);
    assert_thaws(q);
    return NULL;
}

static void test_one_after_the_other(void)
{
    struct rig r;
    rig_init(&r, "");
    struct quiesce *first = make(r.hook, LONG), *second = make(r.hook, LONG);

    assert_freezes(first);
    GThread *other = g_thread_new("other", freeze_and_thaw, second);
    assert_thaws(first);
    g_thread_join(other);
    assert_log(&r, "freeze vda a disk\nthaw vda a disk\nfreeze vda a disk\nthaw vda a disk\n");
    quiesce_free(first);
    quiesce_free(second);
    rig_clear(&r);
}

/* Who could not freeze does not thaw: it would be the other's guests. */
static void test_other_takes_long(void)
{
    struct rig r;
    rig_init(&r, "");
    struct quiesce *first = make(r.hook, LONG), *second = make(r.hook, 1);

    assert_freezes(first);
    assert_freeze_fails(
        second, "freeze hook: %s: another session has not thawed its guests within 1 s", r.hook);
    assert_thaws(second);
    assert_log(&r, "freeze vda a disk\n");
    assert_thaws(first);
    assert_freezes(second);
    assert_thaws(second);
    quiesce_free(first);
    quiesce_free(second);
    rig_clear(&r);
}

/* ---- the command ---- */

static void assert_not_resolved(const char *command, const char *message)
{
    g_autoptr(GError) err = NULL;

    g_assert_null(hook_command_resolve(command, &err));
    g_assert_nonnull(err);
    if (message)
        g_assert_cmpstr(err->message, ==, message);
}

static void test_resolve(void)
{
    struct rig r;
    rig_init(&r, "");
    g_autofree char *here = g_get_current_dir();
    g_autofree char *ours = hook_find_ours("freeze-guard");
    g_autofree char *quoted = g_strdup_printf("'%s' 'a b'", r.hook);
    g_autofree char *path = g_strdup(g_getenv("PATH"));
    g_autofree char *a = NULL, *b = NULL, *c = NULL;

    g_setenv("PATH", r.folder, TRUE);
    a = hook_command_resolve("hook 'a b'", NULL);
    g_assert_cmpstr(a, ==, quoted);
    g_assert_cmpint(chdir(r.folder), ==, 0);
    b = hook_command_resolve("./hook a\\ b", NULL);
    g_assert_cmpstr(b, ==, quoted);
    c = hook_command_resolve("freeze-guard", NULL);
    g_assert_nonnull(strstr(c, ours));
    g_assert_cmpint(chdir(here), ==, 0);
    assert_not_resolved("no-such",
                        "freeze hook: there is no program 'no-such', neither in $PATH nor of ours");
    assert_not_resolved("'no end", NULL);
    assert_not_resolved(" ", NULL);
    g_setenv("PATH", path, TRUE);
    rig_clear(&r);
}

static void assert_unusable(const char *command, const char *why)
{
    g_autoptr(GError) err = NULL;
    g_autofree char *expected = g_strdup_printf("freeze hook: %s: %s", command, why);

    g_assert_cmpint(quiesce_check(command, &err), ==, -1);
    g_assert_cmpstr(err->message, ==, expected);
}

static void test_check(void)
{
    struct rig r;
    rig_init(&r, "");

    g_assert_cmpint(quiesce_check(r.hook, NULL), ==, 0);
    assert_unusable(r.folder, "it is not a program");
    assert_unusable("/no/such", g_strerror(ENOENT));
    chmod(r.hook, 0644);
    assert_unusable(r.hook, g_strerror(EACCES));
    rig_clear(&r);
}

int main(int argc, char **argv)
{
    g_autofree char *hooks = g_build_filename(g_getenv("top_builddir"), "server", "hooks", NULL);

    g_test_init(&argc, &argv, NULL);
    g_setenv("NBDFLEECE_HOOK_PATH", hooks, TRUE);
    g_test_add_func("/quiesce/calls", test_calls);
    g_test_add_func("/quiesce/words", test_words);
    g_test_add_func("/quiesce/surroundings", test_surroundings);
    g_test_add_func("/quiesce/failure", test_failure);
    g_test_add_func("/quiesce/standard-output", test_standard_output);
    g_test_add_func("/quiesce/killed", test_killed);
    g_test_add_func("/quiesce/gone", test_gone);
    g_test_add_func("/quiesce/late", test_late);
    g_test_add_func("/quiesce/child-left", test_child_left);
    g_test_add_func("/quiesce/thaw-again", test_thaw_again);
    g_test_add_func("/quiesce/thaw-fails", test_thaw_fails);
    g_test_add_func("/quiesce/signals", test_signals);
    g_test_add_func("/quiesce/guard-killed", test_guard_killed);
    g_test_add_func("/quiesce/guard-killed-in-freeze", test_guard_killed_in_freeze);
    g_test_add_func("/quiesce/death", test_death);
    g_test_add_func("/quiesce/death-in-freeze", test_death_in_freeze);
    g_test_add_func("/quiesce/death-of-all", test_death_of_all);
    g_test_add_func("/quiesce/one-after-the-other", test_one_after_the_other);
    g_test_add_func("/quiesce/other-takes-long", test_other_takes_long);
    g_test_add_func("/quiesce/resolve", test_resolve);
    g_test_add_func("/quiesce/check", test_check);
    return g_test_run();
}
