/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of the catalogue, column by column, and what may be in their rows. */
#ifndef COMMON_STATE_CATALOGUE_TABLES_H
#define COMMON_STATE_CATALOGUE_TABLES_H

#include "common/state/catalogue-row.h"

extern const struct table catalogue_tables[TALLIES];
extern const struct table tally_table, folder_table;

bool granularity_fits(uint32_t granularity);

/* Why a row cannot be written, or NULL. */
const char *disk_misfit(const void *disk);
const char *bitmap_misfit(const void *bitmap);
const char *record_misfit(const void *record);

#endif
