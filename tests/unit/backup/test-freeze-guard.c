/* SPDX-License-Identifier: BSD-3-Clause */
/* The freeze-guard thaws, whoever dies. A server that dies is a subprocess of the test. */
#include "tests/rigs/hook-rig.h"

#include "server/backup/hook-command.h"
#include "server/hooks/freeze-guard.h"

#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the guard ---- */

/* Signals that end a server and its processes do not end the guard. */
static void test_signals(void)
{
    static const int numbers[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE};
    struct hook_rig r;
    hook_rig_init(&r, "echo \"$action by $PPID\" >>\"$LOG\"");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze(q);
    g_assert_cmpint(getpgid(hook_rig_noted(&r, "freeze by ")), !=, getpgrp());
    for (unsigned i = 0; i < G_N_ELEMENTS(numbers); i++)
        g_assert_cmpint(kill(hook_rig_noted(&r, "freeze by "), numbers[i]), ==, 0);
    hook_rig_thaw(q);
    g_assert_cmpint(hook_rig_noted(&r, "freeze by "), ==, hook_rig_noted(&r, "thaw by "));
    g_assert_true(hook_rig_has_ended(hook_rig_noted(&r, "thaw by ")));
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_guard_killed(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "echo \"by $PPID\" >>\"$LOG\"");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *text = NULL;

    hook_rig_freeze(q);
    kill(hook_rig_noted(&r, "by "), SIGKILL);
    hook_rig_thaw(q);
    text = hook_rig_read_log(&r);
    g_assert_nonnull(strstr(text, "thaw vda a disk\n"));
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_guard_killed_in_freeze(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "echo \"hook $$\" >>\"$LOG\"\n"
                      "kill -KILL $PPID\n"
                      "exec sleep 1000");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze_fails(q, "freeze hook: %s: the freeze-guard has ended", r.hook);
    hook_rig_wait_for_end(hook_rig_noted(&r, "hook "));
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* One that hangs is killed, with the freeze that it runs. */
static void test_guard_stopped(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "echo \"hook $$\" >>\"$LOG\"\n"
                      "kill -STOP $PPID\n"
                      "exec sleep 1000");
    struct quiesce *q = hook_rig_quiesce(r.hook, 1);

    hook_rig_freeze_fails(q, "freeze hook: %s: the freeze-guard does not answer", r.hook);
    hook_rig_wait_for_end(hook_rig_noted(&r, "hook "));
    hook_rig_thaw(q);
    hook_rig_wait_for_log(&r, "thaw vda a disk\n");
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* Another one goes on for it, and nobody freezes meanwhile. */
static void test_guard_killed_that_tries_on(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = freeze ] || [ -e \"$LOG.works\" ] || "
                      "{ echo \"by $PPID\" >>\"$LOG\"; exit 1; }");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG), *other = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *works = g_strconcat(r.log, ".works", NULL), *text = NULL;

    hook_rig_freeze(q);
    g_assert_cmpint(quiesce_thaw(q, NULL), ==, -1);
    quiesce_free(q);
    kill(hook_rig_noted(&r, "by "), SIGKILL);
    hook_rig_wait_for_end(hook_rig_noted(&r, "by "));
    g_assert_true(g_file_set_contents(works, "", -1, NULL));
    hook_rig_freeze(other);
    text = hook_rig_read_log(&r);
    g_assert_true(g_str_has_suffix(text, "thaw vda a disk\nfreeze vda a disk\n"));
    hook_rig_thaw(other);
    quiesce_free(other);
    unlink(works);
    hook_rig_clear(&r);
}

/* ---- a server that dies ---- */

/* The test is its own server. $HOOK is the hook there. */
static void serve_and_die(void)
{
    g_autofree char *pid = g_strdup_printf("%d", getpid());
    struct quiesce *q = hook_rig_quiesce(g_getenv("HOOK"), LONG);

    g_setenv("SERVER", pid, TRUE);
    quiesce_freeze(q, NULL);
    kill(getpid(), SIGKILL);
}

