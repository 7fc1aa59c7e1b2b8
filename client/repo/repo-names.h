/* SPDX-License-Identifier: BSD-3-Clause */
/* Names of the files of a repository. Pure. */
#ifndef CLIENT_REPO_REPO_NAMES_H
#define CLIENT_REPO_REPO_NAMES_H

#include "client/repo/repo-member.h"

/* What follows the name of a file in that of its checksums. */
#define REPO_SUMS_SUFFIX ".sums"

/* "vda/00042-inc.qcow2": the name of the file of a disk, whose name is made safe for a folder. The
 * caller frees it. */
char *repo_file_name(const char *disk, int64_t id, enum repo_level level);
/* The folder in it: "vda". The caller frees it. */
char *repo_folder_name(const char *disk);
/* Can that function give this name? */
bool repo_folder_is_ours(const char *name);

/* May a manifest name this file? It is FOLDER/NAME.qcow2, is not hidden, and stays in the
 * repository. 0, or -1 and *err. */
int repo_file_check(const char *file, GError **err);

/* Is this name, within a disk's folder, one that a backup or a prune makes: NUMBER-LEVEL.qcow2, also
 * with a generation (00042-full.1.qcow2), and with .sums or .partial behind it? *id is its number. */
bool repo_name_is_ours(const char *name, int64_t *id);

/* `of` as it is named from the folder of `from`, both files of the repository. The caller frees
 * it. */
char *repo_backing_name(const char *from, const char *of);

#endif
