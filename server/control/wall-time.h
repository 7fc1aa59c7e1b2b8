/* SPDX-License-Identifier: BSD-3-Clause */
/* Points of time as commands show them. */
#ifndef CONTROL_WALL_TIME_H
#define CONTROL_WALL_TIME_H

#include <stdint.h>

/* Microseconds since 1970 in the form of RFC 3339, in UTC, with milliseconds:
 * "2026-11-29T01:38:00.250Z". Free with g_free(). */
char *wall_time(int64_t usec);

#endif
