/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * An instant: several changes to bitmaps and views of several disks that take effect together, at
 * one point between guest writes, or not at all.
 *
 * Use: instant_new; add actions in order (each sees the effects of those before it; the first error
 * ends the attempt); then run it, or instant_abort, which leaves nothing behind. Single commands are
 * instants with one action. Error texts are QEMU's where it has some.
 *
 * To run it without waiting: instant_start, then instant_step again and again until it says that the
 * instant is done or has failed. To run it and wait: instant_commit.
 *
 * Where the disks have a store, an instant that changes a persistent bitmap or a size takes effect
 * when the store has committed it. Until then its disks look as they did, but that its bitmaps are
 * busy; a view has the data of the instant itself. If the store fails, the instant fails. Other
 * instants do not wait for the store.
 *
 * Control thread only. Several instants may be under way at once, each over disks of its own: an
 * action on a disk of which another instant has actions is refused (disk_in_instant).
 */
#ifndef DISK_INSTANT_H
#define DISK_INSTANT_H

#include "server/disk/disk.h"
#include "server/disk/view.h"

struct instant;

struct instant *instant_new(void);

/* ---- actions ---- */

/* granularity 0: the default (65536). Names: not empty, at most 1023 bytes, unique on the disk.
 * persistent: it survives the server; the disk has a store. */
int instant_bitmap_add(struct instant *i, struct disk *d, const char *name, uint32_t granularity,
                       bool recording, bool persistent, GError **err);
/* These two also take a bitmap that is inconsistent; the others refuse it. One that is cleared
 * begins anew, and is good. */
int instant_bitmap_remove(struct instant *i, struct disk *d, const char *name, GError **err);
int instant_bitmap_clear(struct instant *i, struct disk *d, const char *name, GError **err);
/* Whether it survives the server from then on. */
int instant_bitmap_set_persistence(struct instant *i, struct disk *d, const char *name,
                                   bool persistent, GError **err);
int instant_bitmap_record(struct instant *i, struct disk *d, const char *name, bool recording,
                          GError **err);
/* target |= source; the source may be another disk's of the same size. To merge several, call it
 * for each. */
int instant_bitmap_merge(struct instant *i, struct disk *d, const char *target,
                         struct disk *source_disk, const char *source, GError **err);

/* Mark what the disk's image has allocated at the instant (all that is not a hole; all, where the image
 * cannot tell), also in a bitmap that does not record. For a bitmap that is made after the image has
 * been filled. */
int instant_bitmap_populate(struct instant *i, struct disk *d, const char *name, GError **err);

/* ---- bitmaps that belong to checkpoints (server/backup/) ---- */

/* Everybody sees them, but the actions above do not change them: `Bitmap '%s' is readonly and cannot
 * be modified`. Others may be merged from them. */

/* As instant_bitmap_add, of one that records. */
int instant_checkpoint_bitmap_add(struct instant *i, struct disk *d, const char *name,
                                  uint32_t granularity, bool persistent, GError **err);
/* As instant_bitmap_remove: one that is busy is refused. The caller knows that it is a checkpoint's. */
int instant_checkpoint_bitmap_remove(struct instant *i, struct disk *d, const char *name,
                                     GError **err);

/* ---- what a backup reads ---- */

struct freeze_options {
    const char *name;     /* of the frozen bitmap, for its readers (dirty_bitmap_name) */
    const char *source;   /* a bitmap of the disk, which may be busy; NULL: all is dirty */
    uint32_t granularity; /* without a source; 0: the default. It is only told */
    /* The node name of a view of the disk, made by the same instant: where views survive the process,
     * the frozen bitmap survives with it. */
    const char *view;
    /* NULL: it may turn out to be inconsistent. Else the instant fails in this case, with this text
     * before the reason. */
    const char *needed;
};

/* What is dirty in a bitmap at the instant. It stands still, is none of the disk's bitmaps, and a
 * resize leaves it alone. *frozen: a reference, which has its bits when the instant is done. If the
 * source becomes inconsistent before the instant, *frozen is so, too (dirty_bitmap_reason). -1 and
 * *err: the source is not there, or inconsistent, or there is no memory. */
int instant_freeze(struct instant *i, struct disk *d, const struct freeze_options *o,
                   struct dirty_bitmap **frozen, GError **err);

/* A view named `name` (the caller has made sure that no node has that name). *view (may be NULL) is
 * valid once the instant is done. */
