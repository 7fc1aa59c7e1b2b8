/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/sim-inode.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* More of them are not remembered. */
#define MOST_HISTORY 512u

struct sim_was {
    uint64_t sector;
    uint8_t bytes[SIM_SECTOR];
};

struct sim_inode *sim_inode_new(void)
{
    struct sim_inode *i = g_new0(struct sim_inode, 1);

    i->refs = 1;
    i->fd = -1;
    sim_content_init(&i->seen);
    sim_content_init(&i->believed);
    sim_content_init(&i->medium);
    i->history = g_array_new(FALSE, FALSE, sizeof(struct sim_was));
    return i;
}

struct sim_inode *sim_inode_ref(struct sim_inode *i)
{
    i->refs++;
    return i;
}

static void clear_contents(struct sim_inode *i)
{
    sim_content_clear(&i->seen);
    sim_content_clear(&i->believed);
    sim_content_clear(&i->medium);
}

void sim_inode_unref(struct sim_inode *i)
{
    if (--i->refs)
        return;
    if (i->memory)
        munmap(i->memory, i->mapped);
    if (i->fd >= 0)
        close(i->fd);
    clear_contents(i);
    g_array_unref(i->history);
    g_free(i);
}

void sim_inode_look(struct sim_inode *i)
{
    off_t end = (off_t)i->mapped, at = 0;

    if (i->fd < 0)
        return;
    while (at < end && (at = lseek(i->fd, at, SEEK_DATA)) >= 0) {
        off_t hole = MIN(lseek(i->fd, at, SEEK_HOLE), end);

        if (at < hole)
            sim_content_put(&i->seen, i->memory + at, (uint64_t)(hole - at), (uint64_t)at);
        at = hole;
    }
}

struct sim_inode *sim_inode_copy(struct sim_inode *i)
{
    struct sim_inode *copy = g_new0(struct sim_inode, 1);

    sim_inode_look(i);
    copy->refs = 1;
    copy->fd = -1;
    sim_content_copy(&copy->seen, &i->seen);
    sim_content_copy(&copy->believed, &i->believed);
    sim_content_copy(&copy->medium, &i->medium);
    copy->history = g_array_copy(i->history);
    return copy;
}

bool sim_inode_same(const struct sim_inode *a, const struct sim_inode *b)
{
    return sim_content_same(&a->seen, &b->seen) && sim_content_same(&a->believed, &b->believed) &&
           sim_content_same(&a->medium, &b->medium) && a->history->len == b->history->len &&
           (!a->history->len || memcmp(a->history->data, b->history->data,
                                       a->history->len * sizeof(struct sim_was)) == 0);
}

bool sim_inode_looks_same(const struct sim_inode *a, const struct sim_inode *b)
{
    return sim_content_same(&a->seen, &b->seen);
}

/* ---- what is on the medium ---- */

static uint64_t most_pages(struct sim_inode *i)
{
    return MAX(sim_content_pages(&i->seen), sim_content_pages(&i->believed));
}

/* Call `fn` for each sector in which the kernel has something to write. */
static void each_dirty(struct sim_inode *i, void (*fn)(struct sim_inode *, uint64_t, void *),
                       void *opaque)
{
    for (uint64_t p = 0; p < most_pages(i); p++) {
        const uint8_t *now, *before;

        if (sim_content_shares(&i->seen, &i->believed, p))
            continue;
        now = sim_content_page(&i->seen, p);
        before = sim_content_page(&i->believed, p);
        for (unsigned at = 0; at < SIM_PAGE; at += SIM_SECTOR)
            if (memcmp(now + at, before + at, SIM_SECTOR) != 0)
                fn(i, (p * SIM_PAGE + at) / SIM_SECTOR, opaque);
    }
}

static void write_sector(struct sim_inode *i, uint64_t sector, void *unused)
{
    uint8_t bytes[SIM_SECTOR];

    sim_content_get(&i->seen, bytes, SIM_SECTOR, sector * SIM_SECTOR);
    sim_content_put(&i->medium, bytes, SIM_SECTOR, sector * SIM_SECTOR);
}

