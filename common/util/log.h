/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The log: each call writes one line, which is given without a line feed. Any thread. Where it goes
 * is set at the start (`--log`, `-v`). Format strings may use %m.
 */
#ifndef COMMON_UTIL_LOG_H
#define COMMON_UTIL_LOG_H

#include <glib.h>
#include <stdarg.h>
#include <stdbool.h>

enum log_target { LOG_TO_STDERR, LOG_TO_SYSLOG, LOG_TO_NULL };

/* Call it before threads start; after a fork the only thread may call it again. `verbose`: debug
 * lines are written, and everything goes to stderr as well. */
void log_setup(enum log_target target, const char *program, bool verbose);
/* Change nothing but the target. Any time, any thread. */
void log_set_target(enum log_target target);
bool log_is_verbose(void);

/* All keep errno as it was. */
void log_error(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_info(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_debug(const char *format, ...) G_GNUC_PRINTF(1, 2);
void log_verror(const char *format, va_list args) G_GNUC_PRINTF(1, 0);
void log_vdebug(const char *format, va_list args) G_GNUC_PRINTF(1, 0);

#endif
