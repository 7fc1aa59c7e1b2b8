/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Our replies keep more than the protocol's rules. All contexts cover the same total, which never
 * exceeds the request (clients exist that advance by one context alone). Neighbours differ. Every
 * extent is a multiple of the minimum block, except where the request ends. When one context cannot
 * be told the whole request fails: "clean" or "zero" is never a guess.
 */
#include "server/nbd/status.h"

#include "common/base/cursor.h"
#include "common/util/log-limit.h"
#include "server/nbd/reply.h"

#include <errno.h>
#include <stdlib.h>

/* Extents of one reply, over all its contexts. */
#define EXTENTS_BUDGET (1u << 19)
/* Calls of a backend for one context of one reply. One that tells 4 KiB at a time would be busy for
 * hours with a request for terabytes; the client asks for the rest. */
#define BACKEND_CALLS 4096u

/* One for all connections: a request does not know which connection it came by. */
static struct log_limit no_memory;

static size_t extents_per_context(const struct negotiated *neg)
{
    return MIN(EXTENTS_MAX, EXTENTS_BUDGET / MAX(neg->contexts.n, 1));
}

size_t status_charge(const struct negotiated *neg)
{
    return neg->contexts.n * extents_per_context(neg) * sizeof(struct extent);
}

static bool is_aligned(const struct extents *e, uint32_t align, bool complete)
{
    uint64_t borders = 0;
    for (size_t i = 0; i < e->count; i++) {
        if (!complete || i + 1 < e->count)
            borders |= e->list[i].length;
    }
    return (borders & (align - 1)) == 0;
}

int status_align(struct extents *e, uint32_t align, bool any, bool complete)
{
    if (is_aligned(e, align, complete))
        return 0;

    struct extents out = EXTENTS_INIT;
    int r = 0;
    uint64_t filled = 0; /* bytes of the unit that is being put together */
    uint32_t flags = 0;

    for (size_t i = 0; i < e->count && r == 0; i++) {
        uint64_t left = e->list[i].length;
        while (left > 0 && r == 0) {
            /* Whole units of one extent at once, else what completes the present unit. */
            uint64_t n =
                filled == 0 && left >= align ? left - left % align : MIN(left, align - filled);
            if (filled == 0)
                flags = e->list[i].flags;
            else
                flags = any ? flags | e->list[i].flags : flags & e->list[i].flags;
            filled += n;
            left -= n;
            if (filled >= align) {
                r = extents_add(&out, filled, flags);
                filled = 0;
            }
        }
    }
    if (r == 0 && filled > 0 && complete)
        r = extents_add(&out, filled, flags);
    extents_free(e);
    *e = out;
    return r;
}

/* Ask for all of the range that fits into the list: a backend may tell only a little at a time. */
static int allocation(const struct negotiated *neg, uint64_t offset, uint64_t length, bool one,
                      struct extents *e)
{
    uint64_t enough = one ? MIN(neg->rules.min_block, length) : length;

    for (unsigned n = 0; e->total < enough && e->count < e->most; n++) {
        if (n >= BACKEND_CALLS && e->total >= neg->rules.min_block)
            return 0;
        uint64_t before = e->total;
        int r = node_extents(neg->io, length - e->total, offset + e->total,
                             one ? BACKEND_REQ_ONE : 0, e);
        if (e->total == before) /* an error, or a backend that would keep us turning for ever */
            return r == -ENOSPC && before > 0 ? 0 : (r < 0 && r != -ENOSPC ? r : -EIO);
        if (r < 0)
            return r == -ENOSPC ? 0 : r;
    }
    return 0;
}

/* One context's extents from r->offset, together at most `length`. */
static int query(const struct negotiated *neg, const struct meta_context *c,
                 const struct request *r, uint64_t length, struct extents *e)
{
    bool one = r->flags & NBD_CMD_FLAG_REQ_ONE;
    /* A bitmap's first extent may be smaller than the minimum block. */
    bool first_is_enough = one && neg->rules.min_block <= BITMAP_MIN_GRANULARITY;

    e->most = extents_per_context(neg);
    int error = c->bitmap ? dirty_bitmap_extents(c->bitmap, length, r->offset, first_is_enough, e)
                          : allocation(neg, r->offset, length, one, e);
    if (error != 0)
        return error;
    extents_truncate(e, length);
    error = status_align(e, neg->rules.min_block, c->bitmap, e->total == length);
    if (error != 0)
        return error;
    if (e->count == 0)
        return -EIO;
    if (one)
        extents_truncate(e, e->list[0].length);
    return 0;
}

/* ---- which contexts ---- */

/* A chunk of a reply. */
struct part {
    const struct meta_context *context;
    struct extents extents;
};

static int compare_ids(const void *a, const void *b)
{
    const struct meta_context *x = a, *y = b;

    return (x->id > y->id) - (x->id < y->id);
}

static const struct meta_context *find_context(const struct negotiated *neg, uint32_t id)
{
    const struct meta_context key = {.id = id};

    return bsearch(&key, neg->contexts.list, neg->contexts.n, sizeof key, compare_ids);
}

