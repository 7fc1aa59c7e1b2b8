/* SPDX-License-Identifier: BSD-3-Clause */
/* A report as a page for browsers: one file, no scripts, nothing loaded from elsewhere. Pure. */
#ifndef CLIENT_REPO_REPORT_HTML_H
#define CLIENT_REPO_REPORT_HTML_H

#include "client/repo/report.h"

/* Append the page, complete in itself, to `out`. */
void report_print_html(const report *p, GString *out);

#endif
