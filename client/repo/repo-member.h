/* SPDX-License-Identifier: BSD-3-Clause */
/* What a repository has: members, and the disks in them. One thread. */
#ifndef CLIENT_REPO_REPO_MEMBER_H
#define CLIENT_REPO_REPO_MEMBER_H

#include <glib.h>
#include <stdbool.h>
#include <stdint.h>

enum repo_level { REPO_FULL, REPO_INC, REPO_DIFF };
const char *repo_level_name(enum repo_level level); /* "full", "inc", "diff" */
bool repo_level_parse(const char *name, enum repo_level *level);

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

struct repo_member *repo_member_new(void);
void repo_member_free(struct repo_member *m); /* NULL is fine */
struct repo_disk *repo_disk_new(void);
void repo_disk_free(struct repo_disk *d); /* NULL is fine */

/* Lent; NULL where there is none. */
struct repo_disk *repo_member_disk(const struct repo_member *m, const char *disk);
/* The level of a member as a whole: full if all its disks are, else diff if one is, else inc. */
enum repo_level repo_member_level(const struct repo_member *m);

#endif
