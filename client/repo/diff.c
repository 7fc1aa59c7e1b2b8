/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/diff.h"
#include "client/base/error.h"
#include "client/repo/chain.h"

#include <string.h>

/* What is compared at once, and is told as changed if a byte of it differs. */
#define BLOCK 65536u

/* One side: an image, and what reads it. */
struct side {
    struct q2_image *image; /* NULL: there is none */
    struct q2_reader *reader;
    uint64_t size; /* of the disk */
};

struct diff {
    struct side old, new; /* old: only where contents are compared */
    bool same;            /* both are one member */
    unsigned depth;       /* files of the newer one's chain down to the older one, less one */
    uint8_t buffers[2][BLOCK];
};

static int side_open(struct side *s, const struct repository *r, const GPtrArray *chain,
                     GError **err)
{
    struct q2_error error = {0};

    s->size = ((const struct repo_disk *)chain->pdata[0])->size;
    s->image = repo_chain_open(r, chain, err);
    if (!s->image)
        return -1;
    s->reader = q2_reader_new(s->image, &error);
    return s->reader ? 0 : client_fail(err, CLIENT_ERROR_FAILED, "%s", error.text);
}

static void side_close(struct side *s)
{
    q2_reader_free(s->reader);
    q2_image_close(s->image);
}

static int open_sides(struct diff *d, const struct repository *r, const struct repo_member *old,
                      const struct repo_member *new, const char *disk, GError **err)
{
    g_autoptr(GPtrArray) old_chain = repo_chain(r, old, disk, err);
    g_autoptr(GPtrArray) new_chain = old_chain ? repo_chain(r, new, disk, err) : NULL;
    guint place;

    if (!new_chain)
        return -1;
    if (!g_ptr_array_find(new_chain, old_chain->pdata[0], &place))
        return side_open(&d->old, r, old_chain, err) < 0 ? -1
                                                         : side_open(&d->new, r, new_chain, err);
    d->same = place == 0;
    d->depth = d->same ? 0 : place - 1;
    return side_open(&d->new, r, new_chain, err);
}

struct diff *diff_open(const struct repository *r, const struct repo_member *a,
                       const struct repo_member *b, const char *disk, GError **err)
{
    struct diff *d = g_new0(struct diff, 1);

    if (open_sides(d, r, a->id < b->id ? a : b, a->id < b->id ? b : a, disk, err) == 0)
        return d;
    diff_free(d);
    return NULL;
}

void diff_free(struct diff *d)
{
    if (!d)
        return;
    side_close(&d->old);
    side_close(&d->new);
    g_free(d);
}

uint64_t diff_size(const struct diff *d)
{
    return d->new.size;
}

bool diff_compares(const struct diff *d)
{
    return d->old.image != NULL;
}

/* ---- telling ---- */

/* What joins neighbours. */
struct teller {
    diff_sink sink;
    void *opaque;
    uint64_t offset, length; /* what has come, and is not told yet */
    bool changed;
};

static int tell_rest(struct teller *t, GError **err)
{
    return t->length > 0 ? t->sink(t->opaque, t->offset, t->length, t->changed, err) : 0;
}

static int tell(struct teller *t, uint64_t length, bool changed, GError **err)
{
    if (changed != t->changed) {
        if (tell_rest(t, err) < 0)
            return -1;
        t->offset += t->length;
        t->length = 0;
        t->changed = changed;
    }
    t->length += length;
    return 0;
}

static int fail_q2(GError **err, const struct q2_error *why)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s", why->text);
}

/* What the files between have. */
static int tell_written(struct diff *d, struct teller *t, GError **err)
{
    for (uint64_t offset = 0; offset < d->new.size;) {
        struct q2_extent e = {.length = d->new.size - offset, .kind = Q2_UNALLOCATED};
        struct q2_error error;

        if (!d->same && q2_image_extent(d->new.reader, offset, e.length, d->depth, &e, &error) < 0)
            return fail_q2(err, &error);
        if (tell(t, e.length, e.kind != Q2_UNALLOCATED, err) < 0)
            return -1;
        offset += e.length;
    }
    return 0;
}

/* ---- comparing ---- */

/* How many of the `length` bytes at `offset` are surely zeroes: 0 if it is not known. A disk that has
 * ended goes on with them. */
static int zeroes_at(struct side *s, uint64_t offset, uint64_t length, uint64_t *zeroes,
                     GError **err)
{
    struct q2_extent e;
    struct q2_error error;

    *zeroes = length;
    if (offset >= s->size)
        return 0;
    if (q2_image_extent(s->reader, offset, MIN(length, s->size - offset), UINT_MAX, &e, &error) < 0)
        return fail_q2(err, &error);
    *zeroes = e.kind == Q2_ZERO || e.kind == Q2_UNALLOCATED ? e.length : 0;
    return 0;
}

static int read_block(struct side *s, uint8_t *buffer, uint64_t offset, size_t length, GError **err)
{
    size_t there = offset < s->size ? (size_t)MIN(length, s->size - offset) : 0;
    struct q2_error error;

    memset(buffer + there, 0, length - there);
    if (there > 0 && q2_image_pread(s->reader, buffer, there, offset, &error) < 0)
        return fail_q2(err, &error);
    return 0;
}

static int compare_block(struct diff *d, uint64_t offset, size_t length, bool *changed,
                         GError **err)
{
    if (read_block(&d->old, d->buffers[0], offset, length, err) < 0 ||
        read_block(&d->new, d->buffers[1], offset, length, err) < 0)
        return -1;
    *changed = memcmp(d->buffers[0], d->buffers[1], length) != 0;
    return 0;
}

static int tell_compared(struct diff *d, struct teller *t, GError **err)
{
    for (uint64_t offset = 0; offset < d->new.size;) {
        uint64_t left = d->new.size - offset, a, b, length;
        bool changed = false;

        if (zeroes_at(&d->old, offset, left, &a, err) < 0 ||
            zeroes_at(&d->new, offset, left, &b, err) < 0)
            return -1;
        /* Blocks are aligned: the rest of one behind zeroes is compared with them. */
        length = MIN(a, b) / BLOCK * BLOCK;
        if (length == 0 && MIN(a, b) == left)
            length = left;
        if (length == 0) {
            length = MIN(left, BLOCK);
            if (compare_block(d, offset, (size_t)length, &changed, err) < 0)
                return -1;
        }
        if (tell(t, length, changed, err) < 0)
            return -1;
        offset += length;
    }
    return 0;
}

int diff_tell(struct diff *d, diff_sink sink, void *opaque, GError **err)
{
    struct teller t = {.sink = sink, .opaque = opaque};
    int result = diff_compares(d) ? tell_compared(d, &t, err) : tell_written(d, &t, err);

    return result < 0 ? -1 : tell_rest(&t, err);
}
