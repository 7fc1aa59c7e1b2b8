/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/deadline.h"

#define USEC_PER_SEC 1000000

int64_t deadline_in(int64_t usec)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * USEC_PER_SEC + now.tv_nsec / 1000 + usec;
}

struct timespec deadline_timespec(int64_t deadline)
{
    return (struct timespec){.tv_sec = deadline / USEC_PER_SEC,
                             .tv_nsec = deadline % USEC_PER_SEC * 1000};
}

struct timespec deadline_left(int64_t deadline)
{
    int64_t left = deadline - deadline_in(0);

    return deadline_timespec(left > 0 ? left : 0);
}
