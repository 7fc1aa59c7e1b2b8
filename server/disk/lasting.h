/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Files of the memory folder (common/state/memory.h), by which views survive the process: one of each
 * view, which is its map, and one of each scratch, for what is not yet in the scratch file. They are
 * mapped, shared: what a thread has stored is there when the process has died.
 *
 *   [ head: a page ][ the mapped rest ... ][ more, which is not mapped ]
 *
 * The file system may have no memory for a page when it is touched for the first time: so pages are
 * reserved before, which tells (lasting_reserve). If somebody cuts a file short, memory of the process
 * takes the place of the mapping, all zeroes, and from then on it is lost: who has read it asks. What
 * the file has, or gets later, is not all then: before the first byte goes to that memory the file's head is
 * spoiled, so that no server ever has it back.
 *
 * A file is of one run of a server, on one boot. A server that takes over the files of the last one
 * says so in each before it says so in the catalogue: until it has, they are of both runs, so they can be
 * taken over again if it dies meanwhile, or if its start comes to nothing. Files that it does not take
 * over are nobody's from then on that the catalogue knows of it.
 */
#ifndef DISK_LASTING_H
#define DISK_LASTING_H

#include "server/state/state.h"

#include <stdatomic.h>

#define LASTING_PAGE 4096u
/* Buffers of a scratch (scratch-buffer.h). */
#define LASTING_BUFFERS 64u
/* Longest name of a view, and path of a scratch file, with its NUL. */
#define LASTING_NAME 1024u

enum lasting_kind { LASTING_VIEW = 1, LASTING_SCRATCH };

struct lasting_view {
    uint64_t size; /* bytes of disk */
    uint64_t scratch_limit;
    uint32_t on_error; /* enum cbw_error */
    uint32_t unit;     /* bytes a block */
    int64_t instant_usec;
    _Atomic uint64_t sequence; /* of its disk's views: a newer one has a higher number */
    _Atomic uint32_t linked;   /* it is in the chain */
    _Atomic uint32_t state;    /* enum view_state */
    /* Blocks were kept where they do not survive: it cannot be had back, nor can an older one. */
    _Atomic uint32_t incomplete;
    char scratch[40]; /* the id of its scratch */
    char reason[160]; /* why it is broken */
    /* The frozen bits behind the map: instant_freeze. */
    _Atomic uint32_t frozen; /* view-frozen.c */
    uint32_t granularity;
    uint64_t frozen_size; /* bytes that they cover */
    char bitmap[LASTING_NAME];
    char name[LASTING_NAME];
};

struct lasting_scratch {
    uint64_t device, inode; /* of the scratch file */
    uint32_t unit;          /* bytes a slot */
    /* Of each buffer: the first slot that it holds, plus 1; 0: none. */
    _Atomic uint64_t first[LASTING_BUFFERS];
    char path[LASTING_NAME]; /* of the scratch file */
};

struct lasting_head {
    uint64_t magic;
    uint32_t kind;
    uint32_t unused;
    int64_t disk;    /* the store's id of it */
    uint64_t mapped; /* bytes, the head included */
    char boot_id[40];
    _Atomic uint64_t run, run_next; /* it is of these */
    union {
        struct lasting_view view;
        struct lasting_scratch scratch;
    };
};

G_STATIC_ASSERT(sizeof(struct lasting_head) <= LASTING_PAGE);

struct lasting {
    struct storage_file *file;
    char *id; /* in its folder */
    int fd;   /* the file's */
    struct lasting_head *head;
    size_t mapped;
    struct mapping *guard;
    void (*lost)(void *opaque); /* NULL: nobody wants to hear of it */
    void *opaque;
};

/* Make one with `rest` bytes mapped behind its head, whose page is reserved. `lost` (may be NULL) is
 * called when it has been cut short, as mapping_use's (server/state/failure.h). The disk has a
 * `lasting` store. NULL and *err. */
struct lasting *lasting_new(const struct disk_state *state, enum lasting_kind kind, uint64_t rest,
                            void (*lost)(void *opaque), void *opaque, GError **err);
/* Open one that the last run has left. NULL and *err: it cannot be read, or is none of the last run's.
 * Nobody is called when it is cut short, before lasting_tell_lost. */
struct lasting *lasting_open(const struct disk_state *state, const char *id, GError **err);
/* Make it this run's too. Control thread. */
void lasting_take_over(struct lasting *f, const struct state_lasting *all);
/* Before others use it. -1 and *err; also where it has been cut short already. */
int lasting_tell_lost(struct lasting *f, void (*lost)(void *opaque), void *opaque, GError **err);
/* Close it; `remove`: its file goes. Nobody uses it any more. */
void lasting_close(struct lasting *f, bool remove);

/* The mapped bytes behind the head. */
static inline void *lasting_rest(const struct lasting *f)
{
    return (char *)f->head + LASTING_PAGE;
}

/* Have memory for bytes of it, whole pages, counted from behind the head. 0 or a negative errno. */
int lasting_reserve(struct lasting *f, uint64_t offset, uint64_t length);
/* Was it cut short? Asked after it was read. Any thread. NULL: false. */
bool lasting_is_lost(const struct lasting *f);

/* The ids of all files that are there (char *), of any disk and of any run; NULL and *err. Free it with
 * g_ptr_array_unref. */
GPtrArray *lasting_list(const struct state_lasting *all, GError **err);
/* Is it a disk's? By its id alone. */
bool lasting_is_of(const char *id, int64_t disk);
/* The head of one of this boot, of any run. False: it is none, or cannot be read. Control thread, as what
 * follows. */
bool lasting_peek(const struct state_lasting *all, const char *id, struct lasting_head *head);
/* Remove one. A failure is logged. */
void lasting_remove(const struct state_lasting *all, const char *id);
/* It becomes no disk's; a later run that lists all files finds it. A failure is logged. */
void lasting_put_aside(const struct state_lasting *all, const char *id);

#endif
