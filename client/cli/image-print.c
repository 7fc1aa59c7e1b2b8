/* SPDX-License-Identifier: BSD-3-Clause */
/* Fields in JSON have the names of `qemu-img info --output=json`, where it has them. */
#include "client/cli/image-print.h"
#include "client/base/error.h"
#include "client/cli/table.h"
#include "common/base/size.h"
#include "common/json/value.h"
#include "common/qcow2/q2-bitmaps.h"
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-snapshots.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define SECOND UINT64_C(1000000000)

/* A file of the chain, and what its tables list. */
typedef struct listed {
    const struct q2_image *image;
    const char *path; /* as it is shown */
    struct q2_snapshots snapshots;
    struct q2_bitmaps bitmaps;
} listed;

static void listed_clear(struct listed *l)
{
    q2_snapshots_clear(&l->snapshots);
    q2_bitmaps_clear(&l->bitmaps);
}
G_DEFINE_AUTO_CLEANUP_CLEAR_FUNC(listed, listed_clear)

/* A damaged list is told of, and is empty: the rest is still worth knowing. */
static void list_tables(struct listed *l)
{
    const struct q2_header *h = &l->image->header;
    struct q2_error why;

    if (l->image->raw)
        return;
    if (q2_snapshots_read(&l->snapshots, &l->image->file, h, &why) < 0) {
        client_tell(why.text);
        q2_snapshots_clear(&l->snapshots);
    }
    if (q2_bitmaps_read(&l->bitmaps, &l->image->file, h, &why) < 0) {
        client_tell(why.text);
        q2_bitmaps_clear(&l->bitmaps);
    }
}

