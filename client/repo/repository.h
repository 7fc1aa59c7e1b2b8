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

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum repo_level { REPO_FULL, REPO_INC, REPO_DIFF };
const char *repo_level_name(enum repo_level level); /* "full", "inc", "diff" */

/* A disk of a member: one file. */
struct repo_disk {
    char *disk; /* its name on the server */
    char *file; /* below the repository: "vda/00042-inc.qcow2" */
    enum repo_level level;
    int64_t parent; /* ID of the member whose file of the same disk is its backing file; -1: none */
    char *since;    /* the checkpoint since which it has the changes; NULL: none */
    char *reason;   /* why it is full where more was wanted; NULL */
    uint64_t size;  /* of the disk, bytes */
    uint64_t bytes; /* of the file */
    uint64_t read;  /* read from the server for it, bytes */
    char *sums;     /* SHA-256 in hex of its file of checksums (client/repo/sums.h) */
};

/* A backup: one instant of one or more disks. */
struct repo_member {
    int64_t id; /* from 0, grows by one */
    char *uuid;
    int64_t time;     /* of its instant, microseconds since 1970, by the server's clock */
    char *checkpoint; /* made at its instant; NULL: none, or deleted */
    char *session;    /* ID of the session that it was read from; NULL */
    GPtrArray *disks; /* struct repo_disk *, by name */
};

struct repository {
    char *path;
    char *uuid;
    int64_t created;    /* microseconds since 1970 */
    int64_t next_id;    /* grows also over members that are pruned */
    GPtrArray *members; /* struct repo_member *, by ID */
    /* ... what is private is in repository-private.h, behind this */
    struct repository_files *files;
};

enum repo_access {
    REPO_LOOK,   /* no lock: the manifest alone is looked at */
    REPO_READ,   /* a shared lock: files stay */
    REPO_WRITE,  /* the exclusive lock */
    REPO_CREATE, /* the same; an empty or missing folder becomes a repository */
};

/* Open, lock, read and check the manifest. It is an error where another process has a lock in the
 * way (the message says its pid). NULL and *err. */
struct repository *repository_open(const char *path, enum repo_access access, GError **err);
void repository_close(struct repository *r); /* NULL is fine */

struct repo_member *repo_member_new(void);
void repo_member_free(struct repo_member *m);
struct repo_disk *repo_disk_new(void);
void repo_disk_free(struct repo_disk *d);

/* Lent; NULL where there is none. */
struct repo_member *repository_find(const struct repository *r, int64_t id);
struct repo_disk *repo_member_disk(const struct repo_member *m, const char *disk);
/* The newest member that has the disk (NULL: any), or the newest not after a point: `until` is an ID, or a
 * time as a person writes it (ISO 8601, or "2026-11-29 03:00", local; or "yesterday"-like words are
 * not taken). NULL and *err, which names what there is. */
struct repo_member *repository_until(const struct repository *r, const char *until,
                                     const char *disk, GError **err);
/* The level of a member as a whole: full if all its disks are, else diff if one is, else inc. */
enum repo_level repo_member_level(const struct repo_member *m);

/* "vda/00042-inc.qcow2": the name of the file of a disk, whose name is made safe for a folder. The
 * caller frees it. */
char *repo_file_name(const char *disk, int64_t id, enum repo_level level);
/* The path of a file of the repository; of its checksums. The caller frees it. */
char *repo_path(const struct repository *r, const char *file);
char *repo_sums_path(const struct repository *r, const char *file);
/* `of` as it is named from the folder of `from`, both files of the repository. */
char *repo_backing_name(const char *from, const char *of);

/* Make the change of `members` that the caller has made durable: write the manifest anew. 0, or -1
 * and *err: the manifest is as before. Needs the exclusive lock. */
int repository_save(struct repository *r, GError **err);

/* Remove what no member names: .partial and other files of ours left of runs that were cut; never a
 * file that is not ours. `removed` (may be NULL) is told the names. Needs the exclusive lock. 0, or
 * -1 and *err. */
int repository_clean(struct repository *r, GPtrArray *removed, GError **err);

#endif
