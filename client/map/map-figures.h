/* SPDX-License-Identifier: BSD-3-Clause */
/* Numbers of the map as people read them. The caller g_frees each text. Pure. */
#ifndef CLIENT_MAP_MAP_FIGURES_H
#define CLIENT_MAP_MAP_FIGURES_H

#include <stdint.h>

/* An offset, exactly: "2.25 GiB" where that is exact, else in a smaller unit. */
char *map_offset_text(uint64_t offset);

/* "12.5 %". Only 0 is shown as 0 %, and only the whole as 100 %. */
char *map_percent_text(uint64_t part, uint64_t whole);

/* A size with two digits after the point, so that totals add up to the eye. */
char *map_size_text(uint64_t bytes);

#endif
