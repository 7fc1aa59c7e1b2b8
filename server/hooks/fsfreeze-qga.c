/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A freeze hook for guests with a QEMU guest agent: nbdfleece-fsfreeze-qga(1).
 *
 * Each run makes connections of its own and closes them. QEMU serves one client of an agent at a time.
 */
#include "server/hooks/guest-agent.h"

#include "common/base/deadline.h"
#include "common/util/error.h"
#include "server/hooks/hook-status.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* A freeze that fails is followed by a thaw; both together take less than --freeze-timeout by default. */
#define DEFAULT_SECONDS 4

#define THAW "guest-fsfreeze-thaw"

struct plan {
    unsigned seconds;
    bool freezes;
    GPtrArray *sockets; /* paths, each once; of the guests concerned */
};

/* ---- the command line ---- */

static const char usage_text[] =
    "fsfreeze-qga [--timeout SECONDS] [DISK=]SOCKET... freeze|thaw [DISK]...\n"
    "\n"
    "Freezes or thaws the file systems of guests by their QEMU guest agents. It is a\n"
    "freeze hook of nbdfleece:\n"
    "\n"
    "  nbdfleece --freeze-hook 'fsfreeze-qga /run/vm1-qga.sock' ...\n"
    "\n"
    "All is explained in nbdfleece-fsfreeze-qga(1).\n";

static bool has_disk(char **disks, const char *name, size_t length)
{
    for (; *disks; disks++) {
        if (strlen(*disks) == length && strncmp(*disks, name, length) == 0)
            return true;
    }
    return false;
}

/* `word` is SOCKET or DISK=SOCKET. A path with '=' in it is not taken for the latter. */
static void add_socket(struct plan *p, const char *word, char **disks)
{
    const char *equals = strchr(word, '='), *slash = strchr(word, '/');
    const char *path = word;

    if (equals && (!slash || equals < slash)) {
        if (!has_disk(disks, word, (size_t)(equals - word)))
            return;
        path = equals + 1;
    }
    if (!g_ptr_array_find_with_equal_func(p->sockets, path, g_str_equal, NULL))
        g_ptr_array_add(p->sockets, (char *)path);
}

/* argv without the program. */
static int parse(struct plan *p, char **argv)
{
    char **action = argv;

    if (*argv && strcmp(*argv, "--timeout") == 0) {
        guint64 seconds;

        if (!argv[1] || !g_ascii_string_to_unsigned(argv[1], 10, 1, 3600, &seconds, NULL))
            return -1;
        p->seconds = (unsigned)seconds;
        argv += 2;
    }
    action = argv;
    while (*action && strcmp(*action, "freeze") != 0 && strcmp(*action, "thaw") != 0)
        action++;
    if (!*action || action == argv || **argv == '-')
        return -1;
    p->freezes = strcmp(*action, "freeze") == 0;
    for (char **word = argv; word < action; word++)
        add_socket(p, *word, action + 1);
    return 0;
}

/* ---- one guest ---- */

static int check_thawed(struct guest_agent *a, const char *path, bool *frozen, GError **err)
{
    g_autofree char *status = NULL;

    if (guest_agent_text(a, "guest-fsfreeze-status", &status, err) < 0)
        return -1;
    if (strcmp(status, "thawed") == 0)
        return 0;
    if (frozen)
        *frozen = true;
    return fail(err, "agent %s: the guest is %s", path, status);
}

static int freeze_with(struct guest_agent *a, const char *path, GError **err)
{
    gint64 frozen;

    if (guest_agent_number(a, "guest-fsfreeze-freeze", &frozen, err) < 0)
        return -1;
    if (frozen <= 0)
        return fail(err, "agent %s: guest-fsfreeze-freeze: it has frozen no file system", path);
    return 0;
}

static int thaw_with(struct guest_agent *a, const char *path, GError **err)
{
    gint64 thawed;

    if (guest_agent_number(a, THAW, &thawed, err) < 0)
        return -1;
    return check_thawed(a, path, NULL, err);
}

/* An agent that is still freezing answers nothing before it has done so, which may be when we have given
 * up. So it has the command by then. A guest that does not run does not stand still. */
static int thaw_guest(const char *path, gint64 deadline, GError **err)
{
    bool absent = false;
    struct guest_agent *a = guest_agent_open(path, THAW, deadline, &absent, err);
    int r = a ? thaw_with(a, path, err) : -1;

    guest_agent_close(a);
    if (!absent)
        return r;
    g_clear_error(err);
    return 0;
}

/* ---- all of them ---- */

struct thawing {
    const char *path;
    gint64 deadline;
    GThread *thread; /* NULL: there is none */
    GError *err;
};

