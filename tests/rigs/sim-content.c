/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-content.h"

#include <string.h>

struct sim_page {
    unsigned refs;
    uint8_t bytes[SIM_PAGE];
};

static const uint8_t zeroes[SIM_PAGE];

static void page_unref(void *opaque)
{
    struct sim_page *p = opaque;

    if (p && !--p->refs)
        g_free(p);
}

void sim_content_init(struct sim_content *c)
{
    c->size = 0;
    c->pages = g_ptr_array_new_with_free_func(page_unref);
}

void sim_content_clear(struct sim_content *c)
{
    g_clear_pointer(&c->pages, g_ptr_array_unref);
}

static void *page_ref(const void *opaque, void *unused)
{
    struct sim_page *p = (struct sim_page *)opaque;

    if (p)
        p->refs++;
    return p;
}

void sim_content_copy(struct sim_content *to, const struct sim_content *from)
{
    to->size = from->size;
    to->pages = g_ptr_array_copy(from->pages, (GCopyFunc)page_ref, NULL);
}

uint64_t sim_content_pages(const struct sim_content *c)
{
    return c->pages->len;
}

static struct sim_page *page_at(const struct sim_content *c, uint64_t page)
{
    return page < c->pages->len ? c->pages->pdata[page] : NULL;
}

const uint8_t *sim_content_page(const struct sim_content *c, uint64_t page)
{
    struct sim_page *p = page_at(c, page);

    return p ? p->bytes : zeroes;
}

bool sim_content_shares(const struct sim_content *a, const struct sim_content *b, uint64_t page)
{
    return page_at(a, page) == page_at(b, page);
}

bool sim_content_same(const struct sim_content *a, const struct sim_content *b)
{
    uint64_t pages = MAX(a->pages->len, b->pages->len);

    for (uint64_t p = 0; p < pages; p++)
        if (!sim_content_shares(a, b, p))
            return false;
    return a->size == b->size;
}

static void set_page(struct sim_content *c, uint64_t page, struct sim_page *p)
{
    if (page >= c->pages->len)
        g_ptr_array_set_size(c->pages, (int)page + 1);
    page_unref(c->pages->pdata[page]);
    c->pages->pdata[page] = p;
}

void sim_content_share(struct sim_content *a, const struct sim_content *b, uint64_t page)
{
    struct sim_page *p = page_at(b, page);

    if (p == page_at(a, page))
        return;
    set_page(a, page, page_ref(p, NULL));
}

static struct sim_page *own_page(struct sim_content *c, uint64_t page)
{
    struct sim_page *old = page_at(c, page), *p;

    if (old && old->refs == 1)
        return old;
    p = g_new(struct sim_page, 1);
    p->refs = 1;
    memcpy(p->bytes, old ? old->bytes : zeroes, SIM_PAGE);
    set_page(c, page, p);
    return p;
}

void sim_content_put(struct sim_content *c, const void *bytes, uint64_t length, uint64_t offset)
{
    const uint8_t *from = bytes;

    while (length) {
        uint64_t page = offset / SIM_PAGE, at = offset % SIM_PAGE;
        uint64_t n = MIN(length, SIM_PAGE - at);

        if (memcmp(sim_content_page(c, page) + at, from, n) != 0)
            memcpy(own_page(c, page)->bytes + at, from, n);
        from += n;
        offset += n;
        length -= n;
    }
}

void sim_content_get(const struct sim_content *c, void *bytes, uint64_t length, uint64_t offset)
{
    uint8_t *to = bytes;

    while (length) {
        uint64_t page = offset / SIM_PAGE, at = offset % SIM_PAGE;
        uint64_t n = MIN(length, SIM_PAGE - at);

        memcpy(to, sim_content_page(c, page) + at, n);
        to += n;
        offset += n;
        length -= n;
    }
}

void sim_content_resize(struct sim_content *c, uint64_t size)
{
    uint64_t pages = (size + SIM_PAGE - 1) / SIM_PAGE;

    if (size < c->size) {
        if (size % SIM_PAGE)
            sim_content_put(c, zeroes, SIM_PAGE - size % SIM_PAGE, size);
        if (pages < c->pages->len)
            g_ptr_array_set_size(c->pages, (int)pages);
    }
    c->size = size;
}