static void believe(struct sim_inode *i)
{
    for (uint64_t p = 0; p < most_pages(i); p++)
        sim_content_share(&i->believed, &i->seen, p);
    sim_content_resize(&i->believed, i->seen.size);
    g_array_set_size(i->history, 0);
}

/* Pages that are the same on the medium take no memory and no time. */
static void share_equal(struct sim_inode *i)
{
    for (uint64_t p = 0; p < most_pages(i); p++)
        if (!sim_content_shares(&i->medium, &i->believed, p) &&
            memcmp(sim_content_page(&i->medium, p), sim_content_page(&i->believed, p), SIM_PAGE) ==
                0)
            sim_content_share(&i->medium, &i->believed, p);
}

void sim_inode_sync(struct sim_inode *i)
{
    sim_inode_look(i);
    each_dirty(i, write_sector, NULL);
    sim_content_resize(&i->medium, i->seen.size);
    believe(i);
    share_equal(i);
}

static void write_perhaps(struct sim_inode *i, uint64_t sector, void *rand)
{
    if (g_rand_boolean(rand))
        write_sector(i, sector, NULL);
}

void sim_inode_sync_badly(struct sim_inode *i, GRand *rand)
{
    sim_inode_look(i);
    each_dirty(i, write_perhaps, rand);
    believe(i);
}

static void count_sector(struct sim_inode *i, uint64_t sector, void *count)
{
    ++*(unsigned *)count;
}

unsigned sim_inode_unsure(struct sim_inode *i)
{
    unsigned count = i->seen.size != i->believed.size;

    sim_inode_look(i);
    each_dirty(i, count_sector, &count);
    return count;
}

/* ---- power loss ---- */

struct loss {
    struct sim_inode *after;
    GRand *rand;
    double kept; /* how likely it is that a sector was written */
};

/* What the sector was at some moment since the last sync. NULL: nothing else is known. */
static const uint8_t *was_once(struct sim_inode *i, uint64_t sector, GRand *rand)
{
    const uint8_t *found = NULL;
    unsigned n = 0;

    for (unsigned k = 0; k < i->history->len; k++) {
        struct sim_was *was = &g_array_index(i->history, struct sim_was, k);

        if (was->sector == sector && g_rand_int_range(rand, 0, (int)++n) == 0)
            found = was->bytes;
    }
    return found;
}

static void lose_sector(struct sim_inode *i, uint64_t sector, void *opaque)
{
    struct loss *l = opaque;
    uint8_t bytes[SIM_SECTOR];
    const uint8_t *was;

    /* A file that was cut has its old sectors, or its new size. */
    if (sector * SIM_SECTOR >= i->seen.size || g_rand_double(l->rand) >= l->kept)
        return;
    was = g_rand_int_range(l->rand, 0, 4) == 0 ? was_once(i, sector, l->rand) : NULL;
    if (!was)
        sim_content_get(&i->seen, bytes, SIM_SECTOR, sector * SIM_SECTOR);
    sim_content_put(&l->after->seen, was ? was : bytes, SIM_SECTOR, sector * SIM_SECTOR);
}

struct sim_inode *sim_inode_lose_power(struct sim_inode *i, GRand *rand)
{
    static const double kept[] = {0, 0.1, 0.5, 0.5, 0.9, 1};
    struct loss l = {g_new0(struct sim_inode, 1), rand,
                     kept[g_rand_int_range(rand, 0, G_N_ELEMENTS(kept))]};

    sim_inode_look(i);
    l.after->refs = 1;
    l.after->fd = -1;
    sim_content_copy(&l.after->seen, &i->medium);
    each_dirty(i, lose_sector, &l);
    if (i->seen.size != i->believed.size && g_rand_double(rand) < l.kept)
        sim_content_resize(&l.after->seen, i->seen.size);
    sim_content_resize(&l.after->seen, l.after->seen.size);
    sim_content_copy(&l.after->believed, &l.after->seen);
    sim_content_copy(&l.after->medium, &l.after->seen);
    l.after->history = g_array_new(FALSE, FALSE, sizeof(struct sim_was));
    return l.after;
}

/* ---- reading and writing ---- */

