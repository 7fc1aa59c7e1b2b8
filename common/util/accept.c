/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/accept.h"

#include <errno.h>
#include <glib.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* One thread of the process accepts at a time: the descriptor that one listener gives up for a
 * moment must not become another listener's client. Nobody blocks while holding it. Another thread
 * that opens a file can still take that descriptor. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

bool accept_has_run_out(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

/* This is an open file of its own and not a duplicate, since it may be the system's table of open
 * files that is full.
 *
 * The first g_strerror of a process opens files, to learn of the character set. When it logs a
 * refusal, that could take the descriptor which another listener has given up for a moment. So the
 * first one is here. (It is declared to be a constant, so its result has to be used.) */
int accept_reserve(void)
{
    const char *volatile text = g_strerror(EMFILE);

    (void)text;
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void take_again(int *reserve)
{
    int saved = errno;

    if (*reserve < 0)
        *reserve = accept_reserve();
    errno = saved;
}

/* Nothing is left but the reserve: accept with that. If the reserve can be taken again while the
 * client is there, a descriptor has become free, and the client is served. */
static int accept_with_reserve(int listener, int flags, int *reserve, bool *refused)
{
    int error = errno;

    close(*reserve);
    *reserve = -1;
    int fd = accept4(listener, NULL, NULL, flags);
    take_again(reserve);
    if (fd < 0 || *reserve >= 0)
        return fd;
    close(fd);
    take_again(reserve);
    *refused = true;
    errno = error;
    return -1;
}

int accept_or_refuse(int listener, int flags, int *reserve, bool *refused)
{
    *refused = false;
    pthread_mutex_lock(&turn);
    take_again(reserve);
    int fd = accept4(listener, NULL, NULL, flags);
    if (fd < 0 && accept_has_run_out(errno) && *reserve >= 0)
        fd = accept_with_reserve(listener, flags, reserve, refused);
    pthread_mutex_unlock(&turn);
    return fd;
}
