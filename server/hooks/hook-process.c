/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SIGCHLD is blocked, except while ppoll(2) waits. So ppoll ends when the program has ended, also if that
 * happens right before it.
 *
 * The end of the program counts, not the end of its output: a process that it leaves behind may keep
 * its standard error open for ever.
 */
#include "server/hooks/hook-process.h"

#include "common/base/deadline.h"
#include "server/hooks/hook-status.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Microseconds that a program has to end after SIGTERM, and after SIGKILL. */
#define END_USEC 1000000

/* So many times PIPE_BUF bytes are read at most when the program has ended: what a pipe has, and more. */
#define READS_AT_END 64

/* The last line of the output: its first bytes. */
struct last_line {
    char text[400];
    size_t length;
    bool complete; /* a line feed has come: the next byte begins a new line */
};

struct child {
    pid_t pid; /* and its process group */
    int output;
    struct last_line line;
};

static void on_child(int number)
{
}

void hook_prepare(void)
{
    struct sigaction action = {.sa_handler = on_child};
    sigset_t set;

    sigemptyset(&action.sa_mask);
    sigaction(SIGCHLD, &action, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
}

static int explain(char *why, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static int explain(char *why, size_t size, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(why, size, format, args);
    va_end(args);
    return -1;
}

/* ---- the child ---- */

static void default_signals(void)
{
    sigset_t none;

    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* What it says before exec(3) is read like what the program says. */
static void __attribute__((noreturn)) become(const struct hook_run *run, int output, pid_t parent)
{
    int null;

    setpgid(0, 0);
    close(STDIN_FILENO);
    null = open("/dev/null", O_RDONLY);
    if (null != STDIN_FILENO)
        _exit(127);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    if (run->dies_with_us) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            _exit(127);
    }
    default_signals();
    setenv(HOOK_VARIABLE, run->argv[0], 1); /* there is one thread, so it may allocate memory */
    execv(run->argv[0], run->argv);
    dprintf(STDERR_FILENO, "it cannot be run: %s\n", strerror(errno));
    _exit(127);
}

static int start(struct child *c, const struct hook_run *run, char *why, size_t size)
{
    pid_t self = getpid();
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        return explain(why, size, "pipe: %s", strerror(errno));
    c->pid = fork();
    if (c->pid == 0)
        become(run, ends[1], self);
    close(ends[1]);
    if (c->pid < 0) {
        close(ends[0]);
        return explain(why, size, "fork: %s", strerror(errno));
    }
    /* The child does the same: whoever is first. */
    setpgid(c->pid, c->pid);
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    c->output = ends[0];
    return 0;
}

/* ---- its output ---- */

static void take_text(struct last_line *line, const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (text[i] == '\n') {
            line->complete = true;
            continue;
        }
        if (line->complete) {
            line->length = 0;
            line->complete = false;
        }
        if (line->length < sizeof line->text - 1)
            line->text[line->length++] = (unsigned char)text[i] < ' ' ? ' ' : text[i];
    }
    line->text[line->length] = '\0';
}

/* Nobody may read what we write, so it must not block. A pipe takes PIPE_BUF bytes at once where
 * poll(2) says that it can be written. */
static void pass_on(const char *text, size_t length)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};

    if (poll(&out, 1, 0) == 1 && (out.revents & POLLOUT) && write(STDERR_FILENO, text, length) < 0)
        return; /* the text is lost; its last line is in the answer */
}

/* Take some of what is there; false: nothing is. One call reads once, because a program may write without
 * end. At the end of the output, it is closed. */
static bool read_output(struct child *c)
{
    char text[PIPE_BUF];
    ssize_t n;

    if (c->output < 0)
        return false;
    n = read(c->output, text, sizeof text);
    if (n > 0) {
        take_text(&c->line, text, (size_t)n);
        pass_on(text, (size_t)n);
        return true;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return errno == EINTR;
    close(c->output);
    c->output = -1;
    return false;
}

/* ---- waiting for it ---- */

static bool has_ended(const struct child *c)
{
    siginfo_t info = {.si_pid = 0};

    return waitid(P_PID, (id_t)c->pid, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || info.si_pid != 0;
}

enum ending { HAS_ENDED, IS_LATE, IS_POINTLESS };

/* Until the program has ended, or `deadline`, or nobody is at the other end of `watch` (-1: no such
 * end). */
static enum ending wait_for(struct child *c, int64_t deadline, int watch)
{
    struct pollfd fds[] = {{.fd = watch, .events = POLLRDHUP}, {.events = POLLIN}};
    sigset_t none;

    sigemptyset(&none);
    for (;;) {
        struct timespec left = deadline_left(deadline);

        if (has_ended(c))
            return HAS_ENDED;
        if (left.tv_sec == 0 && left.tv_nsec == 0)
            return IS_LATE;
        fds[1].fd = c->output;
        if (ppoll(fds, 2, &left, &none) <= 0)
            continue;
        if (fds[0].revents)
            return IS_POINTLESS;
        if (fds[1].revents)
            read_output(c);
    }
}

/* The program is not reaped before its group is killed: the group's number cannot be another's. */
static void end_group(struct child *c)
{
    kill(-c->pid, SIGTERM);
    wait_for(c, deadline_in(END_USEC), -1);
    kill(-c->pid, SIGKILL);
    wait_for(c, deadline_in(END_USEC), -1);
}

/* One that not even SIGKILL ends, because it hangs in the kernel, is left. */
static int reap(struct child *c, int *status)
{
    for (unsigned i = 0; i < READS_AT_END && read_output(c); i++)
        ;
    if (c->output >= 0)
        close(c->output);
    return waitpid(c->pid, status, WNOHANG) == c->pid ? 0 : -1;
}

static int judge(const struct child *c, int status, char *why, size_t size)
{
    const char *colon = c->line.length ? ": " : "";

    if (WIFSIGNALED(status))
        return explain(why, size, "killed by signal %d%s%s", WTERMSIG(status), colon, c->line.text);
    if (WEXITSTATUS(status) != 0)
        explain(why, size, "exit status %d%s%s", WEXITSTATUS(status), colon, c->line.text);
    return WEXITSTATUS(status);
}

int hook_run(const struct hook_run *run, char *why, size_t size)
{
    struct child c = {.output = -1};
    enum ending ending;
    int status = 0;

    if (start(&c, run, why, size) < 0)
        return -1;
    ending = wait_for(&c, run->deadline, run->watch);
    if (ending != HAS_ENDED)
        end_group(&c);
    if (reap(&c, &status) < 0 && ending == HAS_ENDED)
        return explain(why, size, "its exit status is lost");
    if (ending == HAS_ENDED)
        return judge(&c, status, why, size);
    return explain(why, size, "it has not ended within %u s%s%s", run->seconds,
                   c.line.length ? ": " : "", c.line.text);
}
