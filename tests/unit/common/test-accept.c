/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

struct door {
    int listener, reserve;
    struct sockaddr_un address;
    socklen_t length;
    struct rlimit limit;
};

static void door_begin(struct door *d)
{
    *d = (struct door){.length = sizeof d->address};
    d->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_un any = {.sun_family = AF_UNIX};
    /* A name without a file, which the kernel chooses. */
    g_assert_cmpint(bind(d->listener, (struct sockaddr *)&any, sizeof(sa_family_t)), ==, 0);
    g_assert_cmpint(listen(d->listener, 10), ==, 0);
    g_assert_cmpint(getsockname(d->listener, (struct sockaddr *)&d->address, &d->length), ==, 0);
    d->reserve = accept_reserve();
    g_assert_cmpint(d->reserve, >=, 0);
    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &d->limit), ==, 0);
}

static void door_end(struct door *d)
{
    close(d->listener);
    close(d->reserve);
}

static int client_new(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

static void knock(const struct door *d, int fd)
{
    g_assert_cmpint(connect(fd, (const struct sockaddr *)&d->address, d->length), ==, 0);
}

/* Limit the descriptors to those that are open now and `room` more. */
static void leave(const struct door *d, unsigned room)
{
    struct rlimit tight = d->limit;
    int held[256], n = 0;

    /* The limit is the first number that is not allowed, so this looks which numbers are free. */
    for (unsigned i = 0; i <= room; i++)
        held[n++] = fcntl(d->listener, F_DUPFD_CLOEXEC, 0);
    tight.rlim_cur = (rlim_t)held[n - 1];
    while (n > 0)
        close(held[--n]);
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &tight), ==, 0);
}

static void relax(const struct door *d)
{
    g_assert_cmpint(setrlimit(RLIMIT_NOFILE, &d->limit), ==, 0);
}

static int take(struct door *d, bool *refused)
{
    return accept_or_refuse(d->listener, SOCK_CLOEXEC, &d->reserve, refused);
}

static void expect_end(int fd)
{
    char byte;
    ssize_t n = recv(fd, &byte, 1, MSG_DONTWAIT);

    g_assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
    close(fd);
}

