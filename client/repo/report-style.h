/* SPDX-License-Identifier: BSD-3-Clause */
/* How a report looks: the style sheet, for light and dark. */
#ifndef CLIENT_REPO_REPORT_STYLE_H
#define CLIENT_REPO_REPORT_STYLE_H

/* CSS. */
extern const char report_style[];

#endif
