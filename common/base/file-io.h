/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * pread(2) and pwrite(2) of all that is asked for, in spite of signals and short counts; and what
 * the page cache has.
 */
#ifndef COMMON_BASE_FILE_IO_H
#define COMMON_BASE_FILE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Offsets go up to 2^63 - 1. In a build whose off_t has 32 bits, writes would wrap onto other data.
 * configure's AC_SYS_LARGEFILE makes it 64 bits, by config.h, which every file is compiled with
 * (-include). */
_Static_assert(sizeof(off_t) == 8, "off_t has to have 64 bits: is config.h included?");

/* 0 or a negative errno; -EIO where the file ends too early. Any thread. */
int pread_all(int fd, void *buf, size_t length, uint64_t offset);
int pwrite_all(int fd, const void *buf, size_t length, uint64_t offset);
/* The same with pwritev2(2) and its flags. */
int pwritev2_all(int fd, const void *buf, size_t length, uint64_t offset, int flags);

/* 1: all of the range is in the file and in the page cache. 0: it is not; a page that was never
 * written or read is not in the cache. A negative errno: the kernel does not tell, about this file
 * (-EPERM: it is neither ours nor open for writing; -EOPNOTSUPP) or about any (-ENOSYS: before
 * Linux 6.5). Any thread. See cachestat(2). */
int file_is_cached(int fd, uint64_t offset, uint64_t length);

#endif
