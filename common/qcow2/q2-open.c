/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening a chain of images: which files, in which order, and what may be wrong with them. What is believed, and
 * what is not: q2-image.c. */
#include "common/base/cursor.h"
#include "common/qcow2/q2-image-private.h"
#include "common/qcow2/q2-snapshots.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HEADER_MAX (2U << 20) /* bytes of the largest cluster */
#define L1_PIECE   65536      /* bytes of an L1 table that are read at once */

/* A chain that is being opened. */
struct opening {
    struct q2_image *top;
    unsigned files;
    const struct q2_open_options *options;
    uint64_t size;  /* that the first file would have if all of it were there; 0: it is */
    char **folders; /* that what is named must lie in, the first file's first; ends with NULL */
    bool told;      /* that there are no locks */
    struct q2_error *err;
};

/* The path, and what a function says that does not know it. */
static int fail_in(const struct q2_file *f, const struct q2_error *why, struct q2_error *err)
{
    return q2_fail(err, "Cannot open '%s' as a qcow2 image. %s", f->path, why->text);
}

/* Most often it is the same file system for all of the chain. */
static void tell_once(void *opaque, const char *sentence)
{
    struct opening *o = opaque;

    if (!o->told && o->options->tell)
        o->options->tell(o->options->opaque, sentence);
    o->told = true;
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

    image->geometry = (struct q2_geometry){
        .cluster_bits = h->cluster_bits,
        .zero_flag = h->version >= 3,
        .extended = h->incompatible & Q2_INCOMPATIBLE_EXTENDED_L2,
        .data_file = h->incompatible & Q2_INCOMPATIBLE_DATA_FILE,
    };
    /* QEMU serves whole sectors. */
    image->size = h->size & ~UINT64_C(511);
    image->over = h->backing[0];
}

/* Make the image the disk of an internal snapshot. */
static int take_snapshot(struct q2_image *image, const char *which, struct q2_error *err)
{
    const struct q2_snapshot *s;
    struct q2_snapshots list;
    int r = q2_snapshots_read(&list, &image->file, &image->header, err);

    s = r == 0 ? q2_snapshots_find(&list, which) : NULL;
    if (s) {
        image->size = s->size & ~UINT64_C(511);
        image->l1_offset = s->l1_offset;
    } else if (r == 0) {
        r = q2_fail(err, "'%s' has no internal snapshot '%s'", image->file.path, which);
    }
    q2_snapshots_clear(&list);
    return r;
}

/* `snapshot`: NULL, the active table. */
static int find_l1(struct q2_image *image, const char *snapshot, struct q2_error *err)
{
    uint64_t span = q2_table_span(&image->geometry);

    image->l1_offset = image->header.l1_offset;
    if (snapshot && take_snapshot(image, snapshot, err) < 0)
        return -1;
    image->l1_entries = image->size / span + (image->size % span != 0);
    return 0;
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

        if (q2_file_pread(&image->file, piece, length, image->l1_offset + at, err) < 0)
            return -1;
        for (size_t i = 0; i < length; i += 8) {
            uint64_t word = load_be64(piece + i);

            if (word)
                image->l1[(at + i) / 8] = word;
        }
    }
    return 0;
}

/* ---- folders ---- */

/* Add a folder, which is the opening's from here on, to the list, which has room for it. */
static int add_folder(struct opening *o, unsigned i, char *folder, const char *path)
{
    o->folders[i] = folder;
    return folder ? 0 : q2_fail_errno(o->err, errno, "Cannot open the folder '%s'", path);
}

static int find_folders(struct opening *o)
{
    const char *const *allow = o->options->allow;
    unsigned n = 0;

    while (allow && allow[n])
        n++;
    o->folders = calloc(n + 2, sizeof(*o->folders));
    if (!o->folders)
        return q2_fail_errno(o->err, ENOMEM, "Cannot open '%s'", o->top->file.path);
    errno = ENOMEM;
    if (add_folder(o, 0, q2_file_folder(&o->top->file), o->top->file.path) < 0)
        return -1;
    for (unsigned i = 0; i < n; i++)
        if (add_folder(o, i + 1, realpath(allow[i], NULL), allow[i]) < 0)
            return -1;
    return 0;
}

