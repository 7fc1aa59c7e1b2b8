/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-snapshots.h"

#include "common/base/cursor.h"
#include "common/qcow2/q2-entry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    ENTRY = 40,           /* bytes before its variable part */
    EXTRA_MAX = 1024,     /* bytes of extra data */
    EXTRA_MIN = 16,       /* the same, in version 3 */
    L1_MAX = 32 << 20,    /* bytes of an L1 table */
    TABLE_MAX = 64 << 20, /* bytes of the table of snapshots */
};

/* The table that is being read. */
struct table {
    const struct q2_file *file;
    const struct q2_header *h;
    uint64_t at; /* in the file: of the next entry */
    struct q2_error *err;
};

static int damaged(const struct table *t, const char *why)
{
    return q2_fail(t->err, "'%s' is damaged: its internal snapshot at %llu %s", t->file->path,
                   (unsigned long long)t->at, why);
}

static int no_memory(const struct table *t)
{
    return q2_fail_errno(t->err, ENOMEM, "Cannot read the internal snapshots of '%s'",
                         t->file->path);
}

/* What follows the fixed part: extra data, ID, name. */
struct lengths {
    uint32_t extra;
    uint16_t id, name;
};

static uint64_t sum(const struct lengths *l)
{
    return (uint64_t)l->extra + l->id + l->name;
}

static void take_fixed(struct q2_snapshot *s, struct lengths *l, const uint8_t *e)
{
    s->l1_offset = load_be64(e);
    s->l1_entries = load_be32(e + 8);
    l->id = load_be16(e + 12);
    l->name = load_be16(e + 14);
    s->date_sec = load_be32(e + 16);
    s->date_nsec = load_be32(e + 20);
    s->vm_clock_nsec = load_be64(e + 24);
    s->vm_state_size = load_be32(e + 32);
    l->extra = load_be32(e + 36);
}

/* Version 2 may do without any of it. */
static void take_extra(struct q2_snapshot *s, const struct table *t, const uint8_t *extra,
                       uint32_t length)
{
    if (length >= 8)
        s->vm_state_size = load_be64(extra);
    s->size = length >= 16 ? load_be64(extra + 8) : t->h->size;
    s->icount = length >= 24 ? load_be64(extra + 16) : UINT64_MAX;
}

/* One string, without its NUL in the file; the caller frees it. */
static char *take_name(const struct table *t, const uint8_t *from, uint16_t length)
{
    char *name;

    if (memchr(from, 0, length)) {
        damaged(t, "has a NUL in its name");
        return NULL;
    }
    name = malloc((size_t)length + 1);
    if (!name) {
        no_memory(t);
        return NULL;
    }
    memcpy(name, from, length);
    name[length] = 0;
    return name;
}

static int check_l1(const struct table *t, const struct q2_snapshot *s)
{
    struct q2_geometry g = {.cluster_bits = t->h->cluster_bits,
                            .extended = t->h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2};
    uint64_t span = q2_table_span(&g), bytes = (uint64_t)s->l1_entries * 8;

    if (bytes > L1_MAX)
        return damaged(t, "has an L1 table that is too large");
    if (s->size / span + (s->size % span != 0) > s->l1_entries)
        return damaged(t, "has an L1 table that is too small for its disk");
    if (bytes == 0)
        return 0;
    if (s->l1_offset == 0 || s->l1_offset & ((UINT64_C(1) << g.cluster_bits) - 1))
        return damaged(t, "has an L1 table where none can be");
    if (s->l1_offset > t->file->size || bytes > t->file->size - s->l1_offset)
        return damaged(t, "has an L1 table behind the end of the file");
    return 0;
}

/* `rest`: the variable part, of sum(l) bytes. */
static int take_variable(struct q2_snapshot *s, const struct table *t, const struct lengths *l,
                         const uint8_t *rest)
{
    take_extra(s, t, rest, l->extra);
    s->id = take_name(t, rest + l->extra, l->id);
    if (!s->id)
        return -1;
    s->name = take_name(t, rest + l->extra + l->id, l->name);
    return s->name ? check_l1(t, s) : -1;
}

static int check_lengths(const struct table *t, const struct lengths *l)
{
    uint64_t end = t->at + ENTRY + sum(l);

    if (l->extra > EXTRA_MAX || (t->h->version >= 3 && l->extra < EXTRA_MIN))
        return damaged(t, "has extra data of a length that there cannot be");
    if (end - t->h->snapshots_offset > TABLE_MAX)
        return damaged(t, "lies too far behind the first one");
    return end > t->file->size ? damaged(t, "lies behind the end of the file") : 0;
}

static int read_snapshot(struct q2_snapshot *s, struct table *t)
{
    uint8_t fixed[ENTRY], *rest;
    struct lengths l;
    int r;

    if (t->at > t->file->size || t->file->size - t->at < ENTRY)
        return damaged(t, "lies behind the end of the file");
    if (q2_file_pread(t->file, fixed, ENTRY, t->at, t->err) < 0)
        return -1;
    take_fixed(s, &l, fixed);
    if (check_lengths(t, &l) < 0)
        return -1;
    rest = malloc(sum(&l) + 1);
    if (!rest)
        return no_memory(t);
    r = q2_file_pread(t->file, rest, sum(&l), t->at + ENTRY, t->err);
    if (r == 0)
        r = take_variable(s, t, &l, rest);
    free(rest);
    t->at += (ENTRY + sum(&l) + 7) & ~UINT64_C(7);
    return r;
}

/* Memory grows with what is read, not with what the header says. */
static int make_room(struct q2_snapshots *list, uint32_t *room, const struct table *t)
{
    struct q2_snapshot *more;

    if (list->n < *room)
        return 0;
    *room = *room ? *room * 2 : 8;
    more = realloc(list->at, *room * sizeof(*more));
    if (!more)
        return no_memory(t);
    list->at = more;
    return 0;
}

int q2_snapshots_read(struct q2_snapshots *list, const struct q2_file *file,
                      const struct q2_header *h, struct q2_error *err)
{
    struct table t = {file, h, h->snapshots_offset, err};
    uint32_t room = 0;

    memset(list, 0, sizeof(*list));
    for (uint32_t i = 0; i < h->nb_snapshots; i++) {
        if (make_room(list, &room, &t) < 0)
            return -1;
        memset(&list->at[list->n], 0, sizeof(*list->at));
        if (read_snapshot(&list->at[list->n++], &t) < 0)
            return -1;
    }
    list->bytes = t.at - h->snapshots_offset;
    return 0;
}

void q2_snapshots_clear(struct q2_snapshots *list)
{
    for (uint32_t i = 0; i < list->n; i++) {
        free((char *)list->at[i].id);
        free((char *)list->at[i].name);
    }
    free(list->at);
    memset(list, 0, sizeof(*list));
}

const struct q2_snapshot *q2_snapshots_find(const struct q2_snapshots *list, const char *name)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (strcmp(list->at[i].id, name) == 0)
            return &list->at[i];
    for (uint32_t i = 0; i < list->n; i++)
        if (strcmp(list->at[i].name, name) == 0)
            return &list->at[i];
    return NULL;
}