static void expect_waiting(int fd)
{
    char byte;

    g_assert_cmpint(recv(fd, &byte, 1, MSG_DONTWAIT), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
}

static void test_usual(void)
{
    struct door d;
    bool refused = true;

    door_begin(&d);
    g_assert_cmpint(take(&d, &refused), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_false(refused);
    int client = client_new();
    knock(&d, client);
    int fd = take(&d, &refused);
    g_assert_cmpint(fd, >=, 0);
    g_assert_false(refused);
    expect_waiting(client);
    close(fd);
    expect_end(client);
    door_end(&d);
}

static void test_run_out(void)
{
    struct door d;
    bool refused = false;
    int clients[5];

    door_begin(&d);
    for (unsigned i = 0; i < G_N_ELEMENTS(clients); i++)
        clients[i] = client_new();
    leave(&d, 0);
    for (unsigned i = 0; i < G_N_ELEMENTS(clients); i++)
        knock(&d, clients[i]);
    for (unsigned i = 0; i < G_N_ELEMENTS(clients); i++) {
        g_assert_cmpint(take(&d, &refused), ==, -1);
        g_assert_cmpint(errno, ==, EMFILE);
        g_assert_true(accept_has_run_out(errno));
        g_assert_true(refused);
        g_assert_cmpint(d.reserve, >=, 0);
    }
    /* Nobody waits any more. */
    g_assert_cmpint(take(&d, &refused), ==, -1);
    g_assert_cmpint(errno, ==, EAGAIN);
    g_assert_false(refused);
    g_assert_cmpint(d.reserve, >=, 0);
    relax(&d);
    for (unsigned i = 0; i < G_N_ELEMENTS(clients); i++)
        expect_end(clients[i]);
    door_end(&d);
}

/* A client gets the last descriptor: the reserve that is there already does not need it. */
static void test_last_one(void)
{
    struct door d;
    bool refused = true;
    int clients[2] = {client_new(), client_new()};

    door_begin(&d);
    leave(&d, 1);
    knock(&d, clients[0]);
    knock(&d, clients[1]);
    int fd = take(&d, &refused);
    g_assert_cmpint(fd, >=, 0);
    g_assert_false(refused);
    g_assert_cmpint(take(&d, &refused), ==, -1);
    g_assert_true(refused);
    relax(&d);
    expect_waiting(clients[0]);
    expect_end(clients[1]);
    close(fd);
    close(clients[0]);
    door_end(&d);
}

/* Another thread has opened a file with the descriptor of the reserve: the client waits, and the
 * reserve is taken again as soon as a descriptor is free. */
static void test_lost_reserve(void)
{
    struct door d;
    bool refused = true;
    int clients[2] = {client_new(), client_new()};

    door_begin(&d);
    leave(&d, 0);
    knock(&d, clients[0]);
    knock(&d, clients[1]);
    close(d.reserve);
    int other = dup(d.listener);
    g_assert_cmpint(other, ==, d.reserve);
    d.reserve = -1;
    g_assert_cmpint(take(&d, &refused), ==, -1);
    g_assert_cmpint(errno, ==, EMFILE);
    g_assert_false(refused);
    g_assert_cmpint(d.reserve, ==, -1);
    expect_waiting(clients[0]);
    close(other);
    g_assert_cmpint(take(&d, &refused), ==, -1);
    g_assert_true(refused);
    g_assert_cmpint(d.reserve, >=, 0);
    relax(&d);
    expect_end(clients[0]);
    int fd = take(&d, &refused);
    g_assert_cmpint(fd, >=, 0);
    close(fd);
    expect_end(clients[1]);
    door_end(&d);
}

/* From now on, whatever opens a file in this process ends it by SIGSYS, the C library included. -1:
 * the system does not allow such filters. */
static int forbid_opening(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
#ifdef __NR_open
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_open, 2, 0),
#else
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 2, 0),
#endif
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_openat, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {.len = G_N_ELEMENTS(code), .filter = code};

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* What this program becomes when that is its first argument, and its status then. */
#define CHILD "refuse-and-say"
enum { SAID, NOT_SAID, CANNOT_SAY };

/* Refuse a client, and say why. */
static int refuse_and_say(void)
{
    struct door d;
    bool refused = false;
    int client = client_new();

    door_begin(&d);
    leave(&d, 0);
    knock(&d, client);
    if (forbid_opening() < 0)
        return CANNOT_SAY;
    if (take(&d, &refused) != -1 || errno != EMFILE || !refused)
        return NOT_SAID;
    return strcmp(g_strerror(errno), "Too many open files") == 0 ? SAID : NOT_SAID;
}

/* The text of a refusal opens no file: the file could take the descriptor which another listener
 * has given up for a moment. Only the first g_strerror of a process opens files, and g_test_init
 * calls it, too. So a program that has just begun is asked. */
static void test_text_opens_nothing(void)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        execl("/proc/self/exe", "test-accept", CHILD, NULL);
        _exit(NOT_SAID);
    }
    g_assert_cmpint(waitpid(pid, &status, 0), ==, pid);
    if (WIFEXITED(status) && WEXITSTATUS(status) == CANNOT_SAY) {
        g_test_skip("no system calls can be forbidden here");
        return;
    }
    g_assert_true(WIFEXITED(status));
    g_assert_cmpint(WEXITSTATUS(status), ==, SAID);
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], CHILD) == 0)
        _exit(refuse_and_say()); /* at once: a sanitizer opens files at a usual end */
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/accept/text-opens-nothing", test_text_opens_nothing);
    g_test_add_func("/accept/usual", test_usual);
    g_test_add_func("/accept/run-out", test_run_out);
    g_test_add_func("/accept/last-one", test_last_one);
    g_test_add_func("/accept/lost-reserve", test_lost_reserve);
    return g_test_run();
}
