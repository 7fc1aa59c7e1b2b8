/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/start/daemon.h"

#include "common/util/error.h"
#include "common/util/log.h"
#include "server/start/quit.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the background ---- */

/* The parent's part: tell its caller, by the exit code, how the start went. The child has written
 * what went wrong to standard error. */
static void G_GNUC_NORETURN await_child(pid_t child, int pipe_fd)
{
    char byte;
    ssize_t n;
    int status;

    do
        n = read(pipe_fd, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1)
        _exit(EXIT_SUCCESS);
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFSIGNALED(status))
        log_error("the server was killed by signal %d before it was ready", WTERMSIG(status));
    _exit(WIFEXITED(status) && WEXITSTATUS(status) ? WEXITSTATUS(status) : EXIT_FAILURE);
}

int daemon_fork(int *ready_fd, GError **err)
{
    int fds[2];
    pid_t child;

    if (pipe2(fds, O_CLOEXEC) < 0)
        return fail_errno(err, errno, "pipe");
    /* Buffered output would be written twice. */
    fflush(NULL);
    child = fork();
    if (child < 0) {
        fail_errno(err, errno, "fork");
        close(fds[0]);
        close(fds[1]);
        return -1;
    }
    if (child > 0) {
        quit_uninstall();
        close(fds[1]);
        await_child(child, fds[0]);
    }
    close(fds[0]);
    *ready_fd = fds[1];
    setsid();
    if (chdir("/") < 0)
        return fail_errno(err, errno, "chdir /");
    return 0;
}

void daemon_ready(int ready_fd, bool keep_stderr)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    ssize_t n;

    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
        if (!keep_stderr)
            dup2(null, STDERR_FILENO);
        if (null > STDERR_FILENO)
            close(null);
    }
    do
        n = write(ready_fd, "r", 1);
    while (n < 0 && errno == EINTR);
    if (n != 1)
        log_debug("nobody waits for the server to be ready: %m");
    close(ready_fd);
}

/* ---- the user ---- */

/* A whole number that can be a uid or gid; -1 is none. */
static bool parse_id(const char *text, unsigned *id)
{
    guint64 number;

    if (!g_ascii_string_to_unsigned(text, 10, 0, UINT32_MAX - 1, &number, NULL))
        return false;
    *id = number;
    return true;
}

static int find_group(const char *name, gid_t *gid, GError **err)
{
    const struct group *group;

    if (parse_id(name, gid))
        return 0;
    errno = 0;
    group = getgrnam(name);
    if (!group)
        return errno ? fail_errno(err, errno, "group '%s'", name)
                     : fail(err, "there is no group '%s'", name);
    *gid = group->gr_gid;
    return 0;
}

/* *entry is NULL for a number that has no name. */
static int find_user(const char *name, uid_t *uid, const struct passwd **entry, GError **err)
{
    errno = 0;
    if (parse_id(name, uid)) {
        *entry = getpwuid(*uid);
        return 0;
    }
    *entry = getpwnam(name);
    if (!*entry)
        return errno ? fail_errno(err, errno, "user '%s'", name)
                     : fail(err, "there is no user '%s'", name);
    *uid = (*entry)->pw_uid;
    return 0;
}

int daemon_find_user(const char *user, uid_t *uid, GError **err)
{
    const struct passwd *entry;

    return find_user(user, uid, &entry, err);
}

int daemon_change_user(const char *user, const char *group, GError **err)
{
    const struct passwd *entry = NULL;
    uid_t uid = 0;
    gid_t gid = 0;

    if (group && find_group(group, &gid, err) < 0)
        return -1;
    if (user && find_user(user, &uid, &entry, err) < 0)
        return -1;
    if (user && !group && !entry && uid != geteuid())
        return fail(err, "user '%s' has no name, and so no groups: say one with --group", user);
    if (group) {
        if (setgroups(1, &gid) < 0 || setgid(gid) < 0)
            return fail_errno(err, errno, "cannot change to group '%s'", group);
    } else if (entry) {
        if (initgroups(entry->pw_name, entry->pw_gid) < 0 || setgid(entry->pw_gid) < 0)
            return fail_errno(err, errno, "cannot change to the groups of user '%s'", user);
    }
    if (user && setuid(uid) < 0)
        return fail_errno(err, errno, "cannot change to user '%s'", user);
    return 0;
}

/* ---- the rest ---- */

int daemon_check_pid_file(const char *path, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(path);
    struct stat st;
    int error = 0;

    if (stat(path, &st) < 0 && errno == ENOENT)
        error = faccessat(AT_FDCWD, folder, W_OK | X_OK, AT_EACCESS) < 0 ? errno : 0;
    else if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) < 0)
        error = errno;
    else if (S_ISDIR(st.st_mode))
        error = EISDIR;
    return error ? fail_errno(err, error, "cannot write PID file '%s'", path) : 0;
}

int daemon_write_pid(const char *path, GError **err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0644);
    int error = 0;

    if (fd < 0)
        return fail_errno(err, errno, "cannot write PID file '%s'", path);
    if (dprintf(fd, "%d\n", (int)getpid()) < 0)
        error = errno;
    if (close(fd) < 0 && !error)
        error = errno;
    return error ? fail_errno(err, error, "cannot write PID file '%s'", path) : 0;
}

int daemon_stay_in_memory(GError **err)
{
    int fd;

    /* ONFAULT: bitmaps reserve far more addresses than they ever use. */
    if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
        return fail_errno(err, errno, "option '--swap': mlockall");
    fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "-1000", 5) < 0)
        log_debug("oom_score_adj stays as it is: %m");
    if (fd >= 0)
        close(fd);
    return 0;
}

int daemon_exit_with_parent(int parent, GError **err)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) < 0)
        return fail_errno(err, errno, "option '--exit-with-parent': prctl");
    if (getppid() != parent)
        raise(SIGTERM);
    return 0;
}
