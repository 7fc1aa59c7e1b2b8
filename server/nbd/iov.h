/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef NBD_IOV_H
#define NBD_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/* Take `n` bytes off the front of *count pieces. */
static inline void iov_advance(struct iovec **iov, unsigned *count, size_t n)
{
    while (*count > 0 && n >= (*iov)->iov_len) {
        n -= (*iov)->iov_len;
        (*iov)++;
        (*count)--;
    }
    if (*count > 0) {
        (*iov)->iov_base = (uint8_t *)(*iov)->iov_base + n;
        (*iov)->iov_len -= n;
    }
}

#endif
