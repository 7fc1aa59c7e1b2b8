/* SPDX-License-Identifier: BSD-3-Clause */
/* The picture of what each member's file has of the disk: a row a member, a column a part of the
 * disk. Pure. */
#ifndef CLIENT_REPO_REPORT_HEAT_H
#define CLIENT_REPO_REPORT_HEAT_H

#include "client/repo/report.h"

/* Append the picture, an SVG, to `out`. */
void report_print_heat(const struct report_disk *d, GString *out);

#endif
