/* SPDX-License-Identifier: BSD-3-Clause */
#include "server/state/journal-file.h"

#include "common/state/folder.h"
#include "server/state/journal-ranges.h"

#include <errno.h>

struct journal_file {
    struct storage *storage;
    struct storage_file *file;
    uint64_t folder;
    uint64_t generation; /* odd: the first half is in use */
    unsigned used;       /* sectors of that half */
    uint32_t snapshot;   /* sectors that its snapshot has */
};

/* A snapshot leaves half of its half to batches. */
#define MAX_SNAPSHOT ((size_t)JOURNAL_SECTORS / 2 * JOURNAL_CAPACITY)

static uint64_t half_offset(const struct journal_file *f)
{
    return f->generation & 1 ? 0 : JOURNAL_HALF;
}

static uint8_t *encode(const struct journal_file *f, const struct journal_entry *entries, size_t n,
                       unsigned sectors)
{
    uint8_t *bytes = g_malloc((size_t)sectors * JOURNAL_SECTOR);

    for (unsigned i = 0; i < sectors; i++) {
        size_t done = (size_t)i * JOURNAL_CAPACITY;
        struct journal_sector s = {
            .folder = f->folder,
            .generation = f->generation,
            .number = f->used + i,
            .batch = f->used,
            .snapshot = f->snapshot,
            .n = (unsigned)MIN(n - done, JOURNAL_CAPACITY),
        };

        journal_sector_encode(bytes + i * JOURNAL_SECTOR, &s, n > 0 ? entries + done : NULL);
    }
    return bytes;
}

bool journal_file_fits(const struct journal_file *f, size_t n)
{
    return n <= ((size_t)JOURNAL_SECTORS - f->used) * JOURNAL_CAPACITY;
}

int journal_file_append(struct journal_file *f, const struct journal_entry *entries, size_t n)
{
    const struct storage_ops *ops = f->storage->ops;
    unsigned sectors = journal_sectors_for(n);
    g_autofree uint8_t *bytes = NULL;
    int r;

    if (!journal_file_fits(f, n) || f->used + sectors > JOURNAL_SECTORS)
        return -ENOSPC;
    bytes = encode(f, entries, n, sectors);
    r = ops->write(f->file, bytes, (size_t)sectors * JOURNAL_SECTOR,
                   half_offset(f) + (uint64_t)f->used * JOURNAL_SECTOR);
    if (r < 0)
        return r;
    f->used += sectors;
    return ops->sync(f->file);
}

int journal_file_turn(struct journal_file *f, GArray *open)
{
    ranges_squeeze(open, MAX_SNAPSHOT);
    f->generation++;
    f->used = 0;
    f->snapshot = journal_sectors_for(open->len);
    return journal_file_append(f, (const struct journal_entry *)(void *)open->data, open->len);
}

/* Write both halves, not only reserve them: then no later sync has to write where blocks are. */
static int write_zeroes(struct journal_file *f)
{
    static uint8_t zeroes[JOURNAL_HALF]; /* never written: it takes no memory */
    const struct storage_ops *ops = f->storage->ops;
    int r = ops->reserve(f->file, 2 * JOURNAL_HALF);

    for (unsigned i = 0; i < 2 && r == 0; i++)
        r = ops->write(f->file, zeroes, JOURNAL_HALF, (uint64_t)i * JOURNAL_HALF);
    return r;
}

static int put_in_place(struct storage *s, const char **doing)
{
    int r = s->ops->rename(s, JOURNAL_NEW_NAME, STATE_INTENT);

    *doing = "cannot put a new journal in place";
    return r < 0 ? r : s->ops->sync_names(s, "");
}

static int fill(struct journal_file *f, GArray *open, const char **doing)
{
    int r = write_zeroes(f);

    *doing = "cannot write a new journal";
    if (r == 0)
        r = journal_file_turn(f, open);
    return r < 0 ? r : put_in_place(f->storage, doing);
}

int journal_file_make(struct storage *s, uint64_t folder, GArray *open, struct journal_file **f,
                      const char **doing)
{
    struct storage_file *file;
    int r = s->ops->unlink(s, JOURNAL_NEW_NAME);

    *doing = "cannot make a new journal";
    if (r < 0 && r != -ENOENT)
        return r;
    r = s->ops->open(s, JOURNAL_NEW_NAME, true, &file);
    if (r < 0)
        return r;
    *f = g_new(struct journal_file, 1);
    **f = (struct journal_file){.storage = s, .file = file, .folder = folder};
    r = fill(*f, open, doing);
    if (r < 0) {
        journal_file_close(*f);
        *f = NULL;
    }
    return r;
}

void journal_file_close(struct journal_file *f)
{
    if (!f)
        return;
    f->storage->ops->close(f->file);
    g_free(f);
}
