/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/qcow2/q2-map.h"

#include "common/base/cursor.h"
#include "common/qcow2/q2-image-private.h"

#include <errno.h>
#include <string.h>

/* Bytes of a slice: a table of 64 KiB maps 512 MiB of a disk with clusters of 64 KiB. */
#define SLICE_MIN 4096
#define SLICE_MAX 65536

/* Slices that are read for the sake of one longer run. */
#define LOADS_MAX 4

/* What one entry says, from a byte of the disk on. */
struct unit {
    struct q2_entry entry; /* its host is that of the byte */
    uint64_t end;          /* of the range that it says it of */
    const char *why;       /* which rule an invalid one breaks */
};

int q2_map_init(struct q2_map *m, const struct q2_image *image, size_t memory, struct q2_error *err)
{
    size_t slice = SLICE_MAX, cluster;

    memset(m, 0, sizeof(*m));
    m->image = image;
    if (image->raw)
        return 0;
    cluster = (size_t)1 << image->geometry.cluster_bits;
    while (slice > SLICE_MIN && slice > memory)
        slice /= 2;
    return q2_slices_init(&m->slices, &image->file, slice < cluster ? slice : cluster, memory, err);
}

void q2_map_clear(struct q2_map *m)
{
    q2_slices_clear(&m->slices);
}

static void invalid(struct unit *u, const char *why)
{
    u->entry.kind = Q2_INVALID;
    u->why = why;
}

/* A place that is not in the file has no data: a file that was cut must not read as zeroes. The last
 * cluster of a file may be there in part. */
static void check_place(const struct q2_image *image, struct unit *u)
{
    const struct q2_file *f = q2_image_data(image);

    if (u->entry.kind == Q2_INVALID)
        u->why = "its entry in the L2 table breaks the rules";
    else if ((u->entry.kind == Q2_DATA || u->entry.kind == Q2_COMPRESSED) &&
             u->entry.host >= f->size)
        invalid(u, "its cluster lies behind the end of the file");
}

/* Take the entry at `at`, in a slice, for the byte `offset` of the disk. */
static void take_entry(const struct q2_image *image, const uint8_t *at, uint64_t offset,
                       struct unit *u)
{
    const struct q2_geometry *g = &image->geometry;
    uint64_t word = load_be64(at), bitmap = g->extended ? load_be64(at + 8) : 0;
    uint64_t cluster = UINT64_C(1) << g->cluster_bits, within = offset & (cluster - 1);
    unsigned bits = q2_unit_bits(g);

    u->entry = q2_entry_l2(g, word, bitmap, (unsigned)(within >> bits));
    if (q2_entry_uniform(g, word, bitmap))
        u->end = offset - within + cluster;
    else
        u->end = ((offset >> bits) + 1) << bits;
    check_place(image, u);
    if (u->entry.kind == Q2_DATA)
        u->entry.host += within;
}

/* Absent tables, from number `index` on, are one range. */
static void take_absent(const struct q2_image *image, uint64_t index, struct unit *u)
{
    const struct q2_geometry *g = &image->geometry;

    do
        index++;
    while (index < image->l1_entries && q2_entry_l1(g, image->l1[index]).kind == Q2_UNALLOCATED);
    u->entry.kind = Q2_UNALLOCATED;
    u->end = index * q2_table_span(g);
}

/* What there is at a byte of the disk. 0, or -1 and *err. */
static int look_up(struct q2_map *m, uint64_t offset, struct unit *u, struct q2_error *err)
{
    const struct q2_image *image = m->image;
    const struct q2_geometry *g = &image->geometry;
    uint64_t index = offset / q2_table_span(g), cluster = UINT64_C(1) << g->cluster_bits;
    struct q2_entry table = q2_entry_l1(g, image->l1[index]);
    size_t at = (size_t)(offset % q2_table_span(g) >> g->cluster_bits) * q2_entry_size(g);
    const uint8_t *entry;

    memset(u, 0, sizeof(*u));
    if (table.kind == Q2_UNALLOCATED) {
        take_absent(image, index, u);
    } else if (table.kind == Q2_INVALID) {
        invalid(u, "its entry in the L1 table breaks the rules");
    } else if (table.host >= image->file.size || cluster > image->file.size - table.host) {
        invalid(u, "its L2 table lies behind the end of the file");
    } else {
        entry = q2_slices_get(&m->slices, table.host + at, err);
        if (!entry)
            return -1;
        take_entry(image, entry, offset, u);
    }
    if (u->end > image->size)
        u->end = image->size;
    return 0;
}

/* The same, and what breaks a rule is an error. */
static int look_up_valid(struct q2_map *m, uint64_t offset, struct unit *u, struct q2_error *err)
{
    if (look_up(m, offset, u, err) < 0)
        return -1;
    if (u->entry.kind == Q2_INVALID)
        return q2_fail_errno(err, EIO, "Cannot read at %llu of the disk in '%s': %s",
                             (unsigned long long)offset, m->image->file.path, u->why);
    return 0;
}

static bool goes_on(const struct q2_run *run, const struct unit *u)
{
    return u->entry.kind == run->kind &&
           (run->kind != Q2_DATA || u->entry.host == run->host + (run->end - run->start));
}

static int find_run(struct q2_map *m, uint64_t offset, uint64_t end, struct q2_run *run,
                    struct q2_error *err)
{
    unsigned loads = m->slices.loads;
    struct unit u;

    if (look_up_valid(m, offset, &u, err) < 0)
        return -1;
    *run = (struct q2_run){offset, u.end, u.entry.kind, u.entry.host};
    /* What cannot be read ends the run, and is told to who asks for it. */
    while (run->end < end && m->slices.loads - loads < LOADS_MAX &&
           look_up(m, run->end, &u, NULL) == 0 && goes_on(run, &u))
        run->end = u.end;
    return 0;
}

static void find_raw_run(struct q2_map *m, uint64_t offset, struct q2_run *run)
{
    bool hole;

    run->start = run->host = offset;
    run->end = q2_file_run(&m->image->file, offset, m->image->size, &hole);
    run->kind = hole ? Q2_ZERO : Q2_DATA;
}

int q2_map_run(struct q2_map *m, uint64_t offset, uint64_t end, struct q2_run *run,
               struct q2_error *err)
{
    struct q2_run *known = &m->run;

    if (offset < known->start || offset >= known->end) {
        known->end = known->start;
        if (m->image->raw)
            find_raw_run(m, offset, known);
        else if (find_run(m, offset, end, known, err) < 0) {
            known->end = known->start = 0;
            return -1;
        }
    }
    *run = *known;
    run->host += offset - run->start;
    run->start = offset;
    if (run->end > end)
        run->end = end;
    return 0;
}

int q2_map_entry(struct q2_map *m, uint64_t offset, struct q2_entry *e, struct q2_error *err)
{
    struct unit u;

    if (look_up_valid(m, offset, &u, err) < 0)
        return -1;
    *e = u.entry;
    return 0;
}
