/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/accept.h"

#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* One accepts at a time, in the whole process, whose descriptors they are: what one listener gives
 * up for a moment must not be what another one serves a client with. Nobody blocks in here. Files
 * that others open meanwhile can still come between. */
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER;

bool accept_has_run_out(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

/* An open file of its own, not a duplicate: the system's table of files may be what is full. */
int accept_reserve(void)
{
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static void take_again(int *reserve)
{
    int saved = errno;

    if (*reserve < 0)
        *reserve = accept_reserve();
    errno = saved;
}

/* Nothing is left but the reserve: accept with that. If it can be taken again although the client
 * is there, things are not that bad any more, and he is served. */
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
