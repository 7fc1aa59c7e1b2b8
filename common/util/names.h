/* SPDX-License-Identifier: BSD-3-Clause */
/* Names that people give to nodes, exports and the like. */
#ifndef COMMON_UTIL_NAMES_H
#define COMMON_UTIL_NAMES_H

#include <stdbool.h>

/* QEMU's rule for identifiers: a letter, then letters, digits, '-', '.', '_'. ASCII, any length. */
bool name_is_well_formed(const char *name);

#endif
