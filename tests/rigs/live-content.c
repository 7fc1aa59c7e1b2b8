/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-storage.h"

#include "common/base/file-io.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

void live_content_clear(struct live_content *c)
{
    g_free(c->bytes);
    memset(c, 0, sizeof(*c));
}

static void make_room(struct live_content *c, size_t room)
{
    if (room <= c->room)
        return;
    room = MAX(room, 2 * c->room);
    c->bytes = g_realloc(c->bytes, room);
    c->room = room;
}

void live_content_copy(struct live_content *to, const struct live_content *from)
{
    make_room(to, from->filled);
    if (from->filled)
        memcpy(to->bytes, from->bytes, from->filled);
    to->filled = from->filled;
    to->size = from->size;
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

void live_content_write(struct live_content *c, const uint8_t *bytes, size_t length,
                        uint64_t offset)
{
    size_t end = (size_t)offset + length;

    /* Files are sparse: what is zeroes behind all else takes no memory. */
    if (end > c->filled && (!bytes || is_zero(bytes, length))) {
        if (offset >= c->filled)
            return;
        end = c->filled;
        length = end - (size_t)offset;
        bytes = NULL;
    }
    make_room(c, end);
    if (end > c->filled) {
        memset(c->bytes + c->filled, 0, end - c->filled);
        c->filled = end;
    }
    if (bytes)
        memcpy(c->bytes + offset, bytes, length);
    else
        memset(c->bytes + offset, 0, length);
}

void live_content_read(const struct live_content *c, uint8_t *bytes, size_t length, uint64_t offset)
{
    size_t n = offset < c->filled ? MIN(length, c->filled - (size_t)offset) : 0;

    if (n)
        memcpy(bytes, c->bytes + offset, n);
    memset(bytes + n, 0, length - n);
}

void live_content_resize(struct live_content *c, uint64_t size)
{
    if (size < c->filled)
        c->filled = (size_t)size;
    c->size = size;
}

void live_content_put(const struct live_content *c, const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    g_assert_cmpint(ftruncate(fd, (off_t)c->size), ==, 0);
    g_assert_cmpint(pwrite_all(fd, c->bytes, MIN(c->filled, c->size), 0), ==, 0);
    close(fd);
}
