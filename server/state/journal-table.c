/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/journal-table.h"

#include <sys/mman.h>

#define PAGE 4096u

int table_init(struct region_table *t)
{
    void *bytes = mmap(NULL, COVER_REGIONS, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (bytes == MAP_FAILED)
        return -1;
    /* A huge page would be 8 TiB of the disk. */
    (void)madvise(bytes, COVER_REGIONS, MADV_NOHUGEPAGE);
    *t = (struct region_table){.bytes = bytes, .logged = g_new0(uint16_t, COVER_REGIONS / PAGE)};
    return 0;
}

void table_destroy(struct region_table *t)
{
    munmap((void *)t->bytes, COVER_REGIONS);
    g_free(t->logged);
    *t = (struct region_table){0};
}

static uint8_t get(const struct region_table *t, uint64_t r)
{
    return atomic_load(&t->bytes[r]);
}

/* The first LOGGED region from r on, or COVER_REGIONS. */
static uint64_t next_logged(const struct region_table *t, uint64_t r)
{
    while (r <= t->highest) {
        if (t->logged[r / PAGE] == 0)
            r = (r / PAGE + 1) * PAGE;
        else if (!(get(t, r) & REGION_LOGGED))
            r++;
        else
            return r;
    }
    return COVER_REGIONS;
}

bool table_is_open(struct region_table *t, uint64_t first, uint64_t last)
{
    for (uint64_t r = first; r <= last; r++) {
        uint8_t byte = get(t, r);

        if (!(byte & (REGION_OPEN | REGION_CLOSING)))
            return false;
    }
    for (uint64_t r = first; r <= last; r++) {
        if (get(t, r) & REGION_CLOSING)
            atomic_fetch_and(&t->bytes[r], (uint8_t)~REGION_CLOSING);
        atomic_fetch_or(&t->bytes[r], REGION_OPEN | REGION_USED);
    }
    return true;
}

uint64_t table_log(struct region_table *t, uint64_t first, uint64_t last)
{
    uint64_t n = 0;

    for (uint64_t r = first; r <= last; r++) {
        uint8_t byte = atomic_fetch_or(&t->bytes[r], REGION_LOGGED | REGION_USED);

        if (byte & REGION_CLOSING)
            atomic_fetch_and(&t->bytes[r], (uint8_t)~REGION_CLOSING);
        if (!(byte & REGION_LOGGED)) {
            t->logged[r / PAGE]++;
            n++;
        }
    }
    t->count += n;
    t->highest = MAX(t->highest, last);
    return n;
}

void table_open(struct region_table *t, uint64_t first, uint64_t last)
{
    for (uint64_t r = first; r <= last; r++) {
        uint8_t byte = get(t, r);

        if (!(byte & REGION_LOGGED))
            continue;
        /* A look may have come to it while its batch was synced. */
        if (byte & REGION_CLOSING)
            atomic_fetch_and(&t->bytes[r], (uint8_t)~REGION_CLOSING);
        atomic_fetch_or(&t->bytes[r], REGION_OPEN);
    }
}

/* OPEN becomes CLOSING, unless the region was used since the last look. False: it was. */
static bool close_open(_Atomic uint8_t *byte, bool all)
{
    uint8_t old = atomic_load(byte);

    do {
        if ((old & REGION_USED) && !all) {
            atomic_fetch_and(byte, (uint8_t)~REGION_USED);
            return false;
        }
    } while (!atomic_compare_exchange_weak(byte, &old, REGION_LOGGED | REGION_CLOSING));
    return true;
}

uint64_t table_look(struct region_table *t, bool all, bool quiet)
{
    uint64_t n = 0;

    for (uint64_t r = next_logged(t, 0); r < COVER_REGIONS; r = next_logged(t, r + 1)) {
        uint8_t byte = get(t, r);

        if (byte & REGION_CLOSING)
            n++;
        else if (byte & REGION_OPEN)
            n += close_open(&t->bytes[r], all);
        else if (quiet) {
            atomic_fetch_or(&t->bytes[r], REGION_CLOSING);
            n++;
        }
    }
    return n;
}

void table_reopen(struct region_table *t)
{
    for (uint64_t r = next_logged(t, 0); r < COVER_REGIONS; r = next_logged(t, r + 1))
        if (get(t, r) & REGION_CLOSING) {
            atomic_fetch_and(&t->bytes[r], (uint8_t)~REGION_CLOSING);
            atomic_fetch_or(&t->bytes[r], REGION_OPEN);
        }
}

static void append(GArray *entries, int64_t disk, uint64_t region, bool open)
{
    struct journal_entry e = {disk, region, 1, open}, *last = NULL;

    /* The last region stands for all that is behind it, too. */
    if (region == COVER_REGIONS - 1)
        e.count = JOURNAL_REGIONS - region;
    if (entries->len > 0)
        last = &g_array_index(entries, struct journal_entry, entries->len - 1);
    if (last && last->disk == disk && last->open == open && last->first + last->count == region)
        last->count += e.count;
    else
        g_array_append_val(entries, e);
}

uint64_t table_take_closing(struct region_table *t, int64_t disk, GArray *entries)
{
    uint64_t n = 0;

    for (uint64_t r = next_logged(t, 0); r < COVER_REGIONS; r = next_logged(t, r + 1))
        if (get(t, r) & REGION_CLOSING) {
            append(entries, disk, r, false);
            atomic_fetch_and(&t->bytes[r], (uint8_t) ~(REGION_LOGGED | REGION_CLOSING));
            t->logged[r / PAGE]--;
            n++;
        }
    t->count -= n;
    return n;
}

void table_append_logged(const struct region_table *t, int64_t disk, GArray *entries)
{
    for (uint64_t r = next_logged(t, 0); r < COVER_REGIONS; r = next_logged(t, r + 1))
        append(entries, disk, r, true);
}
