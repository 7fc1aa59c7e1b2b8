/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: one line a call, no line feed at its end, from any thread. Where it goes is set once at
 * start (`--log`, `-v`). Format strings may use %m.
 */
#ifndef COMMON_UTIL_LOG_H
#define COMMON_UTIL_LOG_H

#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_NULL };

/* Before threads start, and again by the one thread there is after a fork. `verbose`: debug lines
 * are written, and everything goes to stderr as well. */
void log_setup(enum log_target target, const char *program, bool verbose);
/* Change the target alone; any time, any thread. */
void log_set_target(enum log_target target);
bool log_is_verbose(void);

/* All keep errno as it was. */
void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_debug(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_verror(const char *format, va_list args) G_GNUC_PRINTF(1, 0);
void log_vdebug(const char *format, va_list args) G_GNUC_PRINTF(1, 0);

#endif
