/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Showing how long work goes on: a bar for each disk, with its rate and the time left, on standard
 * error where that is a terminal; with --json a line of JSON on standard output; else nothing but
 * the end. One thread.
 */
#ifndef CLIENT_BASE_PROGRESS_H
#define CLIENT_BASE_PROGRESS_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

struct progress;

/* What is printed at once goes past the command's own output (struct client): print that first. */
struct progress *progress_new(bool json);
void progress_free(struct progress *p); /* NULL is fine */

/* Add a row; its number. `total` bytes are expected (0: not known). */
unsigned progress_add(struct progress *p, const char *name, uint64_t total);
/* `done` of `total` bytes; `moved` are those that were really read. Cheap: drawn a few times a
 * second. */
void progress_update(struct progress *p, unsigned row, uint64_t done, uint64_t total,
                     uint64_t moved);
/* The row is done (word "done"), or has failed, or...: the word stands at its end. */
void progress_close(struct progress *p, unsigned row, const char *word);
/* Draw what is due; milliseconds until the next time. Call it in each turn of a loop. */
int progress_draw(struct progress *p);

#endif
