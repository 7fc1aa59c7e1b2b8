/* SPDX-License-Identifier: BSD-3-Clause */
/* The default main loop, run by a test that is its own main thread. */
#ifndef TESTS_RIGS_MAIN_LOOP_H
#define TESTS_RIGS_MAIN_LOOP_H

/* Run it until it has nothing to do at once. */
void run_main_loop(void);
/* The same, then: milliseconds until its next timer; -1: it has none. */
int next_timer(void);

#endif
