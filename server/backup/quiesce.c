/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The server does not run the hook itself: a process that it starts before does, the freeze-guard
 * (server/hooks/freeze-guard.h), and thaws when the server is gone. If the guard is gone or does not
 * answer, it is killed, and a new one thaws. A guard whose thaw fails tries on, and is not killed by us.
 *
 * Sessions freeze one at a time. Several disks may be of one guest, and this process does not know
 * which: a session's thaw would end the freeze of another that has not had its instant yet.
 */
#include "server/backup/quiesce.h"

#include "common/base/deadline.h"
#include "common/util/error.h"
#include "common/util/log.h"
#include "server/backup/hook-command.h"
#include "server/hooks/freeze-guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* So long another guard is started for one that was killed while it tried on, after a pause. */
#define TRY_SECONDS    3600
#define PAUSE_USEC     1000000
#define PAUSE_USEC_MAX (30 * PAUSE_USEC)

enum state {
    IDLE,
    FREEZING,
    FROZEN, /* `freeze` has run, whatever came of it */
};

struct quiesce {
    char **words, **disks;
    char *name; /* words[0] as UTF-8, for messages */
    unsigned seconds;
    bool has_turn;
    pid_t guard; /* 0: none */
    int fd;      /* to the guard; it stays while `state` is FREEZING */

