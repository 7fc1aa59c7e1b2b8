/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/copy/batch.h"

#include "common/copy/zeroes.h"
#include "common/util/error.h"

#include <errno.h>
#include <sys/mman.h>

/* Most zeroes in a batch, so that a cancelled copy, and the position, do not wait long for one. */
#define ZERO_MOST (UINT64_C(256) << 20)

int batch_init(struct batch *b, const struct batch_shape *shape, GError **err)
{
    void *p = mmap(NULL, shape->room, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    b->shape = shape;
    b->reads = g_array_new(FALSE, FALSE, sizeof(struct copy_piece));
    b->writes = g_array_new(FALSE, FALSE, sizeof(struct copy_piece));
    b->zeroes = g_array_new(FALSE, FALSE, sizeof(struct plan_range));
    if (p == MAP_FAILED)
        return fail_errno(err, errno, "No memory for a buffer of %zu bytes", shape->room);
    b->buffer = p;
    return 0;
}

void batch_clear(struct batch *b)
{
    if (b->buffer)
        munmap(b->buffer, b->shape->room);
    if (b->reads)
        g_array_free(b->reads, TRUE);
    if (b->writes)
        g_array_free(b->writes, TRUE);
    if (b->zeroes)
        g_array_free(b->zeroes, TRUE);
}

void batch_empty(struct batch *b)
{
    b->n_ranges = 0;
    b->bytes = 0;
    b->zero = b->wrote = b->zeroed = 0;
    g_array_set_size(b->reads, 0);
    g_array_set_size(b->writes, 0);
    g_array_set_size(b->zeroes, 0);
}

/* ---- reading ---- */

static void cut(GArray *pieces, uint64_t offset, uint64_t length, uint8_t *data, uint32_t most)
{
    while (length > 0) {
        struct copy_piece piece = {offset, MIN(length, most), data};

        g_array_append_val(pieces, piece);
        offset += piece.length;
        data += piece.length;
        length -= piece.length;
    }
}

uint64_t batch_add(struct batch *b, const struct plan_range *r)
{
    uint64_t n = MIN(r->length, r->zero ? ZERO_MOST - b->zero : b->shape->room - b->bytes);

    if (n == 0 || b->n_ranges == BATCH_RANGES)
        return 0;
    b->ranges[b->n_ranges++] = (struct plan_range){r->offset, n, r->zero};
    if (r->zero) {
        b->zero += n;
    } else {
        cut(b->reads, r->offset, n, b->buffer + b->bytes, b->shape->read_most);
        b->bytes += n;
    }
    return n;
}

int batch_read(struct batch *b, struct copy_source *s, unsigned lane, GError **err)
{
    if (b->reads->len == 0)
        return 0;
    if (s->ops->read_start(s, lane, (const struct copy_piece *)(void *)b->reads->data,
                           b->reads->len, err) < 0)
        return -1;
    b->reading = true;
    return 0;
}

int batch_wait(struct batch *b, struct copy_source *s, unsigned lane, GError **err)
{
    if (!b->reading)
        return 0;
    b->reading = false;
    return s->ops->read_wait(s, lane, err);
}

/* ---- writing ---- */

/* Give the target what has been gathered for it: what is to be written, then zeroes. */
static int flush(struct batch *b, unsigned lane, GError **err)
{
    struct copy_target *t = b->shape->to;

    if (b->writes->len > 0 &&
        t->ops->write(t, lane, (const struct copy_piece *)(void *)b->writes->data, b->writes->len,
                      err) < 0)
        return -1;
    for (guint i = 0; i < b->zeroes->len; i++) {
        const struct plan_range *r = &g_array_index(b->zeroes, struct plan_range, i);

        if (t->ops->zero(t, lane, r->offset, r->length, err) < 0)
            return -1;
    }
    g_array_set_size(b->writes, 0);
    g_array_set_size(b->zeroes, 0);
    return 0;
}

/* A target that is a stream gets its data and its zeroes in order. Others get all data in one call. */
static int give_data(struct batch *b, unsigned lane, uint64_t offset, size_t length, uint8_t *data,
                     GError **err)
{
    if (b->shape->to->ordered && b->zeroes->len > 0 && flush(b, lane, err) < 0)
        return -1;
    cut(b->writes, offset, length, data, b->shape->write_most);
    b->wrote += length;
    return 0;
}

static void give_zeroes(struct batch *b, uint64_t offset, uint64_t length)
{
    struct plan_range r = {offset, length, true};

    g_array_append_val(b->zeroes, r);
    b->zeroed += length;
}

/* Bytes up to the next bound of the grid of zero_block. */
static size_t to_next_block(uint64_t offset, size_t left, uint32_t block)
{
    return MIN(left, block - (offset & (block - 1)));
}

/* Whether the block at `offset`, of `n` bytes, is whole, and zero. */
static bool is_zero_block(const struct batch *b, uint64_t offset, size_t n, const uint8_t *data)
{
    uint32_t block = b->shape->zero_block;

    return (n == block || ((offset & (block - 1)) == 0 && offset + n == b->shape->disk_size)) &&
           all_zeroes(data, n);
}

/* A range that was read: find the zeroes in it. */
static int give_range(struct batch *b, unsigned lane, uint64_t offset, size_t length, uint8_t *data,
                      GError **err)
{
    uint32_t block = b->shape->zero_block;
    size_t done = 0, end = 0; /* [done, end) is of one kind */
    bool zero = false;

    if (!block)
        return give_data(b, lane, offset, length, data, err);
    while (done < length) {
        size_t n = end < length ? to_next_block(offset + end, length - end, block) : 0;
        bool is_zero = n > 0 && is_zero_block(b, offset + end, n, data + end);

        if (end > done && (n == 0 || is_zero != zero)) {
            if (zero)
                give_zeroes(b, offset + done, end - done);
            else if (give_data(b, lane, offset + done, end - done, data + done, err) < 0)
                return -1;
            done = end;
        }
        zero = is_zero;
        end += n;
    }
    return 0;
}

int batch_write(struct batch *b, unsigned lane, GError **err)
{
    uint8_t *data = b->buffer;

    for (unsigned i = 0; i < b->n_ranges; i++) {
        const struct plan_range *r = &b->ranges[i];

        if (r->zero) {
            give_zeroes(b, r->offset, r->length);
        } else {
            if (give_range(b, lane, r->offset, r->length, data, err) < 0)
                return -1;
            data += r->length;
        }
    }
    return flush(b, lane, err);
}
