/* SPDX-License-Identifier: BSD-3-Clause */
/* The tables of the catalogue, and how an older version of them becomes the present one. */
#ifndef COMMON_STATE_CATALOGUE_SCHEMA_H
#define COMMON_STATE_CATALOGUE_SCHEMA_H

#include "common/state/catalogue-private.h"

/* Make the tables of an empty database. The caller has begun a transaction. -1 and *err. */
int schema_create(struct catalogue *c, GError **err);
/* Is this a catalogue, of a version that is known? Nothing is written. -1 and *err: no. */
int schema_check(struct catalogue *c, GError **err);
/* Bring an older version up, in one transaction. -1 and *err. */
int schema_upgrade(struct catalogue *c, GError **err);

#endif
