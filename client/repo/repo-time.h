/* SPDX-License-Identifier: BSD-3-Clause */
/* Times as a manifest has them, and as people write them. Microseconds since 1970. Pure, but for the
 * local time zone. */
#ifndef CLIENT_REPO_REPO_TIME_H
#define CLIENT_REPO_REPO_TIME_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

/* "2026-11-29T03:00:00.123456Z". The caller frees it. NULL: before 1970 or after 9999. */
char *repo_time_text(int64_t time);
/* The reverse; exactly that form is taken. */
bool repo_time_parse(const char *text, int64_t *time);

/*
 * A time as a person writes it: "2026-11-29", "2026-11-29 03:00", "2026-11-29T03:00:10.5+01:00";
 * local, where there is no zone. *time is the last microsecond of the day, minute or second that is
 * named; with a fraction of a second it is that. False: it is no such time.
 */
bool repo_time_until(const char *text, int64_t *time);

#endif
