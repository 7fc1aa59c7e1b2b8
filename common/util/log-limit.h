/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors that somebody outside can cause again and again (a guest that writes to a full disk, a
 * client that connects without end) must not fill the log. Of each kind the first LOG_LIMIT_LINES
 * in LOG_LIMIT_USEC are written. The others are counted, and when that time is over the count is
 * written, with the last line that was written:
 *
 *     error: 4711 more like this were left out: disk vda: write of 4096 bytes at 0: No space left
 *
 * A kind is a struct log_limit. It lies in the object that the lines are about (a disk, a
 * listener), so that the errors of one object hide none of another. All zeroes are a new one.
 *
 * Any thread. Nothing is allocated for a line that is left out. The count is written by the next
 * line of the kind, by a timer of the default main context, or by log_limit_end.
 */
#ifndef COMMON_UTIL_LOG_LIMIT_H
#define COMMON_UTIL_LOG_LIMIT_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

#define LOG_LIMIT_LINES 10u
#define LOG_LIMIT_USEC  (10 * G_USEC_PER_SEC)

struct log_limit {
    /* log-limit.c's, under its lock */
    struct log_limit *next; /* in the list of limits that have left something out */
    int64_t since;          /* when the period began; while `passed` is 0 there is none */
    unsigned passed;
    uint64_t left_out;
    char last[160]; /* the last line that passed, cut short */
};

/* log_error within the limit. Keeps errno; the format may use %m. */
void log_error_limited(struct log_limit *l, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Write the count that is still to be told. To be called before the limit's memory goes. */
void log_limit_end(struct log_limit *l);
/* The same for all limits, when the process ends. */
void log_limits_end(void);

/* -- for tests, which have clocks of their own; microseconds -- */

/* Set the clock of log_error_limited and of the timer. Before threads start. */
void log_limit_set_clock(int64_t (*clock)(void));

/* May a line be written now? This begins and ends periods, and writes the count of one that has
 * ended. */
bool log_limit_pass(struct log_limit *l, int64_t now);
/* Write the counts of all periods that have ended. Returns whether others go on. */
bool log_limits_tell(int64_t now);

#endif
