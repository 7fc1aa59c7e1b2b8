/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Threads that take turns, and a clock that only this file moves: what a test with real threads does
 * is then the same each time.
 *
 * A test that links with $(sim_wraps) has its calls of pthread_*, g_thread_*, clocks and sleeps
 * directed here (ld --wrap), also those from the product's libraries. Of the threads that are made
 * after sim_threads_begin one runs at a time. Another one gets the turn when the running one blocks,
 * ends or calls sim_threads_yield. When all of them wait, the clock goes to the earliest moment at
 * which a wait ends.
 *
 * A *world* is a set of threads that run while all others stand still: what recovery does with a
 * copy of the storage does not disturb those who still use the original.
 */
#ifndef TESTS_RIGS_SIM_THREADS_H
#define TESTS_RIGS_SIM_THREADS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* The calling thread is the first one. */
void sim_threads_begin(void);
/* From now on: who gets the turn follows from the seed; sim_threads_yield gives it away with this
 * probability. 0 and 0: the thread that was made first goes first, and yields do nothing. */
void sim_threads_chance(uint32_t seed, double yield);

/* Somebody else may go on here. */
void sim_threads_yield(void);
/* The calling thread waits so long, by the simulated clock. */
void sim_threads_sleep(int64_t nanoseconds);
/* Let the others go on as far as they can without the clock's moving on. */
void sim_threads_settle(void);

/* CLOCK_REALTIME, in ns. */
int64_t sim_clock(void);
void sim_clock_jump(int64_t nanoseconds); /* CLOCK_REALTIME alone; in this world */
/* The machine boots just now: CLOCK_BOOTTIME begins; in this world. */
void sim_clock_boot(void);

/* A world inside another one, for the calling thread. leave: threads that were made in it must have
 * ended, or end soon. The clock goes on where it was in the world outside. */
void sim_world_enter(void);
void sim_world_leave(void);

#endif
