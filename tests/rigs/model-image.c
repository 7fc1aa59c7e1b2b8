/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/model.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PLAN_LENGTH 30u

/* splitmix64 */
uint64_t noise_next(struct noise *n)
{
    uint64_t z = n->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

struct model_disk *model_random_disk(struct model *m, struct noise *n)
{
    unsigned last = m->n_disks - 1;

    return &m->disks[noise_once_in(n, 3) ? last : noise_below(n, last)];
}

struct image *image_new(uint64_t size, uint64_t room)
{
    struct image *i = g_new0(struct image, 1);

    i->size = size;
    i->room = room;
    i->data = g_malloc0(room);
    i->written = g_new0(bool, room / FAKE_SECTOR + 1);
    return i;
}

struct image *image_copy(const struct image *from)
{
    struct image *i = image_new(from->size, from->size);

    memcpy(i->data, from->data, from->size);
    memcpy(i->written, from->written, from->size / FAKE_SECTOR + 1);
    return i;
}

void image_free(struct image *i)
{
    if (!i)
        return;
    g_free(i->data);
    g_free(i->written);
    g_free(i);
}

/* Each word says which request wrote it and where. Never zero. */
void op_fill(char *buf, const struct op *op)
{
    for (uint64_t at = op->offset, end = at + op->length; at < end;) {
        uint64_t word = op->stamp ^ (at / 8 * UINT64_C(0x0101010101)), skip = at % 8;
        uint64_t n = MIN(8 - skip, end - at);

        for (uint64_t i = 0; i < n; i++)
            buf[i] = (char)((word >> (8 * (skip + i))) | 1);
        buf += n;
        at += n;
    }
}

bool op_reach(const struct op *op, uint64_t *from, uint64_t *to, uint64_t *inner,
              uint64_t *inner_end)
{
    uint64_t mask = op->block - 1, end = op->offset + op->length;

    *from = op->offset & ~mask;
    *to = (end + mask) & ~mask;
    *inner = (op->offset + mask) & ~mask;
    *inner_end = MAX(*inner, end & ~mask);
    if (op->kind != OP_TRIM)
        return true;
    *from = *inner; /* only what is whole */
    *to = *inner_end;
    return *from < *to;
}

/* As the fake backend does it: a sector becomes a hole only as a whole. */
static void note_written(struct image *i, uint64_t at, uint64_t end, bool written)
{
    for (uint64_t n; at < end; at += n) {
        n = MIN(end - at, FAKE_SECTOR - at % FAKE_SECTOR);
        if (written || n == FAKE_SECTOR)
            i->written[at / FAKE_SECTOR] = written;
    }
}

void image_apply(struct image *i, const struct op *op)
{
    bool written = op->kind != OP_ZERO_HOLE && op->kind != OP_TRIM;
    uint64_t from, to, inner, inner_end;

    if (!op_reach(op, &from, &to, &inner, &inner_end))
        return;
    if (op->kind == OP_WRITE)
        op_fill(i->data + op->offset, op);
    else if (op->kind == OP_TRIM)
        memset(i->data + from, 0, to - from);
    else
        memset(i->data + op->offset, 0, op->length);
    note_written(i, from, inner, true);
    note_written(i, inner, inner_end, written);
    note_written(i, inner_end, to, true);
}

void image_grow(struct image *i, uint64_t size)
{
    g_assert(size >= i->size && size <= i->room);
    i->size = size;
}

bool image_is_zero(const struct image *i, uint64_t offset, uint64_t length)
{
    const char *p = i->data + offset;

    length = MIN(length, i->size - offset);
    return length == 0 || (p[0] == 0 && memcmp(p, p + 1, length - 1) == 0);
}

bool image_is_hole(const struct image *i, uint64_t offset, uint64_t length)
{
    uint64_t end = MIN(offset + length, i->size);

    for (uint64_t s = offset / FAKE_SECTOR; s * FAKE_SECTOR < end; s++)
        if (i->written[s])
            return false;
    return true;
}

/* ---- when it goes wrong ---- */

static const char *const kinds[] = {"write", "write of zeroes", "zero", "zero to hole", "trim"};

/* The last requests of each guest that came near `offset`. */
static void print_history(struct model_disk *d, uint64_t offset)
{
    uint64_t unit = d->disk->unit, from = offset / unit * unit, to = from + unit;

    for (unsigned g = 0; g < GUESTS; g++) {
        struct op_log *log = d->logs[g];
        uint32_t begun = atomic_load(&log->begun), acked = atomic_load(&log->acked);
        uint32_t oldest = begun > LOG_SIZE ? begun - LOG_SIZE : 0, shown = 0;

        for (uint32_t n = begun; n > oldest && shown < 12; n--) {
            const struct op *op = &log->ops[(n - 1) % LOG_SIZE];

            if (op->offset >= to || op->offset + op->length <= from)
                continue;
            fprintf(stderr,
                    "# guest %u request %u: %s [%" PRIu64 ", +%u) stamp %016" PRIx64 "%s%s\n", g,
                    n - 1, kinds[op->kind], op->offset, op->length, op->stamp,
                    n > acked   ? ", under way"
                    : op->error ? ", failed"
                                : "",
                    op->marked ? ", marked" : "");
            shown++;
        }
        fprintf(stderr, "# guest %u: cut %u entered %u acked %u begun %u\n", g, d->cut[g],
                atomic_load(&log->entered), acked, begun);
    }
}

void model_plan(struct model *m, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    g_queue_push_tail(&m->plan, g_strdup_vprintf(format, args));
    va_end(args);
    if (m->plan.length > PLAN_LENGTH)
        g_free(g_queue_pop_head(&m->plan));
}

void model_fail(struct model *m, struct model_disk *d, uint64_t offset, const char *format, ...)
{
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    fprintf(stderr, "# FLEECE_SEED=%" PRIu64 ": after %u instants: %s\n", m->seed, m->instants,
            text);
    for (GList *l = m->plan.head; l; l = l->next)
        fprintf(stderr, "# %s\n", (char *)l->data);
    if (d)
        print_history(d, offset);
    printf("Bail out! %s\n", text);
    fflush(NULL);
    abort();
}
