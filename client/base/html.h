/* SPDX-License-Identifier: BSD-3-Clause */
/* Text from outside in pages for browsers. Pure. */
#ifndef CLIENT_BASE_HTML_H
#define CLIENT_BASE_HTML_H

/* The text, made safe in HTML and in attributes, and cleaned as for a terminal. The caller g_frees
 * it. */
char *html_escape(const char *text);

#endif
