/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A store over a folder of its own, with disks that have no bytes: an image is what is known of its
 * identity. The server can die: then the folder goes on as a copy of what it was at that moment.
 */
#ifndef TESTS_RIGS_STORE_RIG_H
#define TESTS_RIGS_STORE_RIG_H

#include "common/state/catalogue.h"
#include "server/state/store.h"

#define MIB (UINT64_C(1) << 20)

struct store_rig;

/* An image, and a disk that has it while it is attached. */
struct rig_disk {
    struct store_rig *rig;
    char *name;
    uint64_t size;
    char *image, *content; /* of the identity; owned */
    int64_t modified;
    bool transient;
    /* while it is attached */
    struct disk_state state;
    GArray *found; /* struct store_bitmap */
    char *recovered;
    struct live_line *line; /* of a client */
    GPtrArray *bits;        /* references to what was committed, as a disk has them */
    GPtrArray *broken;      /* what `broken` said: owned strings; under lock */
};

struct store_rig {
    char *top, *path; /* the folder is `path`, in `top` */
    unsigned copies;
    struct store_options o;
    struct store *store;
    bool in_order;          /* the last one was closed so */
    struct rig_disk *disks; /* disk0, disk1, ... */
    unsigned n;
    pthread_mutex_t lock;
    pthread_cond_t changed;
};

/* Nothing is open. */
struct store_rig *rig_new(void); /* 3 disks of 64 MiB */
struct store_rig *rig_new_many(unsigned n, uint64_t size);
void rig_free(struct store_rig *r);

/* Open the store, attach `n` disks, start. It must work. */
void rig_start(struct store_rig *r, unsigned n);
void rig_open(struct store_rig *r);
void rig_attach(struct rig_disk *d);
/* Detach all, close. */
void rig_stop(struct store_rig *r);
void rig_restart(struct store_rig *r, unsigned n);
/* The server dies. Nothing is open. */
void rig_kill(struct store_rig *r);
/* The catalogue, while nothing is open; `locked` is for rig_catalogue_close. */
struct catalogue *rig_catalogue(struct store_rig *r, struct storage **storage);
void rig_catalogue_close(struct catalogue *c, struct storage *storage);
/* As if the machine had been restarted since the server died. */
void rig_reboot(struct store_rig *r);
/* As if it had been another machine's server. */
void rig_other_machine(struct store_rig *r);
/* The name of a file of the folder; g_free. */
char *rig_file(struct store_rig *r, const char *name);
/* The only file in bits/. */
char *rig_bits_file(struct store_rig *r);
unsigned rig_bits_files(struct store_rig *r);
/* The name of a file of the memory folder; g_free. */
char *rig_memory(struct store_rig *r, const char *name);
/* The only file of bits in it. */
char *rig_memory_bits(struct store_rig *r);

/* A bitmap that was found; it must be there. */
const struct store_bitmap *rig_found(struct rig_disk *d, const char *name);
/* It is good and has so many dirty bytes. */
void rig_expect(struct rig_disk *d, const char *name, uint64_t count);
/* It is inconsistent, and the reason has this text in it. */
void rig_expect_inconsistent(struct rig_disk *d, const char *name, const char *text);

/* A guest's change: it is marked in the bits, and the image is changed. */
void rig_change(struct rig_disk *d, struct bitmap *const *bits, uint64_t offset, uint64_t length);

/* A transaction of one change. */
struct state_change rig_say(struct rig_disk *d, const char *name, struct bitmap *bits);
int rig_commit(struct store_rig *r, const struct state_change *changes, unsigned n, GError **err);
/* The same with records. */
int rig_commit_records(struct store_rig *r, const struct state_change *changes, unsigned n,
                       const struct state_record *records, unsigned n_records, GError **err);
/* rig_give_text, with one of these as its opaque, is a record's `text`. */
struct rig_text {
    const char *text;
    unsigned asked; /* so often */
};
char *rig_give_text(void *opaque);
/* "NAME=TEXT " of all records of a kind, in their order. */
void rig_expect_records(struct store_rig *r, const char *kind, const char *expected);
/* New bits with a file, of the disk's size. */
struct bitmap *rig_bits(struct rig_disk *d);
/* A bitmap is made, and is recording. The disk has the reference. */
struct bitmap *rig_add(struct rig_disk *d, const char *name);

/* Wait until something was said to be broken: the first sentence, a copy. */
char *rig_wait_broken(struct rig_disk *d);

#endif
