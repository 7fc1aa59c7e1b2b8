/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which level each disk of a new backup has, on which parent, and why; and which checkpoints of
 * earlier backups the server need not keep. Pure: no I/O but what a function of the caller does.
 */
#ifndef CLIENT_REPO_BACKUP_PLAN_H
#define CLIENT_REPO_BACKUP_PLAN_H

#include "client/repo/repository.h"

/* What is wanted. */
enum backup_level {
    BACKUP_AUTO, /* on the newest backup that can be a base; full where there is none */
    BACKUP_FULL,
    BACKUP_INC,  /* as auto, but an error where there is no base */
    BACKUP_DIFF, /* on the newest full backup that can be a base; full where there is none */
};

/* Most files of a chain that a backup is put upon: a restore has them all open, and a process may
 * often open no more than 1024. */
#define BACKUP_CHAIN_MAX 256

struct plan_input {
    const struct repository *repo;
    const GArray *checkpoints; /* the server's: struct checkpoint_entry */
    /* Why a file of a member is of no use: the caller frees it. NULL: it is there, as its member
     * says, and nobody has found it damaged. */
    char *(*fault)(void *opaque, const struct repo_member *m, const struct repo_disk *file);
    void *opaque;
};

/* What was chosen for a disk. */
struct backup_choice {
    char *disk;
    enum repo_level level;
    int64_t parent; /* ID of a member; -1: none */
    char *since;    /* the parent's checkpoint; NULL: none */
    char *reason;   /* why it is full, or on an older parent, where more was wanted; NULL */
};

struct backup_choice *backup_choice_new(const char *disk);
void backup_choice_free(struct backup_choice *c);
/* It becomes a full one, because of `reason` (NULL: that is what was wanted). */
void backup_choice_make_full(struct backup_choice *c, const char *reason);

/*
 * Choose for each of `disks` (up to a NULL). `since`: the ID of the member that is to be the base, -1: any.
 * An array of struct backup_choice, which the caller unrefs, in the order of `disks`. NULL and *err
 * where `level` is BACKUP_INC and a disk has no base, or where there is no member `since`.
 */
GPtrArray *backup_plan(const struct plan_input *in, enum backup_level level, int64_t since,
                       const char *const *disks, GError **err);

/* Why a backup of the disk cannot stand on the member with the ID `parent`: its file, or one below it, is
 * of no use. The caller frees it. NULL: it can. The checkpoints of *in are not looked at. */
char *backup_parent_fault(const struct plan_input *in, int64_t parent, const char *disk);

/*
 * The server's checkpoints whose names begin with `prefix` and that no backup will begin from:
 * names, which the caller unrefs with the array. Kept are those of the `keep` newest members that
 * have one there; and for each disk that of the newest member, and of the newest full one, that can
 * be a base.
 */
GPtrArray *backup_spare_checkpoints(const struct plan_input *in, const char *prefix, unsigned keep);

#endif
