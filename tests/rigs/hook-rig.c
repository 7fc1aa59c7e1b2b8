/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/hook-rig.h"

#include "common/util/error.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Milliseconds: how long an event may take. */
#define SOON 60000

void hook_rig_find_guard(void)
{
    g_autofree char *hooks = g_build_filename(g_getenv("top_builddir"), "server", "hooks", NULL);

    g_setenv("NBDFLEECE_HOOK_PATH", hooks, TRUE);
}

void hook_rig_init(struct hook_rig *r, const char *body)
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

void hook_rig_clear(struct hook_rig *r)
{
    unlink(r->hook);
    unlink(r->log);
    g_assert_cmpint(rmdir(r->folder), ==, 0);
    g_free(r->hook);
    g_free(r->log);
    g_free(r->folder);
}

/* ---- the log ---- */

char *hook_rig_read_log(const struct hook_rig *r)
{
    char *text;

    g_assert_true(g_file_get_contents(r->log, &text, NULL, NULL));
    return text;
}

void hook_rig_assert_log(const struct hook_rig *r, const char *expected)
{
    g_autofree char *text = hook_rig_read_log(r);

    g_assert_cmpstr(text, ==, expected);
}

static bool ends_with(const struct hook_rig *r, const char *line)
{
    g_autofree char *text = hook_rig_read_log(r);

    return g_str_has_suffix(text, line);
}

void hook_rig_wait_for_log(const struct hook_rig *r, const char *line)
{
    char events[4096];
    struct pollfd changed = {.fd = inotify_init1(IN_CLOEXEC), .events = POLLIN};

    g_assert_cmpint(inotify_add_watch(changed.fd, r->log, IN_MODIFY), >=, 0);
    while (!ends_with(r, line)) {
        g_assert_cmpint(poll(&changed, 1, SOON), ==, 1);
        g_assert_cmpint(read(changed.fd, events, sizeof events), >, 0);
    }
    close(changed.fd);
}

int hook_rig_noted(const struct hook_rig *r, const char *word)
{
    g_autofree char *text = hook_rig_read_log(r);
    const char *at = strstr(text, word);

    g_assert_nonnull(at);
    return atoi(at + strlen(word));
}

/* ---- processes ---- */

/* Does it end within so many milliseconds? */
static bool ends_within(int pid, int milliseconds)
{
    struct pollfd end = {.fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN};
    bool ended;

    if (end.fd < 0) {
        g_assert_cmpint(errno, ==, ESRCH);
        return true;
    }
    ended = poll(&end, 1, milliseconds) == 1;
    close(end.fd);
    return ended;
}

bool hook_rig_has_ended(int pid)
{
    return ends_within(pid, 0);
}

void hook_rig_wait_for_end(int pid)
{
    g_assert_true(ends_within(pid, SOON));
}

/* ---- freezing ---- */

struct quiesce *hook_rig_quiesce(const char *command, unsigned seconds)
{
    g_autoptr(GPtrArray) disks = g_ptr_array_new();

    g_ptr_array_add(disks, (char *)"vda");
    g_ptr_array_add(disks, (char *)"a disk");
    return quiesce_new(command, seconds, disks);
}

void hook_rig_freeze(struct quiesce *q)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(quiesce_freeze(q, &err), ==, 0);
    g_assert_no_error(err);
}

void hook_rig_freeze_fails(struct quiesce *q, const char *format, ...)
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

void hook_rig_thaw(struct quiesce *q)
{
    g_autoptr(GError) err = NULL;

    g_assert_cmpint(quiesce_thaw(q, &err), ==, 0);
    g_assert_no_error(err);
}
