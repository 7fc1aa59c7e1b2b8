/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/pull/emptiness.h"
#include "client/base/error.h"
#include "common/base/file-io.h"

#include <string.h>

#define PIECE  4096u
#define HEAD   (UINT64_C(1) << 20) /* partition tables and superblocks are here */
#define PLACES 64u                 /* beside the head and the tail */
#define WINDOW (UINT64_C(1) << 40)
#define RANGES 256u /* of a source that are looked at, at most */
#define READS  512u /* at most */

/* Something that can be read, a piece at a time. */
struct reader {
    int (*read)(void *opaque, uint8_t *piece, size_t length, uint64_t offset, GError **err);
    void *opaque;
    unsigned reads;
};

static bool is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* Is there data in a range, which is not empty? Looks at `places` of it, from its first piece to its
 * last one: 1, 0, or -1 and *err. */
static int look(struct reader *r, uint64_t offset, uint64_t length, unsigned places, GError **err)
{
    uint64_t last = length > PIECE ? (length - 1) / PIECE : 0;
    uint64_t steps = MIN(last + 1, places);

    for (uint64_t i = 0; i < steps && r->reads < READS; i++, r->reads++) {
        uint64_t at = offset + (steps > 1 ? last * i / (steps - 1) : 0) * PIECE;
        size_t n = (size_t)MIN(PIECE, offset + length - at);
        uint8_t piece[PIECE];

        if (r->read(r->opaque, piece, n, at, err) < 0)
            return -1;
        if (!is_zero(piece, n))
            return 1;
    }
    return 0;
}

/* ---- a device ---- */

struct device {
    int fd;
    const char *name;
};

static int read_device(void *opaque, uint8_t *piece, size_t length, uint64_t offset, GError **err)
{
    const struct device *d = opaque;
    int error = pread_all(d->fd, piece, length, offset);

    if (error == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: read at %" G_GUINT64_FORMAT ": %s", d->name,
                       offset, g_strerror(-error));
}

int emptiness_of_device(int fd, const char *name, uint64_t size, enum emptiness *found,
                        GError **err)
{
    struct device d = {fd, name};
    struct reader r = {.read = read_device, .opaque = &d};
    uint64_t head = MIN(size, HEAD);
    int data = head > 0 ? look(&r, 0, head, HEAD / PIECE, err) : 0;

    if (data == 0 && size > head)
        data = look(&r, head, size - head, PLACES, err);
    *found = data > 0 ? EMPTINESS_DATA : EMPTINESS_NONE_FOUND;
    return data < 0 ? -1 : 0;
}

/* ---- a source ---- */

static int read_source(void *opaque, uint8_t *piece, size_t length, uint64_t offset, GError **err)
{
    struct copy_source *s = opaque;
    uint64_t from = offset & ~(uint64_t)(s->align - 1);
    uint64_t to = MIN((offset + length + s->align - 1) & ~(uint64_t)(s->align - 1), s->size);
    g_autofree uint8_t *aligned = g_malloc(to - from);
    struct copy_piece p = {.offset = from, .length = to - from, .data = aligned};

    if (s->ops->read_start(s, 0, &p, 1, err) < 0 || s->ops->read_wait(s, 0, err) < 0)
        return -1;
    memcpy(piece, aligned + (offset - from), length);
    return 0;
}

/* What is not called zero, as far as there are places for it. */
static int take_extent(void *opaque, const struct copy_extent *e, GError **err)
{
    GArray *unknown = opaque;

    if (!e->zero && unknown->len < RANGES)
        g_array_append_val(unknown, *e);
    return 0;
}

int emptiness_of_source(struct copy_source *s, enum emptiness *found, GError **err)
{
    g_autoptr(GArray) unknown = g_array_new(FALSE, FALSE, sizeof(struct copy_extent));
    struct reader r = {.read = read_source, .opaque = s};

    for (uint64_t at = 0, end; at < s->size; at = end) {
        if (s->ops->extents(s, 0, at, MIN(WINDOW, s->size - at), take_extent, unknown, &end, err) <
            0)
            return -1;
    }
    *found = unknown->len > 0 ? EMPTINESS_NONE_FOUND : EMPTINESS_ZERO;
    for (guint i = 0; i < unknown->len; i++) {
        const struct copy_extent *e = &g_array_index(unknown, struct copy_extent, i);
        int data = look(&r, e->offset, e->length, MAX(RANGES / unknown->len, 1), err);

        if (data < 0)
            return -1;
        if (data > 0) {
            *found = EMPTINESS_DATA;
            return 0;
        }
    }
    return 0;
}
