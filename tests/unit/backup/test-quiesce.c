/* SPDX-License-Identifier: BSD-3-Clause */
/* Guests that are quiesced: what the freeze hook is called with, sessions that take turns, and a server
 * that ends. */
#include "tests/rigs/hook-rig.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* ---- what a hook is called with ---- */

static void test_calls(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze(q);
    hook_rig_assert_log(&r, "freeze vda a disk\n");
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_words(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "for word; do echo \"<$word>\" >>\"$LOG\"; done");
    g_autofree char *command = g_strdup_printf("%s --socket 'my vm'", r.hook);
    struct quiesce *q = hook_rig_quiesce(command, LONG);

    hook_rig_freeze(q);
    hook_rig_assert_log(&r, "--socket my vm freeze vda a disk\n"
                            "<--socket>\n<my vm>\n<freeze>\n<vda>\n<a disk>\n");
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* Signals are the default (but for two of libc's own), no descriptor of ours is open, and our group is another one. */
static void test_surroundings(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "cat >>\"$LOG\"\n"
                      "for set in $(grep -E '^Sig(Blk|Ign)' /proc/self/status | cut -f 2); do\n"
                      "    echo $((0x$set & 0x7fffffff)) >>\"$LOG\"\n"
                      "done\n"
                      "ls -l /proc/self/fd | grep -c \"$LOG\" >>\"$LOG\"\n"
                      "[ $(ps -o pgid= -p $$) -eq $$ ] && echo own group >>\"$LOG\"\n"
                      "exit 0");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    int open_one = open(r.log, O_RDONLY);
    sigset_t set, before;
    void (*pipes)(int) = signal(SIGPIPE, SIG_IGN);

    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &set, &before);
    hook_rig_freeze(q);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    signal(SIGPIPE, pipes);
    close(open_one);
    /* `ls` itself has no descriptor of the log, but grep's output. */
    hook_rig_assert_log(&r, "freeze vda a disk\n"
                            "0\n0\n"
                            "0\n"
                            "own group\n");
    hook_rig_thaw(q);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* ---- several sessions ---- */

static void *freeze_and_thaw(void *opaque)
{
    struct quiesce *q = opaque;

    hook_rig_freeze(q);
    hook_rig_thaw(q);
    return NULL;
}

static void test_one_after_the_other(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *first = hook_rig_quiesce(r.hook, LONG),
                   *second = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze(first);
    GThread *other = g_thread_new("other", freeze_and_thaw, second);
    hook_rig_thaw(first);
    g_thread_join(other);
    hook_rig_assert_log(&r,
                        "freeze vda a disk\nthaw vda a disk\nfreeze vda a disk\nthaw vda a disk\n");
    quiesce_free(first);
    quiesce_free(second);
    hook_rig_clear(&r);
}

/* Who could not freeze does not thaw: it would be the other's guests. */
static void test_other_takes_long(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *first = hook_rig_quiesce(r.hook, LONG), *second = hook_rig_quiesce(r.hook, 1);

    hook_rig_freeze(first);
    hook_rig_freeze_fails(
        second, "freeze hook: %s: another session has not thawed its guests within 1 s", r.hook);
    hook_rig_thaw(second);
    hook_rig_assert_log(&r, "freeze vda a disk\n");
    hook_rig_thaw(first);
    hook_rig_freeze(second);
    hook_rig_thaw(second);
    quiesce_free(first);
    quiesce_free(second);
    hook_rig_clear(&r);
}

/* Exit status 3: there is nothing to thaw, and nothing that another session could meet. */
static void test_none_asked(void)
{
    struct hook_rig r;
    hook_rig_init(&r,
                  "[ $action = thaw ] || [ -e \"$LOG.agent\" ] || { echo no agent >&2; exit 3; }");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG), *other = hook_rig_quiesce(r.hook, 10);
    g_autofree char *agent = g_strconcat(r.log, ".agent", NULL);

    hook_rig_freeze_fails(q, "freeze hook: %s: exit status 3: no agent", r.hook);
    g_assert_false(quiesce_is_active(q));
    g_assert_true(g_file_set_contents(agent, "", -1, NULL));
    hook_rig_freeze(other);
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nfreeze vda a disk\n");
    hook_rig_thaw(other);
    quiesce_free(q);
    quiesce_free(other);
    unlink(agent);
    hook_rig_clear(&r);
}

