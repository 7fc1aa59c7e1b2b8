/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The catalogue of a state folder: a SQLite database, `synchronous=FULL` in WAL mode, locked
 * exclusively. What is between catalogue_begin and catalogue_commit happens wholly or not at all, and
 * is durable when catalogue_commit returns 0. Each row has a checksum of its own, since SQLite has
 * none: a row that was damaged is noticed by itself.
 *
 * One thread at a time: the caller has a lock.
 */
#ifndef COMMON_STATE_CATALOGUE_H
#define COMMON_STATE_CATALOGUE_H

#include "common/state/storage.h"

#define CATALOGUE_VERSION    4
#define STATE_UUID_SIZE      37 /* with its NUL */
#define CATALOGUE_MAX_RECORD (1u << 20)

struct catalogue;

/* Open it. It is made where there is none and the folder has nothing else either. An older version
 * is upgraded in one transaction, a newer one refused: `state: DIR: made by a newer version (format
 * 9; this one knows up to 2)`. All of it is looked at: NULL and *err also where the database as a
 * whole is damaged. */
struct catalogue *catalogue_open(struct storage *s, GError **err);
void catalogue_close(struct catalogue *c);

/* ---- what there is in it ---- */

/* One row: about the whole folder. */
struct catalogue_folder {
    char uuid[STATE_UUID_SIZE]; /* of the folder; made with it */
    /* Where its present user runs, or its last one ran; durable before anything else changes. */
    char boot_id[STATE_UUID_SIZE];
    char machine_id[64];
    uint64_t run; /* of the memory folder: memory.h; another number at each start */
    bool journal; /* its user keeps a journal (--durability power) */
    bool open;    /* in use; still set when it is opened again: it did not end in order */
    bool failed;  /* a failure was noted (store.c): what is in the files is not to be trusted */
};

enum catalogue_disk_state {
    DISK_CLEAN,   /* ended in order: `content` says what the image looked like then */
    DISK_OPEN,    /* served just now, or when the server died */
    DISK_CRASHED, /* the server died, and the disk was not served again since */
};

struct catalogue_disk {
    int64_t id; /* > 0, never used again; the journal's and the live file's name of it */
    char *name;
    uint64_t size;      /* bytes, as the bitmaps have it */
    uint64_t resize_to; /* a resize was begun: the image has one of both sizes; 0: none was */
    enum catalogue_disk_state state;
    char *image;   /* which image it is (identity.h) */
    char *content; /* how it was left; not DISK_CLEAN: how it was when the server began */
    /* DISK_CRASHED: found when the folder was opened. An mtime after it is somebody else's;
     * nanoseconds since 1970; 0: not known. */
    int64_t changed_until;
    bool
        adopted; /* `fleecectl state adopt`: take the image as it is, once, if it is no other disk's */
};

struct catalogue_bitmap {
    int64_t id;
    int64_t disk;
    char *name;
    char uuid[STATE_UUID_SIZE]; /* of its bits: the file bits/UUID */
    uint32_t granularity;
    uint64_t size; /* bytes of the disk that it covers */
    bool recording;
    char *inconsistent; /* why; NULL: it is good */
    bool sealed;        /* `crc` is that of its bits: set by a stop in order */
    uint32_t crc;
};

/* A text that somebody else understands (server/backup/): a checkpoint's, a backup session's. */
struct catalogue_record {
    int64_t id;
    char *kind, *name; /* unique together */
    char *text;        /* UTF-8, at most CATALOGUE_MAX_RECORD bytes */
};

void catalogue_disk_clear(struct catalogue_disk *d);     /* free what it points to */
void catalogue_bitmap_clear(struct catalogue_bitmap *b); /* likewise */
void catalogue_record_clear(struct catalogue_record *r); /* likewise */

/*
 * All rows, in order of their ids: GArray of the structs above, which clear their elements.
 *
 * What is damaged is named in `damaged` (owned sentences: "disk 'a': its row in the catalogue is
 * damaged"; NULL: nobody wants them), and is mended in what is returned: a bitmap is `inconsistent`,
 * and so are all bitmaps of a damaged disk; a name that is lost becomes "damaged-ID"; nothing is
 * known of the image. A bitmap whose disk has no row is left out, and so is a damaged record. Where
 * rows are missing, or an old page of the database has come back, all bitmaps are inconsistent. All
 * this is found again each time the folder is opened, until the first transaction, which writes the
 * mended rows and removes the damaged records.
 *
 * NULL and *err: the database cannot be read.
 */
GArray *catalogue_disks(struct catalogue *c, GPtrArray *damaged, GError **err);
GArray *catalogue_bitmaps(struct catalogue *c, GPtrArray *damaged, GError **err);
GArray *catalogue_records(struct catalogue *c, GPtrArray *damaged, GError **err);
/* -1 and *err also where the row is damaged. */
int catalogue_folder(struct catalogue *c, struct catalogue_folder *f, GError **err);

/* May a disk, a bitmap, or a record have this name? */
bool catalogue_is_name(const char *name);

/* ---- changes ---- */

int catalogue_begin(struct catalogue *c, GError **err);
/* -1: nothing has happened, and the transaction is over. *unsure (may be NULL): whether it has is not
 * known, because the storage failed while it was written; no other transaction can begin before
 * catalogue_reopen. A full disk leaves no doubt: it has not happened. Names of disks, names of a
 * disk's bitmaps, UUIDs, and names of records of a kind have to be unique at this moment. */
int catalogue_commit(struct catalogue *c, bool *unsure, GError **err);
void catalogue_rollback(struct catalogue *c);
/* The number of the last transaction that has happened. It grows with each. */
uint64_t catalogue_number(const struct catalogue *c);
/* Does the catalogue have to be opened anew? */
bool catalogue_has_failed(const struct catalogue *c);
/* Open it anew after the storage has failed. *happened: whether the transaction that failed has; that
 * is durable. -1 and *err: the storage still fails, or what it has is damaged; try again later. */
int catalogue_reopen(struct catalogue *c, bool *happened, GError **err);

/* Inside a transaction; -1 and *err: the transaction can only be rolled back. id 0: a new row, whose
 * id is set. A row that the functions above would take for damaged is refused. */
int catalogue_put_disk(struct catalogue *c, struct catalogue_disk *d, GError **err);
int catalogue_put_bitmap(struct catalogue *c, struct catalogue_bitmap *b, GError **err);
int catalogue_put_record(struct catalogue *c, struct catalogue_record *r, GError **err);
int catalogue_put_folder(struct catalogue *c, const struct catalogue_folder *f, GError **err);
int catalogue_remove_bitmap(struct catalogue *c, int64_t id, GError **err);
int catalogue_remove_disk(struct catalogue *c, int64_t id, GError **err); /* and its bitmaps */
int catalogue_remove_record(struct catalogue *c, int64_t id, GError **err);

/* Remove the rows that are left out above: a bitmap's whose disk has no row, say. Likewise. Returns how
 * many there were. */
int catalogue_remove_strays(struct catalogue *c, GError **err);

/* SQLite's own check of all pages and indexes, for tools: sentences into `damaged`. */
int catalogue_verify(struct catalogue *c, GPtrArray *damaged, GError **err);

#endif
