/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A disk is its image's file, its data file, and every file below them: with another backing file, or one
 * that somebody has committed into, the same image is another disk. So all of them are in the words, the
 * image's own file first. A long chain does not fit there: then a checksum stands for what is cut.
 */
#include "plugins/qcow2/chain-identity.h"

#include "plugins/lib/identity.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

/* " +" and three numbers of 32 bits, with what is between them. */
#define CHECKSUM_MAX 32

/* Words of any length. */
struct words {
    FILE *stream;
    char *text;
    size_t length;
};

static int words_begin(struct words *w)
{
    w->stream = open_memstream(&w->text, &w->length);
    return w->stream ? 0 : -1;
}

/* The words, as far as they fit; what was cut differs by its checksums and its length. */
static void fit(char *out, size_t size, const struct words *w)
{
    const Bytef *bytes = (const Bytef *)w->text;
    size_t kept = size - 1 - CHECKSUM_MAX;
    uInt n = (uInt)w->length;

    if (w->length < size)
        memcpy(out, w->text, w->length + 1);
    else
        snprintf(out, size, "%.*s +%08x.%08lx.%08lx", (int)kept, w->text, n, crc32(0, bytes, n),
                 adler32(1, bytes, n));
}

/* Close; where `out` is not NULL, keep the words there. */
static int words_end(struct words *w, char *out, size_t size)
{
    int r = 0;

    if (!w->stream)
        return 0;
    if (fclose(w->stream) != 0)
        r = -1;
    else if (out)
        fit(out, size, w);
    free(w->text);
    return r;
}

/* ---- the files ---- */

struct chain_words {
    struct words image, content;
    int64_t modified;
    bool unseen; /* writes to the disk cannot be seen */
};

static int add_file(struct chain_words *c, const char *what, int fd)
{
    struct nbdfleece_identity file = {.late = 0};

    if (identity_of(fd, &file) < 0)
        return -1;
    fprintf(c->image.stream, "%s%s", what, file.image);
    if (file.content[0])
        fprintf(c->content.stream, "%s%s", what, file.content);
    if (file.modified > c->modified)
        c->modified = file.modified;
    return 0;
}

/* Writes to a block device cannot be seen. (Nobody writes to one that images stand on.) */
static bool is_seen(int fd)
{
    struct nbdfleece_identity file = {.late = 0};

    return identity_of(fd, &file) == 0 && file.content[0];
}

static int add_below(struct chain_words *c, const struct q2_image *image)
{
    for (; image; image = q2_image_backing(image)) {
        int data_fd = q2_image_data_fd(image);

        if (add_file(c, q2_image_header(image) ? " on qcow2 " : " on raw ", q2_image_fd(image)) < 0)
            return -1;
        if (data_fd >= 0 && add_file(c, " data ", data_fd) < 0)
            return -1;
    }
    return 0;
}

/* An image by another snapshot is another one; and so is the file as a raw one. */
static int add_all(struct chain_words *c, const struct live_image *image, const char *snapshot)
{
    int data_fd = live_data_fd(image);

    fputs("qcow2 ", c->image.stream);
    if (add_file(c, "", live_fd(image)) < 0)
        return -1;
    if (data_fd >= 0 && add_file(c, " data ", data_fd) < 0)
        return -1;
    c->unseen = !is_seen(live_fd(image)) || (data_fd >= 0 && !is_seen(data_fd));
    if (add_below(c, q2_image_backing(live_chain(image))) < 0)
        return -1;
    if (snapshot)
        fprintf(c->image.stream, " snapshot=%s", snapshot);
    return 0;
}

int chain_identity(const struct live_image *image, const char *snapshot,
                   struct nbdfleece_identity *identity)
{
    struct chain_words c = {.modified = 0};
    int r = -1;

    if (words_begin(&c.image) == 0 && words_begin(&c.content) == 0)
        r = add_all(&c, image, snapshot);
    int error = errno;
    bool unseen = r < 0 || c.unseen;
    *identity = (struct nbdfleece_identity){.modified = c.modified};
    if (words_end(&c.image, identity->image, sizeof identity->image) < 0 ||
        words_end(&c.content, unseen ? NULL : identity->content, sizeof identity->content) < 0) {
        error = ENOMEM;
        r = -1;
    }
    errno = error;
    return r;
}
