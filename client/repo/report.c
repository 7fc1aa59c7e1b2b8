/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/report.h"
#include "client/repo/disk-file.h"
#include "common/qcow2/q2-image.h"

#include <string.h>

/* Flags of a dirty bitmap's context: what a file has is what had changed. */
#define CONTEXT "qemu:dirty-bitmap:"
#define DIRTY   1

/* ---- what a file has ---- */

static int add_extents(map *m, struct q2_image *image, struct q2_reader *reader,
                       struct q2_error *why)
{
    uint64_t size = MIN(q2_image_size(image), m->size);
    struct q2_extent e;

    for (uint64_t at = 0; at < size; at += e.length) {
        if (q2_image_extent(reader, at, size - at, 0, &e, why) < 0)
            return -1;
        map_add(m, at, e.length, e.kind == Q2_UNALLOCATED ? 0 : DIRTY);
    }
    if (size < m->size)
        map_add(m, size, m->size - size, 0);
    return 0;
}

static int read_map(map *m, const char *path, struct q2_error *why)
{
    struct q2_image *image = q2_image_open(path, Q2_REFERENCES_NONE, why);
    struct q2_reader *reader = image ? q2_reader_new(image, why) : NULL;
    int result = reader ? add_extents(m, image, reader, why) : -1;

    q2_reader_free(reader);
    q2_image_close(image);
    return result;
}

/* Only files that fit the manifest are opened. */
static void take_heat(const struct repository *r, struct report_row *row, uint64_t size)
{
    g_autofree char *path = repo_path(r, row->disk->file);
    g_autoptr(map) m = map_new(row->disk->disk, CONTEXT, size, REPORT_COLUMNS, 1);
    g_autoptr(GError) error = NULL;
    struct q2_error why = {0};

    if (repo_file_look(r, row->disk, repo_disk_below(r, row->disk), &error) < 0)
        row->why = g_strdup(error->message);
    else if (read_map(m, path, &why) < 0)
        row->why = g_strdup(why.text);
    else
        row->heat = g_steal_pointer(&m);
}

/* ---- rows, disks ---- */

static void row_free(struct report_row *row)
{
    if (row->heat)
        map_free(row->heat);
    g_free(row->why);
    g_free(row);
}

static void disk_free(struct report_disk *d)
{
    g_ptr_array_unref(d->rows);
    g_free(d);
}

static struct report_disk *find_disk(report *p, const char *name)
{
    struct report_disk *d;

    for (guint i = 0; i < p->disks->len; i++) {
        d = p->disks->pdata[i];
        if (strcmp(d->name, name) == 0)
            return d;
    }
    d = g_new0(struct report_disk, 1);
    d->name = name;
    d->rows = g_ptr_array_new_with_free_func((GDestroyNotify)row_free);
    g_ptr_array_add(p->disks, d);
    return d;
}

static void count_verified(report *p, const struct verified *v)
{
    if (!v)
        return;
    p->verified++;
    p->deep += v->deep;
    p->checked = MAX(p->checked, v->time);
}

static void add_row(report *p, const struct repo_member *m, const struct repo_disk *disk)
{
    struct report_disk *d = find_disk(p, disk->disk);
    struct report_row *row = g_new0(struct report_row, 1);

    row->member = m;
    row->disk = disk;
    row->verified = verify_record_get(p->record, m, disk);
    row->status = member_status_word(p->status, disk);
    g_ptr_array_add(d->rows, row);
    d->size = MAX(d->size, disk->size);
    d->bytes += disk->bytes;
    d->read += disk->read;
    p->bytes += disk->bytes;
    p->files++;
    p->bad += strcmp(row->status, "ok") != 0;
    count_verified(p, row->verified);
}

static int by_name(gconstpointer a, gconstpointer b)
{
    const struct report_disk *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

report *report_take(const struct repository *r)
{
    report *p = g_new0(report, 1);

    p->r = r;
    p->disks = g_ptr_array_new_with_free_func((GDestroyNotify)disk_free);
    p->record = verify_record_read(r);
    p->status = member_status_take(r);
    for (guint i = 0; i < r->members->len; i++) {
        const struct repo_member *m = r->members->pdata[i];

        for (guint k = 0; k < m->disks->len; k++)
            add_row(p, m, m->disks->pdata[k]);
    }
    g_ptr_array_sort(p->disks, by_name);
    for (guint i = 0; i < p->disks->len; i++) {
        const struct report_disk *d = p->disks->pdata[i];

        for (guint k = 0; k < d->rows->len; k++)
            take_heat(r, d->rows->pdata[k], d->size);
    }
    return p;
}

void report_free(report *p)
{
    g_ptr_array_unref(p->disks);
    verify_record_free(p->record);
    member_status_free(p->status);
    g_free(p);
}