int instant_view_create(struct instant *i, struct disk *d, const char *name,
                        const struct view_options *options, struct view **view, GError **err);

/* Delete a view (view-chain.h); what the next older view still needs goes to it. `Node %s is in use`
 * while exported. If the instant fails after it was started, the view is broken, without all or a
 * part of its blocks, and can be deleted again; if it is the store that fails, the view is gone. */
int instant_view_delete(struct instant *i, struct view *v, GError **err);

/* For other changes of a disk: `fn` runs at the instant itself, on the control thread, while the
 * gate of `d` is closed and nobody is inside. It must neither fail nor block. */
int instant_at_flip(struct instant *i, struct disk *d, void (*fn)(void *opaque), void *opaque,
                    GError **err);

/* ---- those who take part in it, or want to hear of its end ---- */

/* `fn` does what must be done before the instant and can fail; the instant fails with it. On a
 * thread of its own, so that it may take long, before any gate is shut for the flip. */
void instant_on_prepare(struct instant *i, int (*fn)(void *opaque, GError **err), void *opaque);

/* `freeze` is called on a thread of its own right before the gates are shut for the flip, when all
 * that takes long has been done; if it fails, the instant fails with it. `thaw` is called, on a thread
 * of its own, once if `freeze` was called, also if that failed: right after the flip, or when the
 * instant fails. Both may take some seconds. Several pairs are called in order, thaws in reverse. */
void instant_quiesce(struct instant *i, int (*freeze)(void *opaque, GError **err),
                     void (*thaw)(void *opaque), void *opaque);

/* A record that the store of `d` is to have with this instant (struct state_record: `kind` and `name`
 * are copied; `text` NULL removes it; `opaque` lives until the instant has ended). Nothing is recorded
 * where the disk has no store. An instant with records alone shuts no gate. */
int instant_record(struct instant *i, struct disk *d, const struct state_record *record,
                   GError **err);

/* Called on the control thread, in the order in which they were added: those of on_commit after the
 * gates are open again, those of on_abort when nothing of the instant is left, then those of on_end
 * in both cases. */
void instant_on_commit(struct instant *i, void (*fn)(void *opaque), void *opaque);
void instant_on_abort(struct instant *i, void (*fn)(void *opaque), void *opaque);
void instant_on_end(struct instant *i, void (*fn)(void *opaque), void *opaque);

/* ---- running it ---- */

enum instant_state {
    INSTANT_WAITS,  /* call instant_step again after `wake`, or at instant_deadline */
    INSTANT_DONE,   /* all has taken effect; the instant is freed */
    INSTANT_FAILED, /* nothing has changed, *err says why; the instant is freed (see also
                       instant_view_delete) */
};

/* Before the first instant_step, which follows at once. `wake` is called from any thread, perhaps
 * with a disk's locks held, when there is something to do for instant_step. It must not call the
 * instant itself; it makes the control thread do that. It is never called after instant_step has
 * returned INSTANT_DONE or INSTANT_FAILED. */
void instant_start(struct instant *i, void (*wake)(void *opaque), void *opaque);

/* Go on as far as that is possible without waiting. Calls that come too early do no harm. An
 * instant waits for writes under way on its disks, while their gates are shut, at most until
 * instant_deadline (the next step then fails and names the disk); and for a thread that does its
 * long work, e.g. copies bits, without a limit: no guest waits meanwhile. */
enum instant_state instant_step(struct instant *i, GError **err);

/* When instant_step has to be called even without `wake` (g_get_monotonic_time); G_MAXINT64: never.
 * Valid after instant_step has returned INSTANT_WAITS, until its next call. */
gint64 instant_deadline(const struct instant *i);

/* What it waits for, for a message: "disk a: writes under way". Free with g_free(). */
char *instant_waits_for(const struct instant *i);

/* Do not go on (at the server's end, e.g.): opens the gates at once. The steps that follow end in
 * INSTANT_FAILED as soon as no thread works for the instant any more; one that copies bits or hands
 * over a view's blocks ends soon. Between two steps only. */
void instant_cancel(struct instant *i);

/* Run it to its end and wait for that: for tests, and before there are clients. 0: all done. -1:
 * nothing changed and *err says why. Ends `i` either way. */
int instant_commit(struct instant *i, GError **err);

/* Give up an instant that was not started. */
void instant_abort(struct instant *i);

#endif
