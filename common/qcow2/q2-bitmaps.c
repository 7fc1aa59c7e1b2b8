/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-bitmaps.h"

#include "common/base/cursor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENTRY = 24,            /* bytes before its variable part */
    TYPE_DIRTY = 1,        /* the only type there is */
    NAME_MAX_BYTES = 1023, /* QEMU's limits, which are tighter than the format's */
    GRANULARITY_MIN = 9,
    GRANULARITY_MAX = 31,
    FLAGS = 7,            /* those that have a meaning: the third is about extra data */
    TABLE_MAX = 64 << 20, /* entries of a table: 512 MiB of bits in clusters of 8 bytes and more */
};

/* The directory that is being read. */
struct directory {
    const struct q2_file *file;
    const struct q2_header *h;
    uint64_t at, end; /* in the file */
    struct q2_error *err;
};

static int damaged(const struct directory *d, const char *why)
{
    return q2_fail(d->err, "'%s' is damaged: the bitmap at %llu of its directory %s", d->file->path,
                   (unsigned long long)d->at, why);
}

static int no_memory(const struct directory *d)
{
    return q2_fail_errno(d->err, ENOMEM, "Cannot read the bitmaps of '%s'", d->file->path);
}

static int check_table(const struct directory *d, const struct q2_bitmap *b)
{
    uint64_t mask = (UINT64_C(1) << d->h->cluster_bits) - 1;

    if (b->table_offset == 0 || b->table_offset & mask || b->table_offset >= d->file->size)
        return damaged(d, "has its table where none can be");
    if (b->table_entries == 0 || b->table_entries > TABLE_MAX)
        return damaged(d, "has a table of a length that there cannot be");
    return 0;
}

static int take_fixed(struct q2_bitmap *b, const struct directory *d, const uint8_t *e)
{
    b->table_offset = load_be64(e);
    b->table_entries = load_be32(e + 8);
    b->flags = load_be32(e + 12);
    b->granularity_bits = e[17];
    if (e[16] != TYPE_DIRTY)
        return damaged(d, "is of a type that is not known");
    if (b->flags & ~(uint32_t)FLAGS)
        return damaged(d, "has flags that are not known");
    if (b->granularity_bits < GRANULARITY_MIN || b->granularity_bits > GRANULARITY_MAX)
        return damaged(d, "has a granularity that there cannot be");
    return check_table(d, b);
}

/* Its name is behind its extra data, of which nothing is known. */
static int take_name(struct q2_bitmap *b, const struct directory *d, uint64_t at, uint16_t length)
{
    char name[NAME_MAX_BYTES + 1];

    if (length == 0 || length > NAME_MAX_BYTES)
        return damaged(d, "has a name of a length that there cannot be");
    if (q2_file_pread(d->file, name, length, at, d->err) < 0)
        return -1;
    if (memchr(name, 0, length))
        return damaged(d, "has a NUL in its name");
    name[length] = 0;
    b->name = strdup(name);
    return b->name ? 0 : no_memory(d);
}

static int read_bitmap(struct q2_bitmap *b, struct directory *d)
{
    uint8_t fixed[ENTRY];
    uint64_t length, extra;

    if (d->end - d->at < ENTRY)
        return damaged(d, "lies behind its end");
    if (q2_file_pread(d->file, fixed, ENTRY, d->at, d->err) < 0)
        return -1;
    extra = load_be32(fixed + 20);
    length = (ENTRY + extra + load_be16(fixed + 18) + 7) & ~UINT64_C(7);
    if (length > d->end - d->at)
        return damaged(d, "lies behind its end");
    if (take_fixed(b, d, fixed) < 0 ||
        take_name(b, d, d->at + ENTRY + extra, load_be16(fixed + 18)) < 0)
        return -1;
    d->at += length;
    return 0;
}

int q2_bitmaps_read(struct q2_bitmaps *list, const struct q2_file *file, const struct q2_header *h,
                    struct q2_error *err)
{
    struct directory d = {file, h, h->bitmap_directory_offset,
                          h->bitmap_directory_offset + h->bitmap_directory_size, err};

    memset(list, 0, sizeof(*list));
    if (h->nb_bitmaps == 0)
        return 0;
    /* As many as q2_header_parse lets through: 2 MiB. */
    list->at = calloc(h->nb_bitmaps, sizeof(*list->at));
    if (!list->at)
        return no_memory(&d);
    while (list->n < h->nb_bitmaps)
        if (read_bitmap(&list->at[list->n++], &d) < 0)
            return -1;
    return d.at == d.end ? 0 : damaged(&d, "is one more than the header says");
}

void q2_bitmaps_clear(struct q2_bitmaps *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        free((char *)list->at[i].name);
    free(list->at);
    memset(list, 0, sizeof(*list));
}