/* It is a failure of `thaw` as any other. */
static void test_none_asked_to_thaw(void)
{
    struct hook_rig r;
    hook_rig_init(&r,
                  "[ $action = freeze ] || [ -e \"$LOG.once\" ] || { : >\"$LOG.once\"; exit 3; }");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    g_autofree char *once = g_strconcat(r.log, ".once", NULL);

    hook_rig_freeze(q);
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\nthaw vda a disk\n");
    unlink(once);
    quiesce_free(q);
    hook_rig_clear(&r);
}

/* ---- a server that ends ---- */

static void *fail_to_freeze(void *opaque)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(quiesce_freeze(opaque, &err), ==, -1);
    g_assert_nonnull(strstr(err->message, "given up because the server ends"));
    return NULL;
}

/* The guard thaws, and the server waits for that. */
static void test_cut_in_freeze(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "[ $action = thaw ] && exit\n"
                      "trap 'echo ended >>\"$LOG\"; exit' TERM\n"
                      "echo begun >>\"$LOG\"\n"
                      "while :; do sleep 0.01; done");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);
    GThread *thread = g_thread_new("freeze", fail_to_freeze, q);

    hook_rig_wait_for_log(&r, "begun\n");
    g_assert_true(quiesce_is_active(q));
    quiesce_cut(q);
    g_thread_join(thread);
    hook_rig_thaw(q);
    g_assert_false(quiesce_is_active(q));
    hook_rig_assert_log(&r, "freeze vda a disk\nbegun\nended\nthaw vda a disk\n");
    quiesce_free(q);
    hook_rig_clear(&r);
}

static void test_cut_while_it_waits(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *first = hook_rig_quiesce(r.hook, LONG),
                   *second = hook_rig_quiesce(r.hook, 3600);

    hook_rig_freeze(first);
    GThread *thread = g_thread_new("freeze", fail_to_freeze, second);
    quiesce_cut(second);
    g_thread_join(thread);
    hook_rig_thaw(second);
    hook_rig_thaw(first);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(first);
    quiesce_free(second);
    hook_rig_clear(&r);
}

/* Its instant is still to come: the guests stand still until then. */
static void test_cut_when_frozen(void)
{
    struct hook_rig r;
    hook_rig_init(&r, "");
    struct quiesce *q = hook_rig_quiesce(r.hook, LONG);

    hook_rig_freeze(q);
    quiesce_cut(q);
    g_assert_true(quiesce_is_active(q));
    hook_rig_thaw(q);
    hook_rig_assert_log(&r, "freeze vda a disk\nthaw vda a disk\n");
    quiesce_free(q);
    hook_rig_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    hook_rig_find_guard();
    g_test_add_func("/quiesce/calls", test_calls);
    g_test_add_func("/quiesce/words", test_words);
    g_test_add_func("/quiesce/surroundings", test_surroundings);
    g_test_add_func("/quiesce/cut-in-freeze", test_cut_in_freeze);
    g_test_add_func("/quiesce/cut-while-it-waits", test_cut_while_it_waits);
    g_test_add_func("/quiesce/cut-when-frozen", test_cut_when_frozen);
    g_test_add_func("/quiesce/one-after-the-other", test_one_after_the_other);
    g_test_add_func("/quiesce/other-takes-long", test_other_takes_long);
    g_test_add_func("/quiesce/none-asked", test_none_asked);
    g_test_add_func("/quiesce/none-asked-to-thaw", test_none_asked_to_thaw);
    return g_test_run();
}
