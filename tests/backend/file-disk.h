/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk on our file plugin, driven as the server drives it: what its tests have in common. */
#ifndef TESTS_BACKEND_FILE_DISK_H
#define TESTS_BACKEND_FILE_DISK_H

#include "tests/backend/harness.h"

#include <string.h>
#include <sys/stat.h>

#define MIB (UINT64_C(1) << 20)

struct disk {
    struct backend *b;
    struct backend_handle *h;
};

#define open_disk(...)                                                                             \
    ({                                                                                             \
        struct disk d_ = {.b = harness_load("file", __VA_ARGS__, NULL)};                           \
        d_.h = harness_open(d_.b);                                                                 \
        d_;                                                                                        \
    })

static inline void close_disk(struct disk *d)
{
    harness_close(d->h);
    harness_free(d->b);
}

static inline void write_pattern(struct disk *d, int c, uint32_t length, uint64_t offset,
                                 uint32_t flags)
{
    g_autofree char *buf = g_malloc(length);

    memset(buf, c, length);
    g_assert_cmpint(d->b->ops->pwrite(d->h, buf, length, offset, flags), ==, 0);
}

static inline void assert_pattern(struct disk *d, int c, uint32_t length, uint64_t offset)
{
    g_autofree char *buf = g_malloc(length);

    memset(buf, ~c, length);
    g_assert_cmpint(d->b->ops->pread(d->h, buf, length, offset), ==, 0);
    for (uint32_t i = 0; i < length; i++)
        g_assert_cmpint(buf[i], ==, c);
}

static inline uint64_t file_size(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_size;
}

static inline uint64_t allocated(const char *path)
{
    struct stat st;

    g_assert_cmpint(stat(path, &st), ==, 0);
    return (uint64_t)st.st_blocks * 512;
}

#endif
