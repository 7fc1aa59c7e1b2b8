/* SPDX-License-Identifier: BSD-3-Clause */
/* A map as characters, for a terminal. Each function appends lines to `out`. Pure. */
#ifndef CLIENT_MAP_MAP_TEXT_H
#define CLIENT_MAP_MAP_TEXT_H

#include "client/base/terminal.h"
#include "client/map/map.h"

/* Columns of cells that fit into a terminal of this width. */
unsigned map_columns_for(unsigned width);

void map_print_title(const map *m, const struct terminal *terminal, GString *out);
/* Nothing for an empty disk. ascii: draw with ASCII even where the terminal can do more. */
void map_print_picture(const map *m, const struct terminal *terminal, bool ascii, GString *out);
void map_print_totals(const map *m, GString *out);

#endif
