/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Opening a chain of images. How reading is put together:
 *
 *   q2-file      a file, and the paths that an image may name
 *   q2-header-parse, q2-entry     bytes into values; pure
 *   q2-image     this file: headers and L1 tables of the whole chain, when it is opened
 *   q2-slices, q2-map     L2 tables of one file, in pieces, as they are needed: runs of one kind
 *   q2-reader, q2-extent, q2-read, q2-codec     the chain from top to bottom, and the bytes
 *   q2-check*    all tables and counts of one file
 *
 * What is open does not change: struct q2_image has no locks. All that reading changes (tables, the
 * last run of each file, compressed bytes, contexts) is in a reader, which one thread has.
 *
 * Nothing in a file is believed:
 * - Names are paths and nothing else, and are opened in one place (q2_file_open), which asks the
 *   kernel where the opened file lies, and not the name. Formats are stated, never guessed. A file
 *   is in a chain once, by device and inode.
 * - Memory follows from what a file holds: of an L1 table the pages that are not zero, of L2 tables a
 *   cache of a fixed size, of a check's counts what is used. A frame of zstd cannot ask for a window.
 * - Each entry is decoded by q2-entry, and is looked at once more when it is used: aligned, inside of the file,
 *   without bits that contradict each other. An entry that breaks a rule is an error for who reads
 *   that place, and for nobody else.
 * - A table, or the beginning of a cluster, that lies behind the end of its file is an error, where
 *   QEMU reads zeroes: a backup that was cut must not pass for one with zeroes. Only the last cluster
 *   of a file may be there in part: QEMU leaves such files.
 * - There is no recursion, and no loop without a bound by the sizes of files.
 *
 * Speed: runs are coalesced over entries and tables, and read in one pread into the caller's buffer.
 * Each file of a chain remembers its last run, so that the entries of fifty files are looked at once
 * each while the disk is read from its beginning to its end; absent tables are passed over in one step.
 */
#include "common/qcow2/q2-image.h"

#include "common/base/cursor.h"
#include "common/qcow2/q2-image-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX (2U << 20) /* bytes of the largest cluster */
#define L1_PIECE   65536      /* bytes of an L1 table that are read at once */

/* A chain that is being opened. */
struct opening {
    struct q2_image *top;
    unsigned files;
    enum q2_references references;
    uint64_t size; /* that the first file would have if all of it were there; 0: it is */
    char *folder;  /* that all files must lie in; NULL: any */
    struct q2_error *err;
};

/* The path, and what a function says that does not know it. */
static int fail_in(const struct q2_file *f, const struct q2_error *why, struct q2_error *err)
{
    return q2_fail(err, "Cannot open '%s' as a qcow2 image. %s", f->path, why->text);
}

/* ---- one file ---- */

/* `whole`: bytes of the file if all of it were there; 0: it is. */
static int read_header(struct q2_image *image, uint64_t whole, struct q2_error *err)
{
    uint64_t size = image->file.size;
    size_t length = size < HEADER_MAX ? (size_t)size : HEADER_MAX;
    struct q2_error why;
    uint8_t *bytes = malloc(length + 1);
    int r;

    if (!bytes)
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s'", image->file.path);
    r = q2_file_pread(&image->file, bytes, length, 0, err);
    if (whole)
        image->file.size = whole;
    if (r == 0 && q2_header_parse(bytes, length, image->file.size, &image->header, &why) < 0)
        r = fail_in(&image->file, &why, err);
    free(bytes);
    return r;
}

static void set_geometry(struct q2_image *image)
{
    const struct q2_header *h = &image->header;
    uint64_t span;

    image->geometry = (struct q2_geometry){
        .cluster_bits = h->cluster_bits,
        .zero_flag = h->version >= 3,
        .extended = h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2,
        .data_file = h->incompatible & Q2_INCOMPATIBLE_DATA_FILE,
    };
    /* QEMU serves whole sectors. */
    image->size = h->size & ~UINT64_C(511);
    span = q2_table_span(&image->geometry);
    image->l1_entries = image->size / span + (image->size % span != 0);
    image->over = h->backing[0];
}

/* Words that are 0 are not written, so that a table that is sparse in the file takes no memory. */
static int read_l1(struct q2_image *image, struct q2_error *err)
{
    uint64_t bytes = image->l1_entries * 8;
    uint8_t piece[L1_PIECE];

    image->l1 = calloc(image->l1_entries + 1, 8);
    if (!image->l1)
        return q2_fail_errno(err, ENOMEM, "Cannot open '%s'", image->file.path);
    for (uint64_t at = 0; at < bytes; at += L1_PIECE) {
        size_t length = bytes - at < L1_PIECE ? (size_t)(bytes - at) : L1_PIECE;

        if (q2_file_pread(&image->file, piece, length, image->header.l1_offset + at, err) < 0)
            return -1;
        for (size_t i = 0; i < length; i += 8) {
            uint64_t word = load_be64(piece + i);

            if (word)
                image->l1[(at + i) / 8] = word;
        }
    }
    return 0;
}

/* ---- what it names ---- */

static const char *folder_of_names(const struct opening *o)
{
    return o->references == Q2_REFERENCES_FOLDER ? o->folder : NULL;
}

static int open_named(const struct opening *o, const struct q2_image *by, const char *name,
                      struct q2_file *f)
{
    char *path = q2_file_named(&by->file, name, o->err);
    int r = -1;