/* Bytes that the file takes on its file system. */
static uint64_t actual_size(const struct q2_image *image)
{
    struct stat st;

    return fstat(image->file.fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

/* The path of the backing file, as names are relative to the image; "": it is no path. */
static char *full_backing(const struct q2_image *image)
{
    char *path = q2_file_named(&image->file, image->header.backing, NULL);
    char *copy = g_strdup(path ? path : "");

    free(path);
    return copy;
}

/* ---- as JSON ---- */

/* Text of an image may be any bytes, and JSON is UTF-8. */
static void add_text(JsonBuilder *b, const char *name, const char *text)
{
    g_autofree char *valid = g_utf8_make_valid(text, -1);

    json_add_string(b, name, valid);
}

static void add_bitmaps(JsonBuilder *b, const struct listed *l)
{
    if (l->bitmaps.n == 0)
        return;
    json_builder_set_member_name(b, "bitmaps");
    json_builder_begin_array(b);
    for (uint32_t i = 0; i < l->bitmaps.n; i++) {
        const struct q2_bitmap *bitmap = &l->bitmaps.at[i];

        json_builder_begin_object(b);
        json_builder_set_member_name(b, "flags");
        json_builder_begin_array(b);
        if (bitmap->flags & Q2_BITMAP_IN_USE)
            json_builder_add_string_value(b, "in-use");
        if (bitmap->flags & Q2_BITMAP_AUTO)
            json_builder_add_string_value(b, "auto");
        json_builder_end_array(b);
        add_text(b, "name", bitmap->name);
        json_add_size(b, "granularity", UINT64_C(1) << bitmap->granularity_bits);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_snapshots(JsonBuilder *b, const struct listed *l)
{
    if (l->snapshots.n == 0)
        return;
    json_builder_set_member_name(b, "snapshots");
    json_builder_begin_array(b);
    for (uint32_t i = 0; i < l->snapshots.n; i++) {
        const struct q2_snapshot *s = &l->snapshots.at[i];

        json_builder_begin_object(b);
        add_text(b, "id", s->id);
        add_text(b, "name", s->name);
        json_add_size(b, "virtual-size", s->size);
        json_add_size(b, "vm-state-size", s->vm_state_size);
        json_add_size(b, "date-sec", s->date_sec);
        json_add_size(b, "date-nsec", s->date_nsec);
        json_add_size(b, "vm-clock-sec", s->vm_clock_nsec / SECOND);
        json_add_size(b, "vm-clock-nsec", s->vm_clock_nsec % SECOND);
        if (s->icount != UINT64_MAX)
            json_add_size(b, "icount", s->icount);
        json_builder_end_object(b);
    }
    json_builder_end_array(b);
}

static void add_specific(JsonBuilder *b, const struct listed *l)
{
    const struct q2_header *h = &l->image->header;

    json_builder_set_member_name(b, "format-specific");
    json_builder_begin_object(b);
    json_add_string(b, "type", "qcow2");
    json_builder_set_member_name(b, "data");
    json_builder_begin_object(b);
    json_add_string(b, "compat", h->version >= 3 ? "1.1" : "0.10");
    json_add_string(b, "compression-type", h->compression == Q2_ZSTD ? "zstd" : "zlib");
    json_add_size(b, "refcount-bits", UINT64_C(1) << h->refcount_order);
    if (h->version >= 3) {
        json_add_bool(b, "lazy-refcounts", h->compatible & Q2_COMPATIBLE_LAZY_REFCOUNTS);
        json_add_bool(b, "corrupt", h->incompatible & Q2_INCOMPATIBLE_CORRUPT);
        json_add_bool(b, "extended-l2", h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2);
    }
    if (h->data_file[0]) {
        add_text(b, "data-file", h->data_file);
        json_add_bool(b, "data-file-raw", h->autoclear & Q2_AUTOCLEAR_RAW_DATA_FILE);
    }
    add_bitmaps(b, l);
    json_builder_end_object(b);
    json_builder_end_object(b);
}

static void add_qcow2(JsonBuilder *b, const struct listed *l)
{
    const struct q2_header *h = &l->image->header;

    json_add_size(b, "cluster-size", UINT64_C(1) << h->cluster_bits);
    if (h->backing[0]) {
        g_autofree char *full = full_backing(l->image);

        add_text(b, "backing-filename", h->backing);
        if (full[0])
            add_text(b, "full-backing-filename", full);
        if (h->backing_format[0])
            add_text(b, "backing-filename-format", h->backing_format);
    }
    add_snapshots(b, l);
    add_specific(b, l);
}

static void add_file(JsonBuilder *b, const struct listed *l)
{
    json_builder_begin_object(b);
    add_text(b, "filename", l->path);
    json_add_string(b, "format", l->image->raw ? "raw" : "qcow2");
    json_add_size(b, "virtual-size", q2_image_size(l->image));
    json_add_size(b, "actual-size", actual_size(l->image));
    json_add_bool(b, "dirty-flag",
                  !l->image->raw && l->image->header.incompatible & Q2_INCOMPATIBLE_DIRTY);
    if (!l->image->raw)
        add_qcow2(b, l);
    json_builder_end_object(b);
}

/* ---- as text ---- */

static void print_size(struct client *c, const char *what, uint64_t bytes)
{
    char text[16];

    client_print_row(c, what, "%s (%" G_GUINT64_FORMAT " bytes)", size_format(bytes, text), bytes);
}

static void print_state(struct client *c, const struct q2_header *h)
{
    if (h->incompatible & Q2_INCOMPATIBLE_CORRUPT)
        client_print_row(c, "state",
                         "marked as corrupt: it can be read, and `fleecectl image "
                         "check` says more");
    else if (h->incompatible & Q2_INCOMPATIBLE_DIRTY)
        client_print_row(c, "state",
                         "not closed in order: its reference counts have to be "
                         "repaired before it is written");
}

static void print_qcow2(struct client *c, const struct listed *l)
{
    const struct q2_header *h = &l->image->header;
    char cluster[16];

    client_print_row(c, "qcow2", "version %u, clusters of %s, counts of %u bits, %s%s%s",
                     h->version, size_format(UINT64_C(1) << h->cluster_bits, cluster),
                     1U << h->refcount_order, h->compression == Q2_ZSTD ? "zstd" : "zlib",
                     h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2 ? ", subclusters" : "",
                     h->compatible & Q2_COMPATIBLE_LAZY_REFCOUNTS ? ", lazy refcounts" : "");
    if (h->backing[0])
        client_print_row(c, "backing", "%s (%s)", h->backing,
                         h->backing_format[0] ? h->backing_format : "its format is not stated");
    if (h->data_file[0])
        client_print_row(c, "data", "%s%s", h->data_file,
                         h->autoclear & Q2_AUTOCLEAR_RAW_DATA_FILE ? " (raw)" : "");
    print_state(c, h);
}

static void print_snapshots(struct client *c, const struct listed *l)
{
    static const char *const headers[] = {"SNAPSHOT", "NAME", "DATE", ">DISK", ">VM", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (uint32_t i = 0; i < l->snapshots.n; i++) {
        const struct q2_snapshot *s = &l->snapshots.at[i];
        g_autofree char *date = time_text((int64_t)s->date_sec * G_USEC_PER_SEC);

        table_add(t, s->id);
        table_add(t, s->name);
        table_add(t, date);
        table_add_size(t, s->size);
        table_add_size(t, s->vm_state_size);
    }
    if (l->snapshots.n > 0) {
        g_string_append_c(c->out, '\n');
        table_print(t, c->out);
    }
}

static const char *bitmap_state(const struct q2_bitmap *b)
{
    if (b->flags & Q2_BITMAP_IN_USE)
        return "in use: not stored";
    return b->flags & Q2_BITMAP_AUTO ? "recording" : "disabled";
}

static void print_bitmaps(struct client *c, const struct listed *l)
{
    static const char *const headers[] = {"BITMAP", ">GRANULARITY", "STATE", NULL};
    g_autoptr(table) t = table_new(&c->terminal, headers);

    for (uint32_t i = 0; i < l->bitmaps.n; i++) {
        table_add(t, l->bitmaps.at[i].name);
        table_add_size(t, UINT64_C(1) << l->bitmaps.at[i].granularity_bits);
        table_add(t, bitmap_state(&l->bitmaps.at[i]));
    }
    if (l->bitmaps.n > 0) {
        g_string_append_c(c->out, '\n');
        table_print(t, c->out);
    }
}

static void print_file(struct client *c, const struct listed *l)
{
    if (c->out->len > 0)
        g_string_append_c(c->out, '\n');
    client_print_row(c, "file", "%s", l->path);
    client_print_row(c, "format", "%s", l->image->raw ? "raw" : "qcow2");
    print_size(c, "disk", q2_image_size(l->image));
    print_size(c, "on storage", actual_size(l->image));
    if (l->image->raw)
        return;
    print_qcow2(c, l);
    print_snapshots(c, l);
    print_bitmaps(c, l);
}

/* ---- both ---- */

/* Nothing is locked, and with a chain alone other files are looked at. */
static struct q2_image *open_it(const char *path, bool chain, GError **err)
{
    struct q2_open_options o = {.references = Q2_REFERENCES_ANY, .alone = !chain};
    struct q2_error why;
    struct q2_image *image = q2_image_open_with(path, &o, &why);

    if (!image)
        client_fail(err, CLIENT_ERROR_FAILED, "%s", why.text);
    return image;
}

static int print(struct client *c, const char *path, bool chain, JsonBuilder *b, GError **err)
{
    struct q2_image *top = open_it(path, chain, err);

    if (!top)
        return -1;
    for (const struct q2_image *image = top; image; image = q2_image_backing(image)) {
        g_auto(listed) l = {image, image == top ? path : q2_image_path(image), {0}, {0}};

        list_tables(&l);
        if (b)
            add_file(b, &l);
        else
            print_file(c, &l);
    }
    q2_image_close(top);
    return 0;
}

int image_print_json(struct client *c, const char *path, bool chain, GError **err)
{
    g_autoptr(JsonBuilder) b = json_builder_new();

    if (chain)
        json_builder_begin_array(b);
    if (print(c, path, chain, b, err) < 0)
        return -1;
    if (chain)
        json_builder_end_array(b);
    client_print_builder(c, b);
    return 0;
}

int image_print_text(struct client *c, const char *path, bool chain, GError **err)
{
    return print(c, path, chain, NULL, err);
}
