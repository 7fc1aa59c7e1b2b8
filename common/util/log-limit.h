/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Errors that somebody outside can cause again and again (a guest that writes to a full disk, a
 * client that knocks without end) must not fill the log. Of each kind the first LOG_LIMIT_LINES in
 * LOG_LIMIT_USEC are written; the others are counted, and the count is written when that time is
 * over, together with the last line that was:
 *
 *     error: 4711 more like this were left out: disk vda: write of 4096 bytes at 0: No space left
 *
 * A kind is a struct log_limit, which lies in what the lines are about (a disk, a listener), so
 * that what one of these does hides nothing of another. All zeroes is a new one.
 *
 * Any thread. Nothing is allocated for a line that is left out. The counts are written by the next
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
    struct log_limit *next; /* of those that have left something out */
    int64_t since;          /* when the period has begun; with `passed` 0 there is none */
    unsigned passed;
    uint64_t left_out;
    char last[160]; /* the last line that passed, cut short */
};

/* log_error within the limit. Keeps errno; the format may use %m. */
void log_error_limited(struct log_limit *l, const char *format, ...) G_GNUC_PRINTF(2, 3);
/* Before a limit's memory goes: write what is still to be told. */
void log_limit_end(struct log_limit *l);
/* The same for all limits, as the process ends. */
void log_limits_end(void);

/* -- for tests, which have clocks of their own; microseconds -- */

/* What log_error_limited and the timer take for the time; before threads start. */
void log_limit_set_clock(int64_t (*clock)(void));

/* May a line be written now? Begins and ends periods, and writes the count of one that has ended.
 */
bool log_limit_pass(struct log_limit *l, int64_t now);
/* Write the counts of all periods that have ended. Returns whether others go on. */
bool log_limits_tell(int64_t now);

#endif