    /* Under the lock; `state` is changed by the thread of freeze and thaw alone. */
    enum state state;
    bool cut; /* the server ends */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* ---- one at a time ---- */

static pthread_cond_t changed = PTHREAD_COND_INITIALIZER; /* the turn is free, or one is cut */
static bool turn_is_taken;

static bool take_turn(struct quiesce *q)
{
    struct timespec until = deadline_timespec(deadline_in(q->seconds * G_TIME_SPAN_SECOND));

    pthread_mutex_lock(&lock);
    while (turn_is_taken && !q->cut &&
           pthread_cond_clockwait(&changed, &lock, CLOCK_MONOTONIC, &until) == 0)
        ;
    q->has_turn = !turn_is_taken && !q->cut;
    turn_is_taken |= q->has_turn;
    pthread_mutex_unlock(&lock);
    return q->has_turn;
}

static void free_turn(void)
{
    pthread_mutex_lock(&lock);
    turn_is_taken = false;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

static void leave_turn(struct quiesce *q)
{
    if (q->has_turn)
        free_turn();
    q->has_turn = false;
}

/* ---- the end of the server ---- */

/* False: it is cut. */
static bool enter(struct quiesce *q, enum state state)
{
    bool goes_on;

    pthread_mutex_lock(&lock);
    q->state = state;
    goes_on = !q->cut;
    pthread_mutex_unlock(&lock);
    return goes_on;
}

/* The guard sees the end of what we send; we still hear what it answers. */
void quiesce_cut(struct quiesce *q)
{
    pthread_mutex_lock(&lock);
    q->cut = true;
    if (q->state == FREEZING)
        shutdown(q->fd, SHUT_WR);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

bool quiesce_is_cut(struct quiesce *q)
{
    bool cut;

    pthread_mutex_lock(&lock);
    cut = q->cut;
    pthread_mutex_unlock(&lock);
    return cut;
}

bool quiesce_is_active(struct quiesce *q)
{
    bool active;

    pthread_mutex_lock(&lock);
    active = q->state != IDLE;
    pthread_mutex_unlock(&lock);
    return active;
}

unsigned quiesce_end_seconds(unsigned seconds)
{
    return seconds + 2 * FREEZE_GUARD_EXTRA;
}

static int fail_cut(const struct quiesce *q, GError **err)
{
    g_clear_error(err);
    return fail(err, "freeze hook: %s: given up because the server ends", q->name);
}

/* ---- the guard ---- */

/* freeze-guard SECONDS COUNT WORD... DISK... */
static GPtrArray *guard_arguments(const struct quiesce *q, const char *path)
{
    GPtrArray *argv = g_ptr_array_new_with_free_func(g_free);

    g_ptr_array_add(argv, g_strdup(path));
    g_ptr_array_add(argv, g_strdup_printf("%u", q->seconds));
    g_ptr_array_add(argv, g_strdup_printf("%u", g_strv_length(q->words)));
    for (char **w = q->words; *w; w++)
        g_ptr_array_add(argv, g_strdup(*w));
    for (char **d = q->disks; *d; d++)
        g_ptr_array_add(argv, g_strdup(*d));
    g_ptr_array_add(argv, NULL);
    return argv;
}

/* In a session of its own, so that no signal to our process group reaches it; with the default signals;
 * and with none of our descriptors but standard error. Those that are not close-on-exec it closes
 * itself. */
static int spawn(pid_t *pid, const char *path, char **argv, int fd)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t set;
    int error;

    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, fd, STDIN_FILENO);
    posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    sigemptyset(&set);
    posix_spawnattr_setsigmask(&attributes, &set);
    sigfillset(&set);
    posix_spawnattr_setsigdefault(&attributes, &set);
    error = posix_spawn(pid, path, &files, &attributes, argv, environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

static int start_guard(struct quiesce *q, GError **err)
{
    g_autofree char *path = hook_find_ours("freeze-guard");
    g_autoptr(GPtrArray) argv = NULL;
    int ends[2], error;

    if (!path)
        return fail(err, "freeze hook: freeze-guard, a program of ours, is not installed");
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
        return fail_errno(err, errno, "freeze hook: socketpair");
    argv = guard_arguments(q, path);
    error = spawn(&q->guard, path, (char **)argv->pdata, ends[1]);
    close(ends[1]);
    if (error) {
        q->guard = 0;
        close(ends[0]);
        return fail_errno(err, error, "freeze hook: %s", path);
    }
    q->fd = ends[0];
    return 0;
}

/* End it and reap it, whatever it does. */
static void end_guard(struct quiesce *q)
{
    if (!q->guard)
        return;
    kill(q->guard, SIGKILL);
    while (waitpid(q->guard, NULL, 0) < 0 && errno == EINTR)
        ;
    q->guard = 0;
    close(q->fd);
}

/* The length of its answer; 0: it is gone; -1: it does not answer. */
static ssize_t receive(const struct quiesce *q, char *text, size_t size)
{
    gint64 deadline =
        g_get_monotonic_time() + (gint64)(q->seconds + FREEZE_GUARD_EXTRA) * G_TIME_SPAN_SECOND;
    gint64 left;

    while ((left = deadline - g_get_monotonic_time()) > 0) {
        struct pollfd in = {.fd = q->fd, .events = POLLIN};

        if (poll(&in, 1, (int)(left / 1000 + 1)) == 1) {
            ssize_t length = recv(q->fd, text, size, 0);

            return length > 0 ? length : 0;
        }
    }
    return -1;
}

/* Returns FREEZE_GUARD_DONE; or FREEZE_GUARD_FAILED or FREEZE_GUARD_NONE_ASKED, and *err; or 0 and *err:
 * it is not known what has happened. A guard that is cut takes no command, but answers as if it had been told to thaw. */
static char ask(struct quiesce *q, char command, GError **err)
{
    char text[FREEZE_GUARD_ANSWER_MAX + 1] = "";
    ssize_t length;

    if (send(q->fd, &command, 1, MSG_NOSIGNAL) < 0)
        log_debug("freeze hook: %s: the freeze-guard takes no command: %m", q->name);
    length = receive(q, text, FREEZE_GUARD_ANSWER_MAX);
    if (length <= 0) {
        fail(err, "freeze hook: %s: the freeze-guard %s", q->name,
             length == 0 ? "has ended" : "does not answer");
        return 0;
    }
    if (text[0] != FREEZE_GUARD_DONE) {
        g_autofree char *why = g_utf8_make_valid(text + 1, length - 1);

        fail(err, "freeze hook: %s: %s", q->name, why);
    }
    return text[0];
}

/* ---- one of them ---- */

struct quiesce *quiesce_new(const char *command, unsigned seconds, const GPtrArray *disks)
{
    struct quiesce *q = g_new0(struct quiesce, 1);

    q->words = hook_command_split(command, NULL);
    q->name = g_utf8_make_valid(q->words[0], -1);
    q->seconds = seconds;
    q->disks = g_new0(char *, disks->len + 1);
    for (unsigned i = 0; i < disks->len; i++)
        q->disks[i] = g_strdup(disks->pdata[i]);
    return q;
}

void quiesce_free(struct quiesce *q)
{
    if (!q)
        return;
    if (q->guard) /* it sees the end of the connection, and thaws */
        close(q->fd);
    leave_turn(q);
    g_strfreev(q->words);
    g_strfreev(q->disks);
    g_free(q->name);
    g_free(q);
}

int quiesce_check(const char *command, GError **err)
{
    g_auto(GStrv) words = hook_command_split(command, err);
    struct stat st;

    if (!words)
        return -1;
    if (stat(words[0], &st) < 0 || access(words[0], X_OK) < 0)
        return fail_errno(err, errno, "freeze hook: %s", words[0]);
    if (!S_ISREG(st.st_mode))
        return fail(err, "freeze hook: %s: it is not a program", words[0]);
    return 0;
}

/* ---- a thaw that is tried on ---- */

/* Until the guard has ended by itself: true, and whether guests are thawed. False: it was killed, or there
 * is none. */
static bool outlast_guard(struct quiesce *q, bool *thawed)
{
    int status = -1;

    if (!q->guard)
        return false;
    while (waitpid(q->guard, &status, 0) < 0 && errno == EINTR)
        ;
    close(q->fd);
    q->guard = 0;
    *thawed = status == 0;
    return !WIFSIGNALED(status);
}

/* It tries on by itself. */
static void start_thaw(struct quiesce *q, bool tell)
{
    const char command = FREEZE_GUARD_THAW;
    g_autoptr(GError) why = NULL;

    if (start_guard(q, &why) < 0) {
        if (tell)
            log_error("guests may stand still: thaw: %s", why->message);
    } else if (send(q->fd, &command, 1, MSG_NOSIGNAL) < 0)
        log_debug("freeze hook: %s: the freeze-guard takes no command: %m", q->name);
}

static void *thaw_on(void *opaque)
{
    struct quiesce *q = opaque;
    gint64 end = deadline_in(TRY_SECONDS * G_TIME_SPAN_SECOND);
    bool thawed = false;

    for (unsigned n = 0; !outlast_guard(q, &thawed) && deadline_in(0) < end; n++) {
        if (n == 0)
            log_error("freeze hook: %s: the freeze-guard is gone, another one thaws", q->name);
        else
            g_usleep(MIN(PAUSE_USEC << MIN(n - 1, 5), PAUSE_USEC_MAX));
        start_thaw(q, n == 0);
    }
    if (thawed)
        log_info("freeze hook: %s: guests are thawed at last", q->name);
    else
        log_error("freeze hook: %s: guests may stand still, and thaw is given up", q->name);
    quiesce_free(q);
    return NULL;
}

/* A copy keeps our guard and our turn until the end: a freeze of others' would meet guests that stand
 * still, or be ended by this thaw. If no thread can be made, the guard tries on all the same. */
static void thaw_later(struct quiesce *q)
{
    struct quiesce *left = g_new(struct quiesce, 1);
    GThread *thread;

    *left = (struct quiesce){.words = g_strdupv(q->words),
                             .disks = g_strdupv(q->disks),
                             .name = g_strdup(q->name),
                             .seconds = q->seconds,
                             .has_turn = q->has_turn,
                             .guard = q->guard,
                             .fd = q->fd};
    q->guard = 0;
    q->has_turn = false;
    thread = g_thread_try_new("thaw", thaw_on, left, NULL);
    if (thread)
        g_thread_unref(thread);
    else {
        if (!left->guard)
            start_thaw(left, true);
        quiesce_free(left);
    }
}

/* ---- freeze and thaw ---- */

int quiesce_freeze(struct quiesce *q, GError **err)
{
    char answer;

    if (!take_turn(q))
        return quiesce_is_cut(q)
                   ? fail_cut(q, err)
                   : fail(err,
                          "freeze hook: %s: another session has not thawed its guests within %u s",
                          q->name, q->seconds);
    if (start_guard(q, err) < 0)
        return -1;
    if (!enter(q, FREEZING)) {
        enter(q, IDLE);
        return fail_cut(q, err);
    }
    answer = ask(q, FREEZE_GUARD_FREEZE, err);
    enter(q, answer == FREEZE_GUARD_NONE_ASKED ? IDLE : FROZEN);
    if (!answer || answer == FREEZE_GUARD_NONE_ASKED)
        end_guard(q);
    if (answer == FREEZE_GUARD_NONE_ASKED)
        leave_turn(q);
    if (quiesce_is_cut(q))
        return fail_cut(q, err);
    return answer == FREEZE_GUARD_DONE ? 0 : -1;
}

/* Twice, where it is the guard that fails. One that is there at the end may still be trying. */
static int thaw(struct quiesce *q, GError **err)
{
    for (unsigned i = 0; i < 2; i++) {
        char answer;

        g_clear_error(err);
        if (!q->guard && start_guard(q, err) < 0)
            return -1;
        answer = ask(q, FREEZE_GUARD_THAW, err);
        if (answer)
            return answer == FREEZE_GUARD_DONE ? 0 : -1;
        if (i == 0)
            end_guard(q);
    }
    return -1;
}

int quiesce_thaw(struct quiesce *q, GError **err)
{
    g_autoptr(GError) why = NULL;
    int r = q->state == IDLE ? 0 : thaw(q, &why);

    if (r < 0)
        thaw_later(q);
    end_guard(q);
    enter(q, IDLE);
    leave_turn(q);
    if (r == 0)
        return 0;
    log_error("guests may stand still: thaw: %s", why->message);
    return fail(err, "guests may stand still: thaw: %s", why->message);
}
