/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The orderly end as steps, one after another. A step completes by an event, from any thread, while
 * the main loop runs: so monitors are answered meanwhile. Each step has a time limit. What has not
 * completed by then is left as it is, and the next step begins all the same.
 */
#ifndef START_SHUTDOWN_H
#define START_SHUTDOWN_H

#include <stdbool.h>

struct shutdown_ticket;

struct shutdown_step {
    unsigned limit_ms;
    /* Begin. The step completes with shutdown_complete(ticket), which may be called in here. */
    void (*begin)(void *opaque, struct shutdown_ticket *ticket);
    /* The limit has passed: say in the log what is left. From now on it is not touched: its threads
     * may use it until the process ends. */
    void (*give_up)(void *opaque);
};

/* Begin with the first step. `steps` and `opaque` stay the caller's until `ended` has been called,
 * once, when all steps have completed (`in_order`) or been given up. All callbacks come from the
 * default main context. Main thread. */
void shutdown_start(const struct shutdown_step *steps, unsigned n_steps,
                    void (*ended)(void *opaque, bool in_order), void *opaque);

/* This step is over. Consumes the ticket. After the step has been given up it has no effect. Any
 * thread. */
void shutdown_complete(struct shutdown_ticket *ticket);

#endif
