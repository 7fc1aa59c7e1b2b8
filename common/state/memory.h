/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory folder of a state folder: /dev/shm/nbdfleece-UUID/, where the server that uses the folder
 * keeps what changes with each write. It survives the death of the process, and ends with the
 * machine's run.
 *
 *   note       which run of a server it is of, and whether something has failed
 *   live       lines of clients and disks (live-file.h)
 *   bits/UUID  the bits of a bitmap, as in the state folder (bit-file.h); sparse
 *   views/     views that survive the process (server/disk/lasting.h)
 *
 * The files in views/ are the disks' own. They stay when the rest is made anew or removed, and each says
 * of which run it is.
 *
 * Anybody may make names in /dev/shm: only a folder that belongs to root or to the present user, and
 * to which nobody else can write, is used. A folder of another run is worthless: somebody has used
 * the state folder meanwhile, perhaps with a /dev/shm of its own. The catalogue names the run.
 */
#ifndef COMMON_STATE_MEMORY_H
#define COMMON_STATE_MEMORY_H

#include "common/state/storage.h"

struct memory;

/* Make it anew, empty but for views/, with a note that nothing failed. NULL and *err. */
struct memory *memory_new(const char *uuid, uint64_t run, GError **err);
/* Its files. They stay usable, by those who have them open, until memory_free. */
struct storage *memory_storage(struct memory *m);
/* The notes; NULL: nothing is done. Async-signal-safe. */
void memory_note_failed(struct memory *m);  /* something that the state folder does not know of */
void memory_note_settled(struct memory *m); /* it knows of all failures now */
void memory_note_incomplete(struct memory *m); /* there was no memory: bits may be missing in it */
bool memory_is_incomplete(struct memory *m);   /* was that noted? NULL: false */
/* The catalogue has had this transaction (catalogue_number). */
void memory_note_catalogue(struct memory *m, uint64_t number);
/* All files but those in views/; and the folder, where there are none. */
void memory_remove(struct memory *m);
void memory_free(struct memory *m); /* the files stay. NULL is allowed. */

/* What a run has left. */
enum memory_kind {
    MEMORY_GONE,       /* it is not there, not ours, or of another run */
    MEMORY_WHOLE,      /* all bits are in it */
    MEMORY_INCOMPLETE, /* bits may be missing in it */
    MEMORY_FAILED,     /* something had failed that the state folder does not know of */
};
struct memory_left {
    enum memory_kind kind;
    uint64_t catalogue;    /* how far it was: the number of its last transaction, at least */
    struct storage *files; /* only to be read; NULL: they say nothing. The caller's. */
};
struct memory_left memory_find(const char *uuid, uint64_t run);

/* The path; g_free. */
char *memory_path(const char *uuid);
/* Another folder than /dev/shm; NULL: this. For tests. Without other threads. The string must live
 * on. */
void memory_set_folder(const char *shm);

#endif