/* The backing file that the caller has given stands for its own folder, in place of the image's. */
static int move_folder(struct opening *o, const struct q2_file *f)
{
    char *folder = q2_file_folder(f);

    if (!folder)
        return q2_fail_errno(o->err, ENOMEM, "Cannot open '%s'", f->path);
    free(o->folders[0]);
    o->folders[0] = folder;
    return 0;
}

static void free_folders(struct opening *o)
{
    for (char **folder = o->folders; folder && *folder; folder++)
        free(*folder);
    free(o->folders);
}

/* ---- what it names ---- */

/* `given`: what the caller has said instead; NULL: nothing. */
static int open_named(struct opening *o, const struct q2_image *by, const char *name,
                      const char *given, struct q2_file_how how, struct q2_file *f)
{
    char *path;
    int r = -1;

    f->fd = -1;
    how.tell = tell_once;
    how.opaque = o;
    if (given)
        return q2_file_open(f, given, &how, o->err);
    if (o->options->references == Q2_REFERENCES_FOLDER)
        how.folders = (const char *const *)o->folders;
    path = q2_file_named(&by->file, name, o->err);
    if (path)
        r = q2_file_open(f, path, &how, o->err);
    free(path);
    return r;
}

static enum qemu_locks locks_of(const struct opening *o, const struct q2_image *image)
{
    if (!o->options->locking)
        return QEMU_LOCKS_NONE;
    if (image != o->top)
        return QEMU_LOCKS_BASE;
    return o->options->writable ? QEMU_LOCKS_WRITE : QEMU_LOCKS_READ;
}

static int fail_loop(const struct opening *o, const struct q2_image *by, const struct q2_file *f)
{
    return q2_fail(o->err, "'%s' names '%s', which is in the chain already: it is a loop",
                   by->file.path, f->path);
}

static int open_data_file(struct opening *o, struct q2_image *image)
{
    const char *given = image == o->top ? o->options->data_file : NULL;
    struct q2_file_how how = {
        .writable = image == o->top && o->options->writable,
        .locks = locks_of(o, image),
    };

    if (!image->geometry.data_file)
        return given ? q2_fail(o->err, "'%s' has no data file, for which '%s' could stand",
                               image->file.path, given)
                     : 0;
    if (o->options->references == Q2_REFERENCES_NONE && !given)
        return q2_fail(o->err, "'%s' has its data in another file, and may not name any",
                       image->file.path);
    if (open_named(o, image, image->header.data_file, given, how, &image->data) < 0)
        return -1;
    return q2_image_has_file(o->top, &image->data) ? fail_loop(o, image, &image->data) : 0;
}