static void die_with(struct hook_rig *r, const char *body)
{
    hook_rig_init(r, body);
    g_setenv("HOOK", r->hook, TRUE);
    g_test_trap_subprocess(NULL, 0, 0);
    g_test_trap_assert_failed();
    hook_rig_wait_for_log(r, "thaw vda a disk\n");
}

static void test_death(void)
{
    struct hook_rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(&r, "");
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    hook_rig_clear(&r);
}

/* A freeze that is under way is ended first: otherwise it could end after the thaw. */
static void test_death_in_freeze(void)
{
    struct hook_rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(&r, "[ $action = thaw ] && exit\n"
                 "trap 'echo ended >>\"$LOG\"; exit' TERM\n"
                 "kill -KILL $SERVER\n"
                 "while :; do sleep 0.01; done");
    hook_rig_assert_log(&r, "freeze vda a disk\nended\nthaw vda a disk\n");
    hook_rig_clear(&r);
}

/* Somebody ends all processes of the server, also the hook. */
static void test_death_of_all(void)
{
    struct hook_rig r;

    if (g_test_subprocess()) {
        serve_and_die();
        return;
    }
    die_with(
        &r, "[ $action = freeze ] && exit\n"
            "[ -e \"$LOG.once\" ] || { : >\"$LOG.once\"; echo killed >>\"$LOG\"; kill -TERM $$; }\n"
            "rm \"$LOG.once\"\n"
            "echo \"$*\" >>\"$LOG\"");
    hook_rig_assert_log(
        &r, "freeze vda a disk\nthaw vda a disk\nkilled\nthaw vda a disk\nthaw vda a disk\n");
    hook_rig_clear(&r);
}

/* ---- a guard without a server ---- */

static pid_t start_guard(const struct hook_rig *r, int *server)
{
    g_autofree char *path = hook_find_ours("freeze-guard");
    char *argv[] = {path, (char *)"60", (char *)"1", r->hook, (char *)"vda", NULL};
    posix_spawn_file_actions_t files;
    int ends[2];
    pid_t guard;

    g_assert_cmpint(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), ==, 0);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, ends[1], STDIN_FILENO);
    g_assert_cmpint(posix_spawn(&guard, path, &files, NULL, argv, environ), ==, 0);
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    *server = ends[0];
    return guard;
}

/* Nothing to thaw is left behind where the server dies: `thaw` would thaw the guests of others. */
static void test_none_asked(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] || exit 3");
    char answer[FREEZE_GUARD_ANSWER_MAX] = "";
    int server, status;
    pid_t guard = start_guard(&r, &server);

    g_assert_cmpint(send(server, "f", 1, 0), ==, 1);
    g_assert_cmpint(recv(server, answer, sizeof answer - 1, 0), >, 0);
    g_assert_cmpstr(answer, ==, "2exit status 3");
    close(server);
    g_assert_cmpint(waitpid(guard, &status, 0), ==, guard);
    g_assert_cmpint(status, ==, 0);
    hook_rig_assert_log(&r, "freeze vda\n");
    hook_rig_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    hook_rig_find_guard();
    g_test_add_func("/freeze-guard/signals", test_signals);
    g_test_add_func("/freeze-guard/guard-killed", test_guard_killed);
    g_test_add_func("/freeze-guard/guard-killed-in-freeze", test_guard_killed_in_freeze);
    g_test_add_func("/freeze-guard/guard-stopped", test_guard_stopped);
    g_test_add_func("/freeze-guard/guard-killed-that-tries-on", test_guard_killed_that_tries_on);
    g_test_add_func("/freeze-guard/death", test_death);
    g_test_add_func("/freeze-guard/death-in-freeze", test_death_in_freeze);
    g_test_add_func("/freeze-guard/death-of-all", test_death_of_all);
    g_test_add_func("/freeze-guard/none-asked", test_none_asked);
    return g_test_run();
}
