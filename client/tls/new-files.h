/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * New folders and files that are made all or not at all. Their contents are gathered in memory
 * first; nothing that exists is overwritten. Contents may be secret: they are wiped when they are
 * freed.
 */
#ifndef CLIENT_TLS_NEW_FILES_H
#define CLIENT_TLS_NEW_FILES_H

#include <glib.h>
#include <sys/types.h>

typedef struct new_files {
    GPtrArray *folders, *files; /* in the order in which they are made */
} new_files;

void new_files_init(struct new_files *n);
void new_files_clear(struct new_files *n);
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(new_files, new_files_clear)

/* A folder that only its owner can enter. */
void new_files_add_folder(struct new_files *n, const char *path);
/* A file dir/name. Takes over `text`, a string. */
void new_files_add(struct new_files *n, const char *dir, const char *name, char *text, mode_t mode);

/* Make all of them, and have their contents on the disk. 0, or -1 and *err, which names the path;
 * what had been made is then removed again. */
int new_files_write(const struct new_files *n, GError **err);

#endif
