/* SPDX-License-Identifier: BSD-3-Clause */
/* A map as a page for browsers: one file, no scripts, nothing loaded from elsewhere. Pure. */
#ifndef CLIENT_MAP_MAP_HTML_H
#define CLIENT_MAP_MAP_HTML_H

#include "client/map/map.h"

/* Append the page, complete in itself, to `out`. */
void map_print_html(const map *m, GString *out);

#endif
