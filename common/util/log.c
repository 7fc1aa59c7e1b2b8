/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/util/log.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

/* The log is global, since nbdkit_error(3) and nbdkit_debug(3) have no argument to carry it. */
static struct {
    _Atomic(enum log_target) target;
    bool verbose;
    char program[64];
} log_state = {.target = LOG_TO_STDERR, .program = "nbdfleece"};

void log_setup(enum log_target target, const char *program, bool verbose)
{
    g_strlcpy(log_state.program, program, sizeof log_state.program);
    log_state.verbose = verbose;
    log_set_target(target);
    openlog(log_state.program, LOG_PID, LOG_DAEMON); /* connects only when it is used */
}

void log_set_target(enum log_target target)
{
    atomic_store(&log_state.target, target);
}

bool log_is_verbose(void)
{
    return log_state.verbose;
}

/* One write a line, so that lines of several threads and processes do not mix. */
static void write_stderr(const char *line, size_t length)
{
    while (length > 0) {
        ssize_t n = write(STDERR_FILENO, line, length);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return; /* there is nobody left to be told */
        line += n;
        length -= n;
    }
}

/* Names and plugins' messages come from outside. They must not be able to forge more lines, nor to
 * steer a terminal. */
static void blank_controls(char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = ' ';
    }
}

static void emit(int priority, const char *label, const char *format, va_list args)
    G_GNUC_PRINTF(3, 0);

static void emit(int priority, const char *label, const char *format, va_list args)
{
    int saved_errno = errno;
    enum log_target target = atomic_load(&log_state.target);
    bool to_stderr = target == LOG_TO_STDERR || log_state.verbose;
    bool to_syslog = target == LOG_TO_SYSLOG;

    if (to_stderr || to_syslog) {
        g_autofree char *message = g_strdup_vprintf(format, args);

        blank_controls(message);
        if (to_syslog)
            syslog(priority, "%s%s", label, message);
        if (to_stderr) {
            g_autofree char *line =
                g_strdup_printf("%s: %s%s\n", log_state.program, label, message);

            write_stderr(line, strlen(line));
        }
    }
    errno = saved_errno;
}

void log_verror(const char *format, va_list args)
{
    emit(LOG_ERR, "error: ", format, args);
}

void log_vdebug(const char *format, va_list args)
{
    if (log_state.verbose)
        emit(LOG_DEBUG, "debug: ", format, args);
}

void log_error(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_verror(format, args);
    va_end(args);
}

void log_info(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    emit(LOG_INFO, "", format, args);
    va_end(args);
}

void log_debug(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    log_vdebug(format, args);
    va_end(args);
}
