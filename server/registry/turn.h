/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Turns on disks, for changes of a disk's bitmaps, views or size, and for what begins to use one of
 * them. Such a change is checked, then waits for guests or threads, then takes effect, and what was
 * checked must stay true meanwhile. So changes of one disk come one after the other, in the order
 * in which they were asked for, whichever monitor asked. Changes of different disks do not wait for
 * each other. A change of several disks begins when it is the first on all of them, so that no two
 * can wait for each other.
 *
 * Control thread only.
 */
#ifndef REGISTRY_TURN_H
#define REGISTRY_TURN_H

#include <glib.h>
#include <stdbool.h>

struct disk;
struct server;
struct turn;

/* Wait for a turn on all of `disks` (struct disk; duplicates are allowed; copied). `begin` is
 * called once, perhaps before this returns, and should look up again what it found before: others
 * may have had their turns meanwhile. turn_end() has to be called at the end of the change. With
 * `error`, `turn` is NULL and nothing is to be done any more: the server ends, or it has waited for
 * too long (30 seconds), and the error names a disk that it waited for. */
void server_take_turn(struct server *s, const GPtrArray *disks,
                      void (*begin)(void *opaque, struct turn *turn, const GError *error),
                      void *opaque);
void turn_end(struct turn *t);

/* The server ends: all that wait for a turn get an error, and no turn begins any more. */
void server_refuse_turns(struct server *s);
/* Is anybody's turn not over? Is it on this disk? */
bool server_has_turns(struct server *s);
bool disk_has_turn(struct server *s, const struct disk *d);

#endif
