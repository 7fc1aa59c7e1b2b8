/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A backup repository: a folder of qcow2 files, REPO/DISK/00042-inc.qcow2, each on its parent by a
 * relative backing name, and REPO/manifest.json, which says what they are: nbdfleece-repository(5).
 *
 * A backup is in the repository when the manifest says so; files that it does not name are left of
 * runs that were cut. The manifest is replaced as a whole, durably. One thread; across processes
 * there is the repository's lock.
 */
#ifndef CLIENT_REPO_REPOSITORY_H
#define CLIENT_REPO_REPOSITORY_H

#include "client/repo/repo-member.h"
#include "client/repo/repo-names.h"

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

typedef struct repository { /* for g_autoptr */
    char *path;
    char *uuid;
    int64_t created;    /* microseconds since 1970 */
    int64_t next_id;    /* grows also over members that are pruned */
    GPtrArray *members; /* struct repo_member *, by ID */
    bool unsure; /* a save has failed, and which manifest a start after a power cut finds is open */
    struct repository_files *files; /* repository.c's */
} repository;

enum repo_access {
    REPO_LOOK,   /* no lock: the manifest alone is looked at */
    REPO_READ,   /* a shared lock: files stay */
    REPO_WRITE,  /* the exclusive lock */
    REPO_CREATE, /* the same; an empty or missing folder becomes a repository */
};

/* Open, lock, read and check the manifest. It is an error where another process has a lock in the
 * way (the message says the pid of one that writes). NULL and *err. */
struct repository *repository_open(const char *path, enum repo_access access, GError **err);
void repository_close(struct repository *r); /* NULL is fine */
/* It came to nothing: where this opening has made the repository, and it has no members, remove what was
 * made: its files, its lock, its folder. What was there before stays, and all does where something else
 * has come. The caller closes it. */
void repository_unmake(struct repository *r);

/* Lent; NULL where there is none. */
struct repo_member *repository_find(const struct repository *r, int64_t id);
/* The newest member that has the disk (NULL: any); NULL: there is none. Lent. */
struct repo_member *repository_newest(const struct repository *r, const char *disk);
/* The newest member that has the disk (NULL: any), or the newest not after a point: `until` is the ID of a
 * member, or a time as a person writes it (repo-time.h). NULL and *err, which names what there is.
 * Lent. */
struct repo_member *repository_until(const struct repository *r, const char *until,
                                     const char *disk, GError **err);

/* The path of a file of the repository; of its checksums. The caller frees it. */
char *repo_path(const struct repository *r, const char *file);
char *repo_sums_path(const struct repository *r, const char *file);

/* Make the change of `members` and `next_id` that the caller has made durable: write the manifest anew.
 * It is checked as when it is read; what breaks a rule is not written. The one before it stays as
 * manifest.json.old. 0, or -1 and *err: the manifest is as before, or, where it could not be put
 * back, `unsure` is set, until a save succeeds. Needs the exclusive lock. */
int repository_save(struct repository *r, GError **err);

/* Before files are removed that the manifest does not name: let manifest.json.old be the same,
 * durably, so that it does not name them either. 0, or -1 and *err, also where `unsure`: nothing may
 * be removed. Needs the exclusive lock. */
int repository_forget_old(struct repository *r, GError **err);

/* Remove what no member names: files that look like ours, left of runs that were cut. In the folder of a
 * disk that no member has, only what is newer than all members. A folder that gets empty goes, too. Before the first whole
 * file manifest.json.old becomes as manifest.json.
 * `removed` (may be NULL; of char *) is told the names. Needs the exclusive lock. 0, or -1 and
 * *err. */
int repository_clean(struct repository *r, GPtrArray *removed, GError **err);
/* Before that, remove what is of a run that came to nothing in a folder that is a link, and of a disk that no
 * member has. In such a folder repository_clean cannot tell what is ours. `file` is what the run was to
 * make there: what is not whole of it goes, and so do checksums that no file has. `whole`: the run has made all
 * of it, and it goes as well; else one that is there may be another repository's. 0, or -1 and *err. */
int repository_clean_link(struct repository *r, const char *file, bool whole, GError **err);

G_DEFINE_AUTOPTR_CLEANUP_FUNC(repository, repository_close)

#endif
