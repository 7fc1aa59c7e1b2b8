/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Rounding. The disk is made of blocks of `align`. A block is copied if any extent touches it: as
 * zero, if zero extents cover all of it, else as data, and then all of it is read, with what lies
 * between the extents. So a zero range loses its edges to data, and a data range grows. Only the
 * block in which the last extent ended can still change: it is kept `open` until the source has
 * told of all of it.
 *
 * Memory. A window is at most WINDOW_MOST long, and is made shorter where many ranges come out of it;
 * it is asked for when few are left. Ranges that touch and are of one kind become one.
 */
#include "common/copy/planner.h"

#include "common/util/error.h"

#define WINDOW_LEAST (UINT64_C(8) << 20)
#define WINDOW_FIRST (UINT64_C(64) << 20)
#define WINDOW_MOST  (UINT64_C(1) << 30)
/* Ranges in one window: above these it is made shorter, below those longer. */
#define MANY 8192
#define FEW  1024

struct planner {
    struct copy_source *source;
    uint64_t align;

    /* The asker's. */
    uint64_t told; /* the source has told of all below it */
    uint64_t window;
    uint64_t extents_end; /* of the last extent */
    bool open;            /* a block of which not all is known: from open_base... */
    bool open_zero;       /* ...all that is known of it is zero, from its start up to open_upto */
    uint64_t open_base, open_upto;
    GArray *fresh; /* struct plan_range, found and not published */

    /* Under the callers' lock. */
    GArray *queue; /* struct plan_range; those before `head` are taken */
    guint head;
    uint64_t data;     /* bytes of data in the queue */
    uint64_t frontier; /* nothing below it comes any more, but for what is in the queue */
};

struct planner *planner_new(struct copy_source *s, uint32_t align, uint64_t start)
{
    struct planner *p = g_new0(struct planner, 1);

    p->source = s;
    p->align = align;
    p->told = p->frontier = p->extents_end = start;
    p->window = WINDOW_FIRST;
    p->fresh = g_array_new(FALSE, FALSE, sizeof(struct plan_range));
    p->queue = g_array_new(FALSE, FALSE, sizeof(struct plan_range));
    return p;
}

void planner_free(struct planner *p)
{
    if (!p)
        return;
    g_array_free(p->fresh, TRUE);
    g_array_free(p->queue, TRUE);
    g_free(p);
}

/* ---- rounding ---- */

static void append(GArray *ranges, guint first, uint64_t offset, uint64_t length, bool zero)
{
    struct plan_range range = {offset, length, zero};

    if (ranges->len > first) {
        struct plan_range *last = &g_array_index(ranges, struct plan_range, ranges->len - 1);

        if (last->zero == zero && last->offset + last->length == offset) {
            last->length += length;
            return;
        }
    }
    g_array_append_val(ranges, range);
}

static uint64_t block_end(const struct planner *p, uint64_t base)
{
    return MIN(p->source->size - base, p->align) + base;
}

static void close_block(struct planner *p)
{
    uint64_t end = block_end(p, p->open_base);

    append(p->fresh, 0, p->open_base, end - p->open_base, p->open_zero && p->open_upto == end);
    p->open = false;
}

/* [from, to) is in the open block. */
static void add_to_block(struct planner *p, uint64_t from, uint64_t to, bool zero)
{
    p->open_zero = p->open_zero && zero && from == p->open_upto;
    p->open_upto = to;
    if (to == block_end(p, p->open_base))
        close_block(p);
}

static void open_block(struct planner *p, uint64_t base)
{
    p->open = true;
    p->open_zero = true;
    p->open_base = p->open_upto = base;
}

static void add_extent(struct planner *p, uint64_t from, uint64_t to, bool zero)
{
    uint64_t mask = p->align - 1;

    if (p->open && from >= block_end(p, p->open_base))
        close_block(p);
    if (!p->open && (from & mask))
        open_block(p, from & ~mask);
    if (p->open) {
        uint64_t end = MIN(to, block_end(p, p->open_base));

        add_to_block(p, from, end, zero);
        from = end;
    }
    if (from < to) {
        uint64_t whole = to == p->source->size ? to : to & ~mask;

        if (whole > from)
            append(p->fresh, 0, from, whole - from, zero);
        if (to > whole) {
            open_block(p, whole);
            add_to_block(p, whole, to, zero);
        }
    }
}

/* ---- asking ---- */

/* The window that a source tells of. */
struct telling {
    struct planner *p;
    uint64_t end;
};

static int take_extent(void *opaque, const struct copy_extent *e, GError **err)
{
    struct telling *t = opaque;
    struct planner *p = t->p;

    if (e->length == 0 || e->offset < p->extents_end || e->offset > t->end ||
        e->length > t->end - e->offset)
        return fail(err,
                    "The source tells of %" G_GUINT64_FORMAT " bytes at %" G_GUINT64_FORMAT
                    ", which is not what it was asked",
                    e->length, e->offset);
    p->extents_end = e->offset + e->length;
    add_extent(p, e->offset, p->extents_end, e->zero);
    return 0;
}

int planner_ask(struct planner *p, unsigned lane, GError **err)
{
    uint64_t length = MIN(p->window, p->source->size - p->told), end = p->told;
    struct telling t = {p, p->told + length};

    p->extents_end = p->told;
    if (p->source->ops->extents(p->source, lane, p->told, length, take_extent, &t, &end, err) < 0)
        return -1;
    if (end <= p->told || end > t.end || end < p->extents_end)
        return fail(err,
                    "The source was asked for extents at %" G_GUINT64_FORMAT
                    ", and tells up to %" G_GUINT64_FORMAT,
                    p->told, end);
    p->told = end;
    if (p->open && end >= block_end(p, p->open_base))
        close_block(p);
    return 0;
}

void planner_publish(struct planner *p)
{
    if (p->fresh->len > MANY)
        p->window = MAX(p->window / 2, WINDOW_LEAST);
    else if (p->fresh->len < FEW)
        p->window = MIN(p->window * 2, WINDOW_MOST);
    g_array_remove_range(p->queue, 0, p->head);
    p->head = 0;
    for (guint i = 0; i < p->fresh->len; i++) {
        const struct plan_range *r = &g_array_index(p->fresh, struct plan_range, i);

        append(p->queue, 0, r->offset, r->length, r->zero);
        p->data += r->zero ? 0 : r->length;
    }
    g_array_set_size(p->fresh, 0);
    /* The block in which the telling has ended may still come. */
    p->frontier = p->told == p->source->size ? p->told : p->told & ~(p->align - 1);
}

/* ---- taking ---- */

static bool is_empty(const struct planner *p)
{
    return p->head == p->queue->len;
}

bool planner_knows_all(const struct planner *p)
{
    return p->frontier == p->source->size;
}

bool planner_is_low(const struct planner *p, uint64_t bytes)
{
    return !planner_knows_all(p) && p->data < bytes && p->queue->len - p->head < FEW;
}

bool planner_take(struct planner *p, struct batch *b)
{
    while (!is_empty(p)) {
        struct plan_range *r = &g_array_index(p->queue, struct plan_range, p->head);
        uint64_t n = batch_add(b, r);

        if (n == 0)
            break;
        p->data -= r->zero ? 0 : n;
        r->offset += n;
        r->length -= n;
        if (r->length == 0)
            p->head++;
    }
    return b->n_ranges > 0;
}

uint64_t planner_frontier(const struct planner *p)
{
    return is_empty(p) ? p->frontier : g_array_index(p->queue, struct plan_range, p->head).offset;
}
