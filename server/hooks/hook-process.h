/* SPDX-License-Identifier: BSD-3-Clause */
/* One run of a program with a time limit, for a process with one thread. */
#ifndef HOOKS_HOOK_PROCESS_H
#define HOOKS_HOOK_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hook_run {
    char **argv;       /* NULL at its end; [0] is the path of the program */
    int64_t deadline;  /* common/base/deadline.h */
    unsigned seconds;  /* the time that it has, for the message */
    int watch;         /* a socket: if its other end is closed, the program is ended; -1: none */
    bool dies_with_us; /* it is killed when this process dies */
};

/* Call once, before the first run. */
void hook_prepare(void);

/* Run a program, in a process group of its own, and wait for it. Its standard input is /dev/null, its
 * output goes where its errors go: to our standard error, as far as that takes it at once. If it has not
 * ended in time, its group is ended: by SIGTERM, and a second later by SIGKILL. Returns the exit status
 * with which it has ended by itself; -1: it has not. Where that is not 0, `why`, of `size` bytes, has the
 * reason, with the last line that it wrote. */
int hook_run(const struct hook_run *run, char *why, size_t size);

#endif