/* *raw is set to whether it is. */
static int check_format(const struct opening *o, const struct q2_image *image, const char *name,
                        bool *raw)
{
    const char *given = image == o->top ? o->options->backing_format : NULL;
    const char *format = given ? given : image->header.backing_format;

    *raw = strcmp(format, "raw") == 0;
    if (*raw || strcmp(format, "qcow2") == 0)
        return 0;
    if (!format[0])
        return q2_fail(o->err,
                       "'%s' does not state the format of its backing file '%s', and guessing it "
                       "is not safe. `qemu-img rebase -u -F FORMAT` states it",
                       image->file.path, name);
    return q2_fail(o->err,
                   "The backing file '%s' of '%s' is of the format '%s'; raw and qcow2 are known",
                   name, image->file.path, format);
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

/* What is below an image: *name, as it is called, and *given, if the caller has said it. False: nothing
 * that may be opened. */
static bool find_backing(const struct opening *o, const struct q2_image *image, const char **name,
                         const char **given)
{
    *given = image == o->top ? o->options->backing : NULL;
    *name = *given ? *given : image->header.backing;
    return *given ||
           (image->over && !o->options->alone && o->options->references != Q2_REFERENCES_NONE);
}

static unsigned most_files(const struct opening *o)
{
    return o->options->files ? o->options->files : Q2_CHAIN_MAX;
}

/* Hang an open file below `over`; it is the chain's from here on, or closed. */
static struct q2_image *hang(struct opening *o, struct q2_image *over, struct q2_file *file)
{
    struct q2_image *image = q2_image_has_file(o->top, file) ? NULL : image_new(o->err);

    if (!image) {
        if (q2_image_has_file(o->top, file))
            fail_loop(o, over, file);
        q2_file_close(file);
        return NULL;
    }
    image->file = *file;
    image->size = file->size;
    over->over = true;
    over->backing = image;
    if (++o->files <= most_files(o))
        return image;
    q2_fail(o->err, "The chain of '%s' has more than %u files", o->top->file.path, most_files(o));
    return NULL;
}

/* Open what is below `over`: *next is that file, if it may have another. */
static int open_backing(struct opening *o, struct q2_image *over, struct q2_image **next)
{
    struct q2_file_how how = {.locks = o->options->locking ? QEMU_LOCKS_BASE : QEMU_LOCKS_NONE};
    const char *name, *given;
    struct q2_image *image;
    struct q2_file file;
    bool raw;

    *next = NULL;
    if (!find_backing(o, over, &name, &given))
        return 0;
    if (check_format(o, over, name, &raw) < 0 || open_named(o, over, name, given, how, &file) < 0)
        return -1;
    image = hang(o, over, &file);
    if (!image || (given && move_folder(o, &image->file) < 0))
        return -1;
    image->raw = raw;
    *next = raw ? NULL : image;
    return 0;
}

static int open_qcow2(struct opening *o, struct q2_image *image)
{
    bool top = image == o->top;

    if (read_header(image, top ? o->size : 0, o->err) < 0)
        return -1;
    set_geometry(image);
    if (find_l1(image, top ? o->options->snapshot : NULL, o->err) < 0 ||
        read_l1(image, o->err) < 0 || open_data_file(o, image) < 0)
        return -1;
    return 0;
}

static int open_chain(struct opening *o)
{
    struct q2_image *image = o->top;

    while (image)
        if (open_qcow2(o, image) < 0 || open_backing(o, image, &image) < 0)
            return -1;
    return 0;
}

static struct q2_image *open_image(const char *path, struct opening *o)
{
    struct q2_file_how how = {.writable = o->options->writable, .tell = tell_once, .opaque = o};
    int r;

    o->top = image_new(o->err);
    if (!o->top)
        return NULL;
    o->files = 1;
    how.locks = locks_of(o, o->top);
    r = q2_file_open(&o->top->file, path, &how, o->err);
    if (r == 0)
        r = find_folders(o) < 0 || open_chain(o) < 0 ? -1 : 0;
    free_folders(o);
    if (r == 0)
        return o->top;
    q2_image_close(o->top);
    return NULL;
}

struct q2_image *q2_image_open_with(const char *path, const struct q2_open_options *options,
                                    struct q2_error *err)
{
    if (options->snapshot && options->writable) {
        q2_fail(err, "An internal snapshot of '%s' can only be read", path);
        return NULL;
    }
    return open_image(path, &(struct opening){.options = options, .err = err});
}

struct q2_image *q2_image_open(const char *path, enum q2_references references,
                               struct q2_error *err)
{
    return q2_image_open_with(path, &(struct q2_open_options){.references = references}, err);
}

struct q2_image *q2_image_open_head(const char *path, uint64_t size, struct q2_error *err)
{
    const struct q2_open_options options = {.references = Q2_REFERENCES_NONE};

    return open_image(path, &(struct opening){.options = &options, .size = size, .err = err});
}
