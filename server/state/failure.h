/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Mapped files of a file system in memory. There may be no memory for a page when it is touched for
 * the first time, or somebody may cut the file short: such an access is a SIGBUS, which would end the
 * server. In a guarded mapping, memory of the process takes the place of what is missing instead, so
 * that guests go on, and its owner is told.
 */
#ifndef STATE_FAILURE_H
#define STATE_FAILURE_H

#include <glib.h>
#include <stdbool.h>
#include <stddef.h>

struct mapping;

/* What is mapped, and who is told. */
struct mapping_use {
    int fd;        /* the file; -1: a page that is missing is always a file that was taken away */
    size_t offset; /* in the file, where the mapping begins */
    /* There is no memory for a page, and the process's own takes its place. Called before, in a signal
     * handler, on the thread that uses the mapping. */
    void (*incomplete)(void *opaque);
    /* The file was taken away, and memory of the process is about to take its place: what the file
     * has is not all any more. Called before, in a signal handler, by each thread that finds it so, perhaps
     * more than once. NULL: nobody wants to know so early. */
    void (*losing)(void *opaque);
    /* The file was taken away. Called on a thread that does this alone, at most once; it must not
     * wait, nor unguard anything. */
    void (*lost)(void *opaque);
    void *opaque;
};

/* Guard [begin, begin + length), whole pages of 4096 bytes. The process's SIGBUS handler is installed
 * with the first one. A SIGBUS at any other address does what it would have done without. NULL and
 * *err: failed. */
struct mapping *mapping_guard(void *begin, size_t length, const struct mapping_use *use,
                              GError **err);
/* Before the memory is unmapped, and when nobody uses it any more. `lost` is not running when it
 * returns, and is not called later. NULL is allowed. */
void mapping_unguard(struct mapping *m);
/* Was the file taken away? When memory that was read belonged to the replacement, this is true after
 * the read. Any thread. NULL: false. */
bool mapping_is_lost(const struct mapping *m);
/* Is this page of the mapping in the process's memory, because there was none for it in the file, or is
 * it going to be? The mapping must be read then, and the file as well, before this is asked: the page
 * may lack for a while what others have set in the file just before. Any thread. NULL: false. */
bool mapping_has_page(const struct mapping *m, size_t page);

#endif
