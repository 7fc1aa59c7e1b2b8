/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * REPO/running.json: which backup is under way in a repository, written durably before its session
 * begins, and removed when the session has ended. A run that finds one knows that an earlier run was
 * cut, and what it may have left on the server. One thread; needs the repository's exclusive lock.
 */
#ifndef CLIENT_REPO_BACKUP_RECORD_H
#define CLIENT_REPO_BACKUP_RECORD_H

#include "client/repo/backup-plan.h"

/* A disk of it. */
struct record_disk {
    struct backup_choice *choice;
    /* What is in the repository of it: its file, whole and durable, with its checksums. NULL: not
     * yet. */
    struct repo_disk *done;
};

struct backup_record {
    int64_t id;       /* of the member that it is to become */
    char *uuid;       /* of that member */
    char *session;    /* ID of the session; its checkpoint has the same name */
    GPtrArray *disks; /* struct record_disk * */
};

struct backup_record *backup_record_new(int64_t id, const char *uuid, const char *session);
void backup_record_free(struct backup_record *r); /* NULL is fine */
/* Add a disk; takes over the choice. Lent. */
struct record_disk *backup_record_add(struct backup_record *r, struct backup_choice *choice);
/* Lent; NULL where there is none. */
struct record_disk *backup_record_disk(const struct backup_record *r, const char *disk);

/* Write it, durably. 0, or -1 and *err. */
int backup_record_save(const struct backup_record *r, const struct repository *repo, GError **err);
/* Write it anew. A start after a power cut may find what was saved before, which costs time: a disk that is done
 * is read again. 0, or -1 and *err. */
int backup_record_update(const struct backup_record *r, const struct repository *repo,
                         GError **err);
/* Read it: 1 and *r; 0: there is none; -1 and *err: it is there and cannot be read. */
int backup_record_load(struct backup_record **r, const struct repository *repo, GError **err);
/* Remove it, if it is there. 0, or -1 and *err. */
int backup_record_remove(const struct repository *repo, GError **err);

#endif
