/* SPDX-License-Identifier: BSD-3-Clause */
/* The picture of a disk's members in time: what each stands on, how large its file is. Pure. */
#ifndef CLIENT_REPO_REPORT_TIME_H
#define CLIENT_REPO_REPORT_TIME_H

#include "client/repo/report.h"

/* Append the picture, an SVG, to `out`. */
void report_print_time(const report *p, const struct report_disk *d, GString *out);

#endif
