/* SPDX-License-Identifier: BSD-3-Clause */
/* pread(2) and pwrite(2) of all that is asked for, whatever signals and short counts say. */
#ifndef COMMON_FILE_IO_H
#define COMMON_FILE_IO_H

#include <stddef.h>
#include <stdint.h>

/* 0 or a negative errno; -EIO where the file ends too early. Any thread. */
int pread_all(int fd, void *buf, size_t length, uint64_t offset);
int pwrite_all(int fd, const void *buf, size_t length, uint64_t offset);

#endif
