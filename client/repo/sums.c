/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/repo/sums.h"
#include "client/base/error.h"
#include "client/base/replace-file.h"
#include "client/repo/sums-private.h"

#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

struct sums *sums_new(void)
{
    struct sums *s = g_new0(struct sums, 1);

    pthread_mutex_init(&s->lock, NULL);
    s->pieces = g_array_new(FALSE, FALSE, sizeof(struct sums_piece));
    return s;
}

void sums_free(struct sums *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    g_array_unref(s->pieces);
    g_free(s);
}

void sums_add(void *opaque, uint64_t offset, uint64_t length, const uint8_t *digest)
{
    struct sums *s = opaque;
    struct sums_piece piece = {.offset = offset, .length = length};

    memcpy(piece.digest, digest, SUMS_DIGEST);
    pthread_mutex_lock(&s->lock);
    g_array_append_val(s->pieces, piece);
    pthread_mutex_unlock(&s->lock);
}

/* Do the pieces cover the file, one behind the other? */
static int check_cover(struct sums *s, const char *path, uint64_t bytes, GError **err)
{
    uint64_t end = 0;

    for (guint i = 0; i < s->pieces->len; i++) {
        const struct sums_piece *p = &g_array_index(s->pieces, struct sums_piece, i);

        if (p->offset != end || p->length == 0 || p->length > bytes - end)
            return client_fail(err, CLIENT_ERROR_FAILED,
                               "%s: its pieces do not cover a file of %" PRIu64
                               " bytes: after %" PRIu64 " comes a piece of %" PRIu64
                               " bytes at %" PRIu64,
                               path, bytes, end, p->length, p->offset);
        end += p->length;
    }
    if (end != bytes)
        return client_fail(err, CLIENT_ERROR_FAILED,
                           "%s: its pieces cover %" PRIu64 " bytes of a file of %" PRIu64, path,
                           end, bytes);
    s->bytes = bytes;
    return 0;
}

/* ---- writing ---- */

static int by_offset(gconstpointer a, gconstpointer b)
{
    const struct sums_piece *x = a, *y = b;

    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

/* Bytes of a line, about: so that the text of a large file is not copied while it grows. */
#define LINE 88

static GString *make_text(const struct sums *s)
{
    static const char hex[] = "0123456789abcdef";
    GString *text = g_string_sized_new((gsize)s->pieces->len * LINE);

    for (guint i = 0; i < s->pieces->len; i++) {
        const struct sums_piece *p = &g_array_index(s->pieces, struct sums_piece, i);

        g_string_append_printf(text, "%" PRIu64 " %" PRIu64 " ", p->offset, p->length);
        for (unsigned k = 0; k < SUMS_DIGEST; k++) {
            g_string_append_c(text, hex[p->digest[k] >> 4]);
            g_string_append_c(text, hex[p->digest[k] & 15]);
        }
        g_string_append_c(text, '\n');
    }
    return text;
}

char *sums_write(struct sums *s, const char *path, uint64_t bytes, GError **err)
{
    g_autoptr(GString) text = NULL;

    g_array_sort(s->pieces, by_offset);
    if (check_cover(s, path, bytes, err) < 0)
        return NULL;
    text = make_text(s);
    if (replace_file_unsynced(path, text->str, text->len, err) < 0)
        return NULL;
    return g_compute_checksum_for_string(G_CHECKSUM_SHA256, text->str, (gssize)text->len);
}

/* ---- reading ---- */

/* A number and the character behind it, which is a space. */
static bool take_number(const char **text, uint64_t *number)
{
    char *end;

    if (!g_ascii_isdigit(**text))
        return false;
    *number = g_ascii_strtoull(*text, &end, 10);
    if (*end != ' ')
        return false;
    *text = end + 1;
    return true;
}

static bool take_digest(const char **text, uint8_t *digest)
{
    for (unsigned i = 0; i < SUMS_DIGEST; i++) {
        int high = g_ascii_xdigit_value((*text)[0]),
            low = high < 0 ? -1 : g_ascii_xdigit_value((*text)[1]);

        if (low < 0)
            return false;
        digest[i] = (uint8_t)(high << 4 | low);
        *text += 2;
    }
    return true;
}

static int parse(struct sums *s, const char *path, const char *text, GError **err)
{
    for (unsigned line = 1; *text; line++) {
        struct sums_piece p;

        if (!take_number(&text, &p.offset) || !take_number(&text, &p.length) ||
            !take_digest(&text, p.digest) || *text++ != '\n')
            return client_fail(err, CLIENT_ERROR_FAILED, "%s: line %u is no checksum of a piece",
                               path, line);
        g_array_append_val(s->pieces, p);
    }
    return 0;
}

struct sums *sums_read(const char *path, const char *hex, uint64_t bytes, GError **err)
{
    g_autofree char *text = NULL, *hash = NULL;
    g_autoptr(GError) error = NULL;
    struct sums *s;
    gsize length;

    if (!g_file_get_contents(path, &text, &length, &error)) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s", error->message);
        return NULL;
    }
    hash = g_compute_checksum_for_data(G_CHECKSUM_SHA256, (const guchar *)text, length);
    if (strcmp(hash, hex) != 0) {
        client_fail(err, CLIENT_ERROR_FAILED,
                    "%s: it is not the one that the manifest knows: its SHA-256 is another", path);
        return NULL;
    }
    s = sums_new();
    if (parse(s, path, text, err) == 0 && check_cover(s, path, bytes, err) == 0)
        return s;
    sums_free(s);
    return NULL;
}