    f->fd = -1;
    if (path)
        r = q2_file_open(f, path, folder_of_names(o), o->err);
    free(path);
    return r;
}

/* Whether the chain has this file already, as an image. */
static bool has_file(const struct opening *o, const struct q2_file *f)
{
    for (const struct q2_image *i = o->top; i; i = i->backing)
        if (q2_file_same(&i->file, f))
            return true;
    return false;
}

static int fail_loop(const struct opening *o, const struct q2_image *by, const struct q2_file *f)
{
    return q2_fail(o->err, "'%s' names '%s', which is in the chain already: it is a loop",
                   by->file.path, f->path);
}

static int open_data_file(const struct opening *o, struct q2_image *image)
{
    if (!image->geometry.data_file)
        return 0;
    if (o->references == Q2_REFERENCES_NONE)
        return q2_fail(o->err, "'%s' has its data in another file, and may not name any",
                       image->file.path);
    if (open_named(o, image, image->header.data_file, &image->data) < 0)
        return -1;
    return has_file(o, &image->data) ? fail_loop(o, image, &image->data) : 0;
}

/* *format is set to whether it is raw. */
static int check_format(const struct opening *o, const struct q2_image *image, bool *raw)
{
    const char *format = image->header.backing_format;

    *raw = strcmp(format, "raw") == 0;
    if (*raw || strcmp(format, "qcow2") == 0)
        return 0;
    if (!format[0])
        return q2_fail(o->err,
                       "'%s' does not state the format of its backing file '%s', and guessing it "
                       "is not safe. `qemu-img rebase -u -F FORMAT` states it",
                       image->file.path, image->header.backing);
    return q2_fail(o->err,
                   "The backing file '%s' of '%s' is of the format '%s'; raw and qcow2 are known",
                   image->header.backing, image->file.path, format);
}

static struct q2_image *image_new(struct q2_error *err)
{
    struct q2_image *image = calloc(1, sizeof(*image));

    if (!image) {
        q2_fail_errno(err, ENOMEM, "Cannot open an image");
        return NULL;
    }
    image->file.fd = image->data.fd = -1;
    return image;
}

/* Open the backing file of `over` and hang it there: *next is that file, if it may have another. */
static int open_backing(struct opening *o, struct q2_image *over, struct q2_image **next)
{
    struct q2_image *image;
    struct q2_file file;
    bool raw;

    *next = NULL;
    if (check_format(o, over, &raw) < 0 || open_named(o, over, over->header.backing, &file) < 0)
        return -1;
    image = has_file(o, &file) ? NULL : image_new(o->err);
    if (!image) {
        if (has_file(o, &file))
            fail_loop(o, over, &file);
        q2_file_close(&file);
        return -1;
    }
    image->file = file;
    image->raw = raw;
    image->size = file.size;
    over->backing = image;
    if (++o->files > Q2_CHAIN_MAX)
        return q2_fail(o->err, "The chain of '%s' has more than %d files", o->top->file.path,
                       Q2_CHAIN_MAX);
    *next = raw ? NULL : image;
    return 0;
}

static int open_qcow2(struct opening *o, struct q2_image *image)
{
    if (read_header(image, image == o->top ? o->size : 0, o->err) < 0)
        return -1;
    set_geometry(image);
    return read_l1(image, o->err) < 0 || open_data_file(o, image) < 0 ? -1 : 0;
}

static int open_chain(struct opening *o)
{
    struct q2_image *image = o->top;

    while (image) {
        if (open_qcow2(o, image) < 0)
            return -1;
        if (!image->over || o->references == Q2_REFERENCES_NONE)
            return 0;
        if (open_backing(o, image, &image) < 0)
            return -1;
    }
    return 0;
}

static struct q2_image *open_image(const char *path, struct opening *o)
{
    int r;

    o->top = image_new(o->err);
    if (!o->top)
        return NULL;
    o->files = 1;
    r = q2_file_open(&o->top->file, path, NULL, o->err);
    if (r == 0) {
        o->folder = q2_file_folder(&o->top->file);
        r = o->folder ? open_chain(o) : q2_fail_errno(o->err, ENOMEM, "Cannot open '%s'", path);
    }
    free(o->folder);
    if (r == 0)
        return o->top;
    q2_image_close(o->top);
    return NULL;
}

struct q2_image *q2_image_open(const char *path, enum q2_references references,
                               struct q2_error *err)
{
    return open_image(path, &(struct opening){.references = references, .err = err});
}

struct q2_image *q2_image_open_with(const char *path, const struct q2_open_options *options,
                                    struct q2_error *err)
{
    return q2_image_open(path, options->references, err);
}

struct q2_image *q2_image_open_head(const char *path, uint64_t size, struct q2_error *err)
{
    return open_image(
        path, &(struct opening){.references = Q2_REFERENCES_NONE, .size = size, .err = err});
}

void q2_image_close(struct q2_image *image)
{
    while (image) {
        struct q2_image *below = image->backing;

        q2_file_close(&image->file);
        q2_file_close(&image->data);
        free(image->l1);
        free(image);
        image = below;
    }
}

/* ---- what it is ---- */

uint64_t q2_image_size(const struct q2_image *image)
{
    return image->size;
}

const char *q2_image_path(const struct q2_image *image)
{
    return image->file.path;
}

const struct q2_header *q2_image_header(const struct q2_image *image)
{
    return image->raw ? NULL : &image->header;
}

struct q2_image *q2_image_backing(const struct q2_image *image)
{
    return image->backing;
}
