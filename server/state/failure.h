/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapped files under which the file may vanish or become shorter: an access is a SIGBUS then, which
 * would end the server. A guarded mapping is replaced by memory instead, so that guests go on, and
 * its owner is told.
 */
#ifndef STATE_FAILURE_H
#define STATE_FAILURE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct mapping;

/* Guard [begin, begin + length), whole pages. `lost` is called on a thread that does this alone, at
 * most once, when the file was lost under any page of it; it must not wait, nor unguard anything.
 * The process's SIGBUS handler is installed with the first one. A SIGBUS at any other address does
 * what it would have done without. NULL and *err: failed. */
struct mapping *mapping_guard(void *begin, size_t length, void (*lost)(void *opaque), void *opaque,
                              GError **err);
/* Before the memory is unmapped, and when nobody uses it any more. `lost` is not running when it
 * returns, and is not called later. NULL is allowed. */
void mapping_unguard(struct mapping *m);
/* Was it replaced? When memory that was read belonged to the replacement, this is true after the
 * read. Any thread. */
bool mapping_is_lost(const struct mapping *m);

#endif