/* How many contexts a request is about: all of the client's, or those that its payload names. */
static unsigned count_parts(const struct negotiated *neg, const struct request *r)
{
    return r->payload == 0 ? neg->contexts.n
                           : (unsigned)((r->payload - STATUS_FILTER_HEAD) / STATUS_FILTER_ID);
}

/* The i-th of them; NULL: the client has not selected it. */
static const struct meta_context *context_at(const struct negotiated *neg, const struct request *r,
                                             const uint8_t *payload, unsigned i)
{
    if (r->payload == 0)
        return &neg->contexts.list[i];
    return find_context(neg, load_be32(payload + STATUS_FILTER_HEAD + i * STATUS_FILTER_ID));
}

/* What is wrong with the contexts that a payload names: NBD_E*. */
static uint32_t check_contexts(const struct negotiated *neg, const struct request *r,
                               const uint8_t *payload, const char **why)
{
    g_autofree bool *named = g_try_new0(bool, MAX(neg->contexts.n, 1));

    if (!named) {
        *why = "out of memory";
        return NBD_ENOMEM;
    }
    for (unsigned i = 0; i < count_parts(neg, r); i++) {
        const struct meta_context *context = context_at(neg, r, payload, i);
        if (!context || named[context - neg->contexts.list]) {
            *why = "a metadata context was not negotiated, or is named twice";
            return NBD_EINVAL;
        }
        named[context - neg->contexts.list] = true;
    }
    return 0;
}

uint32_t status_filter(const struct negotiated *neg, struct request *r, const uint8_t *payload,
                       const char **why)
{
    uint32_t error = check_contexts(neg, r, payload, why);
    if (error != 0)
        return error;
    r->length = load_be64(payload);
    return request_check_range(r, &neg->rules, why);
}

/* ---- the reply ---- */

/* Every context's list, all cut to the shortest. */
static int query_all(const struct negotiated *neg, const struct request *r, const uint8_t *payload,
                     struct part *parts, unsigned n)
{
    uint64_t total = r->length;

    for (unsigned i = 0; i < n; i++) {
        parts[i].context = context_at(neg, r, payload, i);
        int error = query(neg, parts[i].context, r, total, &parts[i].extents);
        if (error != 0)
            return error;
        total = parts[i].extents.total;
    }
    for (unsigned i = 0; i < n; i++)
        extents_truncate(&parts[i].extents, total);
    return 0;
}

static size_t descriptor_size(const struct negotiated *neg)
{
    return neg->rules.extended ? 16 : 8;
}

static void put_extents(const struct negotiated *neg, struct reply_buffer *b,
                        const struct extent *list, size_t n)
{
    size_t size = descriptor_size(neg);
    uint8_t *p = reply_buffer_reserve(b, n * size);

    for (size_t i = 0; i < n; i++, p += size) {
        if (neg->rules.extended) {
            store_be64(p, list[i].length);
            store_be64(p + 8, list[i].flags);
        } else {
            store_be32(p, (uint32_t)list[i].length);
            store_be32(p + 4, list[i].flags);
        }
    }
    reply_buffer_commit(b, n * size);
}

/* The header of a context's chunk, which `count` descriptors follow. */
static void put_head(const struct negotiated *neg, struct reply_buffer *b, const struct request *r,
                     uint32_t id, size_t count, bool done)
{
    size_t header = reply_chunk_header_size(neg), rest = neg->rules.extended ? 8 : 4;
    uint16_t type =
        neg->rules.extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS;
    uint8_t *p = reply_buffer_reserve(b, header + rest);

    reply_chunk_header(p, neg, r, done ? NBD_REPLY_FLAG_DONE : 0, type,
                       (uint32_t)(rest + count * descriptor_size(neg)));
    store_be32(p + header, id);
    if (neg->rules.extended)
        store_be32(p + header + 4, (uint32_t)count);
    reply_buffer_commit(b, header + rest);
}

static void put_context(const struct negotiated *neg, struct reply_buffer *b,
                        const struct request *r, uint32_t id, const struct extents *e, bool done)
{
    const size_t slice = 2048;
    size_t whole = reply_chunk_header_size(neg) + 8 + e->count * descriptor_size(neg);
    bool hold = whole > b->size;

    if (hold)
        reply_buffer_hold(b);
    else
        reply_buffer_reserve(b, whole);
    put_head(neg, b, r, id, e->count, done);
    for (size_t i = 0; i < e->count; i += slice)
        put_extents(neg, b, e->list + i, MIN(slice, e->count - i));
    if (hold)
        reply_buffer_release(b);
}

void status_execute(const struct negotiated *neg, struct reply_buffer *b, const struct request *r,
                    const uint8_t *payload)
{
    unsigned n = count_parts(neg, r);
    g_autofree struct part *parts = g_try_new0(struct part, n);

    int error = !parts ? -ENOMEM : query_all(neg, r, payload, parts, n);
    if (error != 0) {
        if (error == -ENOMEM)
            log_error_limited(&no_memory, "BLOCK_STATUS: no memory for a list of extents");
        reply_error(b, neg, r, request_error(r, error), NULL);
    } else {
        for (unsigned i = 0; i < n; i++)
            put_context(neg, b, r, parts[i].context->id, &parts[i].extents, i + 1 == n);
    }
    for (unsigned i = 0; parts && i < n; i++)
        extents_free(&parts[i].extents);
}
