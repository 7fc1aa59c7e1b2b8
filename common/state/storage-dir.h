/* SPDX-License-Identifier: BSD-3-Clause */
/* What storage_dir (storage.h) offers beside the operations. */
#ifndef COMMON_STATE_STORAGE_DIR_H
#define COMMON_STATE_STORAGE_DIR_H

#include "common/state/storage.h"

/* Keep a descriptor open as long as the storage, which is one of storage_dir_new's and takes it
 * over: the lock of the folder. Once. */
void storage_dir_hold(struct storage *s, int fd);

/* A folder of a file system in memory; takes over the descriptor of it. Files are sparse: `reserve`
 * makes a file long and takes no memory, so the first touch of a page may find that there is none.
 * Nothing survives the machine's run, so syncs do nothing. */
struct storage *storage_dir_new_memory(const char *path, int fd);
/* Is it of a real folder, of whatever file system? */
bool storage_is_dir(const struct storage *s);
/* The file's descriptor, which stays the storage's. -1: it is a file of another kind of storage. */
int storage_dir_fd(struct storage_file *f);

#endif
