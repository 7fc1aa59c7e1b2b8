/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pread(2) and pwrite(2) of all that is asked for, whatever signals and short counts say; and what
 * the page cache has.
 */
#ifndef COMMON_BASE_FILE_IO_H
#define COMMON_BASE_FILE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 0 or a negative errno; -EIO where the file ends too early. Any thread. */
int pread_all(int fd, void *buf, size_t length, uint64_t offset);
int pwrite_all(int fd, const void *buf, size_t length, uint64_t offset);

/* Is all of the range in the file and in the page cache: 1, or 0; or a negative errno where the
 * kernel does not tell, about this file (-EPERM: it is neither ours nor open for writing,
 * -EOPNOTSUPP) or any (-ENOSYS: before Linux 6.5). A page that has never been written or read is
 * not. Any thread. cachestat(2). */
int file_is_cached(int fd, uint64_t offset, uint64_t length);

#endif
