/* SPDX-License-Identifier: BSD-3-Clause */
/* Words and figures of a report, safe in HTML. The caller g_frees each text. */
#ifndef CLIENT_REPO_REPORT_FIGURES_H
#define CLIENT_REPO_REPORT_FIGURES_H

#include "client/repo/report.h"

/* "2026-11-29 03:00:00", local. */
char *report_time_text(int64_t time);
/* "2026-11-29", or with hours where `span`, microseconds, is short. */
char *report_tick_text(int64_t time, int64_t span);
/* "1.5 GiB" */
char *report_size_text(uint64_t bytes);

/* What the mouse shows over a row: member, time, level, sizes, status, each on a line. */
char *report_row_text(const struct report_row *row);
/* "all read, 2026-11-29 03:00:00", "not yet" */
char *report_verified_text(const struct report_row *row);
/* The sentence on the last verify. */
char *report_verify_sentence(const report *p);

#endif