static void *thaw_one(void *opaque)
{
    struct thawing *t = opaque;

    thaw_guest(t->path, t->deadline, &t->err);
    return NULL;
}

/* The first n, all at once: no guest waits for another one's agent that hangs. */
static int thaw(const struct plan *p, unsigned n)
{
    g_autofree struct thawing *all = g_new0(struct thawing, MAX(n, 1));
    int r = 0;

    for (unsigned i = 0; i < n; i++) {
        all[i].path = p->sockets->pdata[i];
        all[i].deadline = deadline_in(p->seconds * G_TIME_SPAN_SECOND);
        all[i].thread = g_thread_try_new("thaw", thaw_one, &all[i], NULL);
        if (!all[i].thread)
            thaw_one(&all[i]);
    }
    for (unsigned i = 0; i < n; i++) {
        if (all[i].thread)
            g_thread_join(all[i].thread);
        if (!all[i].err)
            continue;
        fprintf(stderr, "%s\n", all[i].err->message);
        g_error_free(all[i].err);
        r = -1;
    }
    return r;
}

/* Connect to all agents, and see that the guests are thawed, before the first one is told to freeze: no
 * guest stands still while another one's agent is waited for. 0, or the exit status and *err, of the first
 * that is not reached. A guest that somebody else has frozen, and may thaw at any time, is not frozen by
 * us; but it may be what a run of ours that was killed has left, and then it has to be thawed. So all are
 * asked, and none may take the time of those behind it. */
static int reach_all(const struct plan *p, gint64 deadline, GPtrArray *agents, GError **err)
{
    int status = 0;

    for (unsigned i = 0; i < p->sockets->len; i++) {
        const char *path = p->sockets->pdata[i];
        gint64 now = deadline_in(0), share = (deadline - now) / (p->sockets->len - i);
        bool frozen = false;
        g_autoptr(GError) why = NULL;
        struct guest_agent *a = guest_agent_open(path, NULL, now + share, NULL, &why);

        if (a)
            g_ptr_array_add(agents, a);
        if (a && check_thawed(a, path, &frozen, &why) == 0)
            continue;
        if (frozen)
            status = EXIT_FAILURE;
        else if (status == 0)
            status = HOOK_NONE_ASKED;
        if (!*err)
            *err = g_steal_pointer(&why);
    }
    return status;
}

/* A script of which this is a part may have frozen other guests before, and may end with our status. */
static bool is_the_hook(void)
{
    const char *path = g_getenv(HOOK_VARIABLE);
    struct stat hook, self;

    return path && stat(path, &hook) == 0 && stat("/proc/self/exe", &self) == 0 &&
           hook.st_dev == self.st_dev && hook.st_ino == self.st_ino;
}

/* How many guests have been told to freeze; *err: the last of them has not done so. */
static unsigned freeze_all(const struct plan *p, gint64 deadline, const GPtrArray *agents,
                           GError **err)
{
    unsigned told = 0;

    while (told < agents->len) {
        unsigned i = told++;

        guest_agent_set_deadline(agents->pdata[i], deadline);
        if (freeze_with(agents->pdata[i], p->sockets->pdata[i], err) < 0)
            break;
    }
    return told;
}

static void close_agent(void *a)
{
    guest_agent_close(a);
}

/* Returns the exit status. Also the guest that was not frozen is thawed: its agent may still be about to
 * freeze it. QEMU serves the connection that thaws when ours is closed. The reason is said last, since
 * the server shows the last line. */
static int freeze(const struct plan *p)
{
    gint64 deadline = deadline_in(p->seconds * G_TIME_SPAN_SECOND);
    GPtrArray *agents = g_ptr_array_new_with_free_func(close_agent);
    g_autoptr(GError) err = NULL;
    int status = reach_all(p, deadline, agents, &err);
    unsigned told = status == 0 ? freeze_all(p, deadline, agents, &err) : 0;

    g_ptr_array_unref(agents);
    if (!err)
        return EXIT_SUCCESS;
    if (told > 0)
        thaw(p, told);
    fprintf(stderr, "%s\n", err->message);
    return told > 0 || !is_the_hook() ? EXIT_FAILURE : status;
}

int main(int argc, char **argv)
{
    g_autoptr(GPtrArray) sockets = g_ptr_array_new();
    struct plan p = {.seconds = DEFAULT_SECONDS, .sockets = sockets};

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage_text, stdout);
        return 0;
    }
    if (parse(&p, argv + 1) < 0) {
        fputs(usage_text, stderr);
        return 2;
    }
    if (p.freezes)
        return freeze(&p);
    return thaw(&p, sockets->len) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