/* Remember a sector as it is now, if the kernel may have written it so. */
static void remember(struct sim_inode *i, uint64_t sector)
{
    struct sim_was was = {.sector = sector};
    uint8_t before[SIM_SECTOR];

    sim_content_get(&i->seen, was.bytes, SIM_SECTOR, sector * SIM_SECTOR);
    sim_content_get(&i->believed, before, SIM_SECTOR, sector * SIM_SECTOR);
    if (memcmp(was.bytes, before, SIM_SECTOR) != 0 && i->history->len < MOST_HISTORY)
        g_array_append_val(i->history, was);
}

static void remember_all(struct sim_inode *i, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;

    while (offset < end) {
        uint64_t page = offset / SIM_PAGE, next = MIN((page + 1) * SIM_PAGE, end);

        if (!sim_content_shares(&i->seen, &i->believed, page))
            for (uint64_t s = offset / SIM_SECTOR; s * SIM_SECTOR < next; s++)
                remember(i, s);
        offset = next;
    }
}

/* What is written is going to be written to the medium, also where a sync that failed has left the
 * same bytes in memory. */
static void soil(struct sim_inode *i, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;

    for (uint64_t s = offset / SIM_SECTOR; s * SIM_SECTOR < end; s++) {
        uint64_t page = s * SIM_SECTOR / SIM_PAGE;
        uint8_t bytes[SIM_SECTOR];

        if (sim_content_shares(&i->believed, &i->medium, page))
            continue;
        sim_content_get(&i->medium, bytes, SIM_SECTOR, s * SIM_SECTOR);
        sim_content_put(&i->believed, bytes, SIM_SECTOR, s * SIM_SECTOR);
    }
}

void sim_inode_read(struct sim_inode *i, void *bytes, uint64_t length, uint64_t offset)
{
    if (i->fd >= 0)
        memcpy(bytes, i->memory + offset, length);
    else
        sim_content_get(&i->seen, bytes, length, offset);
}

void sim_inode_write(struct sim_inode *i, const void *bytes, uint64_t length, uint64_t offset)
{
    if (offset + length > i->seen.size)
        sim_inode_resize(i, offset + length);
    sim_inode_look(i);
    remember_all(i, offset, length);
    sim_content_put(&i->seen, bytes, length, offset);
    soil(i, offset, length);
    if (i->fd >= 0)
        memcpy(i->memory + offset, bytes, length);
}

static void unmap_memory(struct sim_inode *i)
{
    if (i->memory)
        munmap(i->memory, i->mapped);
    i->memory = NULL;
}

static int map_memory(struct sim_inode *i)
{
    size_t length = (i->seen.size + SIM_PAGE - 1) & ~(size_t)(SIM_PAGE - 1);

    unmap_memory(i);
    if (ftruncate(i->fd, (off_t)length) < 0)
        return -errno;
    i->mapped = length;
    i->memory = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED, i->fd, 0);
    return i->memory == MAP_FAILED ? -errno : 0;
}

void sim_inode_resize(struct sim_inode *i, uint64_t size)
{
    sim_inode_look(i);
    sim_content_resize(&i->seen, size);
    if (i->fd >= 0)
        g_assert_cmpint(map_memory(i), ==, 0);
}

static void fill_memory(struct sim_inode *i)
{
    static const uint8_t zeroes[SIM_PAGE];

    for (uint64_t p = 0; p < sim_content_pages(&i->seen); p++) {
        const uint8_t *bytes = sim_content_page(&i->seen, p);

        if (memcmp(bytes, zeroes, SIM_PAGE) != 0)
            memcpy(i->memory + p * SIM_PAGE, bytes, SIM_PAGE);
    }
}

int sim_inode_map(struct sim_inode *i, uint64_t offset, size_t length, void *at, void **mapped)
{
    int fixed = at ? MAP_FIXED : 0, error;

    if (i->fd < 0) {
        i->fd = memfd_create("sim", MFD_CLOEXEC);
        if (i->fd < 0)
            return -errno;
        error = map_memory(i);
        if (error < 0)
            return error;
        fill_memory(i);
    }
    *mapped = mmap(at, length, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, i->fd, (off_t)offset);
    return *mapped == MAP_FAILED ? -errno : 0;
}
