/* SPDX-License-Identifier: BSD-3-Clause */
/* The command of --freeze-hook. */
#include "tests/rigs/hook-rig.h"

#include "server/backup/hook-command.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    struct hook_rig r;
    hook_rig_init(&r, "");
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
    hook_rig_clear(&r);
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
    struct hook_rig r;
    hook_rig_init(&r, "");

    g_assert_cmpint(quiesce_check(r.hook, NULL), ==, 0);
    assert_unusable(r.folder, "it is not a program");
    assert_unusable("/no/such", g_strerror(ENOENT));
    chmod(r.hook, 0644);
    assert_unusable(r.hook, g_strerror(EACCES));
    hook_rig_clear(&r);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    hook_rig_find_guard();
    g_test_add_func("/hook-command/resolve", test_resolve);
    g_test_add_func("/hook-command/check", test_check);
    return g_test_run();
}
