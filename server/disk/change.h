/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A change to the image of a disk, step by step. The order is the product's promise:
 *
 *   0. where the disk has a store: cover the range (server/state/cover.h);
 *   1. enter the gate, and hold blocks that are needed in part against others (range-lock.h);
 *   2. keep the old data that views need;
 *   3. mark the range in every bitmap that records;
 *   4. change the image;
 *   5. leave the gate.
 *
 * change_begin does 0 to 3 and change_end does 5, for changes of every kind and length. Nobody else
 * enters the gate, keeps or marks. (A resize is an instant: it runs under the shut gate, and what
 * it adds to the disk is marked in the bits that the instant brings.)
 *
 * What holds:
 *
 * - The old data of a block is kept before the first byte of the block can change.
 *
 * - All of the range is marked before the first byte of it can change. It stays marked when the
 *   change fails, or is done in part.
 *
 * - When change_begin fails, nothing was marked or changed.
 *
 * - With KEEP_BY_PIECE step 2 keeps the outer blocks alone, and change_next keeps each piece before
 *   it hands it out. When it cannot keep one (a view that would rather break the guest's write), the
 *   pieces before have changed, this one and the rest have not, and all of the range stays marked:
 *   more than what has changed, never less.
 *
 * The range is covered before the gate is entered, because that may wait for the journal's disk: an
 * instant waits for everybody inside the gate, and must not wait for that. It is covered until the
 * change has left the gate. So whoever finds nobody covered any more finds all their bits set.
 *
 * On an image that takes whole blocks only, what is kept, marked and held is all of the blocks that
 * the range touches. They are covered, too: a region has whole blocks.
 */
#ifndef DISK_CHANGE_H
#define DISK_CHANGE_H

#include "server/disk/unaligned.h"

/* Which old data change_begin keeps. */
enum keeping {
    KEEP_ALL,
    KEEP_DATA,     /* all but the holes of the inner blocks, which become zeroes in one go */
    KEEP_BY_PIECE, /* the outer blocks; the inner ones are worked off with change_next */
};

/* A change under way. On its thread's stack. */
struct change {
    struct blocks blocks;
    struct held_range held; /* where the image takes whole blocks only */
    enum keeping keeping;
    unsigned phase; /* of the cover, where there is one */
};

/* What change_begin does where there is a view; no error: all is kept that `keeping` says. */
int change_keep(struct node_io *io, const struct change *c);

static inline void change_end(struct node_io *io, struct change *c)
{
    if (has_blocks(io))
        range_release(&io->disk->changing, &c->held);
    gate_leave(io->slot);
    if (io->line)
        cover_leave(io->line, c->phase);
}

/* length > 0. 0: the caller changes the image, whether that succeeds or not, and then calls change_end. Else a
 * negative errno, and the change is over. `io` is a disk's; any thread. May wait, for the journal, for
 * the gate, and for others who keep or change the same blocks. */
static inline int change_begin(struct node_io *io, struct change *c, uint64_t length,
                               uint64_t offset, enum keeping keeping)
{
    struct disk *d = io->disk;

    if (io->line) {
        int error = cover_enter(d->state.cover, io->line, offset, length, &c->phase);

        if (error < 0)
            return error;
    }
    gate_enter(io->slot);
    c->blocks = blocks_of(io, length, offset); /* the disk's size stands still in here */
    c->keeping = keeping;
    disk_at(d, POINT_WRITE_ENTERED, offset);
    if (has_blocks(io))
        range_take(&d->changing, &c->held, c->blocks.begin, c->blocks.end, !c->blocks.whole);

    if (atomic_load_explicit(&d->newest, memory_order_relaxed)) {
        int error = change_keep(io, c);

        if (error < 0) {
            change_end(io, c);
            return error;
        }
    }
    tracker_mark(d->tracker, c->blocks.begin, c->blocks.end - c->blocks.begin);
    disk_at(d, POINT_WRITE_MARKED, c->blocks.from);
    return 0;
}

/* A part of the inner blocks, whose old data is kept. */
struct piece {
    uint64_t offset, length;
    bool hole; /* it reads as zeroes already, and takes no space; nothing was kept of it */
};

/* Work off the inner blocks of a change that makes zeroes of them. *p is {.offset =
 * c->blocks.inner} at first, then the piece before. 1: *p may be changed now; there is one piece
 * unless the change is KEEP_BY_PIECE. 0: there are no more. A negative errno: it cannot be kept. */
int change_next(struct node_io *io, const struct change *c, struct piece *p);

#endif
