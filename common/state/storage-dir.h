/* SPDX-License-Identifier: BSD-3-Clause */
/* What storage_dir (storage.h) offers beside the operations. */
#ifndef COMMON_STATE_STORAGE_DIR_H
#define COMMON_STATE_STORAGE_DIR_H

#include "common/state/storage.h"

/* Keep a descriptor open as long as the storage, which is one of storage_dir_new's and takes it
 * over: the lock of the folder. Once. */
void storage_dir_hold(struct storage *s, int fd);

#endif
