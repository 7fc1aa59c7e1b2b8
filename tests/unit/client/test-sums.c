/* SPDX-License-Identifier: BSD-3-Clause */
/* Checksums of a file's pieces: written, read, compared; each damage is found. */
#include "client/base/error.h"
#include "client/repo/sums.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

#define PIECE 4096
#define SIZE  (40 * PIECE + 100) /* the last piece is shorter */

struct rig {
    char *folder, *file, *path; /* the file, and that of its sums */
    uint8_t data[SIZE + 1];     /* one more than the file has */
    char *hex;
};

static void add_piece(struct sums *s, const uint8_t *data, uint64_t offset, uint64_t length)
{
    GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
    uint8_t digest[32];
    gsize n = sizeof digest;

    g_checksum_update(sum, data + offset, (gssize)length);
    g_checksum_get_digest(sum, digest, &n);
    g_checksum_free(sum);
    sums_add(s, offset, length, digest);
}

/* Pieces come in any order. */
static struct sums *make_sums(const uint8_t *data)
{
    struct sums *s = sums_new();

    for (unsigned i = 0; i <= SIZE / PIECE; i++) {
        uint64_t offset = (uint64_t)(SIZE / PIECE - i) * PIECE;

        add_piece(s, data, offset, MIN(PIECE, SIZE - offset));
    }
    return s;
}

static void setup(struct rig *rig, gconstpointer unused)
{
    g_autoptr(GError) error = NULL;
    g_autoptr(sums) s = NULL;

    rig->folder = g_dir_make_tmp("fleece-XXXXXX", &error);
    g_assert_no_error(error);
    rig->file = g_build_filename(rig->folder, "file", NULL);
    rig->path = g_build_filename(rig->folder, "file.sums", NULL);
    for (gsize i = 0; i < SIZE; i++)
        rig->data[i] = (uint8_t)g_test_rand_int();
    s = make_sums(rig->data);
    rig->hex = sums_write(s, rig->path, SIZE, &error);
    g_assert_no_error(error);
}

static void teardown(struct rig *rig, gconstpointer unused)
{
    g_unlink(rig->file);
    g_unlink(rig->path);
    g_rmdir(rig->folder);
    g_free(rig->folder);
    g_free(rig->file);
    g_free(rig->path);
    g_free(rig->hex);
}

static struct sums *read_sums(struct rig *rig)
{
    g_autoptr(GError) error = NULL;
    struct sums *s = sums_read(rig->path, rig->hex, SIZE, &error);

    g_assert_no_error(error);
    return s;
}

/* What a check says of these bytes; NULL: nothing. */
static GError *check(struct rig *rig, const struct sums *s, gsize length, unsigned threads)
{
    GError *error = NULL;
    int fd, result;

    g_assert_true(g_file_set_contents(rig->file, (const char *)rig->data, (gssize)length, NULL));
    fd = open(rig->file, O_RDONLY);
    g_assert_cmpint(fd, >=, 0);
    result = sums_check(s, fd, "disk.qcow2", threads, &error);
    g_assert_true((result == 0) == !error);
    close(fd);
    return error;
}

static void test_whole(struct rig *rig, gconstpointer unused)
{
    g_autoptr(sums) s = read_sums(rig);

    for (unsigned threads = 0; threads < 9; threads++) {
        g_autoptr(GError) error = check(rig, s, SIZE, threads);

        g_assert_no_error(error);
    }
}

/* The text is what the manual says, and its name is its hash. */
static void test_text(struct rig *rig, gconstpointer unused)
{
    g_autofree char *text = NULL, *hash = NULL, *first = NULL, *line = NULL;
    g_auto(GStrv) lines = NULL;

    g_assert_true(g_file_get_contents(rig->path, &text, NULL, NULL));
    hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
    g_assert_cmpstr(hash, ==, rig->hex);
    lines = g_strsplit(text, "\n", -1);
    g_assert_cmpuint(g_strv_length(lines), ==, SIZE / PIECE + 2); /* the last one is empty */
    first = g_compute_checksum_for_data(G_CHECKSUM_SHA256, rig->data + PIECE, PIECE);
    line = g_strdup_printf("%d %d %s", PIECE, PIECE, first);
    g_assert_cmpstr(lines[1], ==, line);
}

/* A flipped bit is found wherever it is, and of several the first. */
static void test_flipped(struct rig *rig, gconstpointer unused)
{
    g_autoptr(sums) s = read_sums(rig);

    for (unsigned i = 0; i < 100; i++) {
        gsize at = i == 0 ? 0 : i == 1 ? SIZE - 1 : (gsize)g_test_rand_int_range(0, SIZE);
        gsize later = (gsize)g_test_rand_int_range((gint32)at, SIZE);
        uint8_t bit = (uint8_t)(1 << (i % 8));
        gsize piece = at / PIECE * PIECE;
        g_autofree char *message = g_strdup_printf("disk.qcow2: its bytes %" G_GSIZE_FORMAT
                                                   " to %" G_GSIZE_FORMAT " have been changed",
                                                   piece, MIN(piece + PIECE, (gsize)SIZE) - 1);
        g_autoptr(GError) error = NULL;

        rig->data[at] ^= bit;
        if (later / PIECE != at / PIECE)
            rig->data[later] ^= bit;
        error = check(rig, s, SIZE, i % 5);
        g_assert_nonnull(error);
        g_assert_true(g_str_has_prefix(error->message, message));
        rig->data[at] ^= bit;
        if (later / PIECE != at / PIECE)
            rig->data[later] ^= bit;
    }
}

static void test_cut(struct rig *rig, gconstpointer unused)
{
    g_autoptr(sums) s = read_sums(rig);
    g_autoptr(GError) shorter = check(rig, s, SIZE - 1, 2), longer = check(rig, s, SIZE + 1, 2);

    g_assert_nonnull(strstr(shorter->message, "it has 163939 bytes, and should have 163940"));
    g_assert_nonnull(strstr(longer->message, "it has 163941 bytes, and should have 163940"));
}

static void refused(struct rig *rig, const char *hex, uint64_t bytes, const char *message)
{
    g_autoptr(GError) error = NULL;
    struct sums *s = sums_read(rig->path, hex, bytes, &error);

    g_assert_null(s);
    if (!strstr(error->message, message))
        g_error("wanted \"%s\", got \"%s\"", message, error->message);
}

static void test_other_file(struct rig *rig, gconstpointer unused)
{
    g_autofree char *hex = g_strdup(rig->hex);

    refused(rig, rig->hex, SIZE + 1, "cover 163940 bytes of a file of 163941");
    refused(rig, rig->hex, SIZE - 1, "do not cover a file of 163939 bytes");
    hex[63] = hex[63] == '0' ? '1' : '0';
    refused(rig, hex, SIZE, "it is not the one that the manifest knows");
    g_unlink(rig->path);
    refused(rig, rig->hex, SIZE, "No such file");
}

/* Texts that somebody has made, with the hash that they have. */
static void test_texts(struct rig *rig, gconstpointer unused)
{
#define H "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
    static const char *const texts[] = {
        "0 163940 " H,
        "0 163940  " H "\n",
        " 0 163940 " H "\n",
        "0 163940 " H "\r\n",
        "0 163940 0" H "\n",
        "0 163940\n",
        "0 -1 " H "\n",
        "0 163940 g" H "\n",
        "x",
        "\n",
        "0 100000 " H "\n100001 63940 " H "\n",
        "0 100000 " H "\n99999 63941 " H "\n",
        "0 18446744073709551615 " H "\n18446744073709551615 163941 " H "\n",
        "0 0 " H "\n0 163940 " H "\n",
        "0 163940 " H "\n163940 1 " H "\n",
        "",
    };

    for (gsize i = 0; i < G_N_ELEMENTS(texts); i++) {
        g_autofree char *hex = g_compute_checksum_for_string(G_CHECKSUM_SHA256, texts[i], -1);

        g_assert_true(g_file_set_contents(rig->path, texts[i], -1, NULL));
        refused(rig, hex, SIZE, "file.sums: ");
    }
}

/* Pieces that do not cover the file are not written. */
static void test_gap(struct rig *rig, gconstpointer unused)
{
    g_autoptr(sums) s = sums_new();
    g_autoptr(GError) error = NULL;

    add_piece(s, rig->data, 0, PIECE);
    add_piece(s, rig->data, PIECE * 2, SIZE - PIECE * 2);
    g_assert_null(sums_write(s, rig->path, SIZE, &error));
    g_assert_nonnull(
        strstr(error->message, "do not cover a file of 163940 bytes: after 4096 comes"));
    g_free(sums_write(s, rig->path, SIZE, NULL));
    g_clear_error(&error);
    add_piece(s, rig->data, PIECE, PIECE);
    g_free(sums_write(s, rig->path, SIZE, &error));
    g_assert_no_error(error);
}

static int stop_half_way(void *opaque, uint64_t done, GError **err)
{
    unsigned *calls = opaque;

    ++*calls;
    return done < SIZE ? 0 : client_fail(err, CLIENT_ERROR_INTERRUPTED, "stopped");
}

/* The watch is called at the end, and what it fails with is the error. */
static void test_watched(struct rig *rig, gconstpointer unused)
{
    g_autoptr(sums) s = read_sums(rig);
    g_autoptr(GError) error = check(rig, s, SIZE, 1);
    int fd = open(rig->file, O_RDONLY);
    unsigned calls = 0;

    g_assert_no_error(error);
    g_assert_cmpint(sums_check_watched(s, fd, "x", 2, stop_half_way, &calls, &error), ==, -1);
    g_assert_error(error, CLIENT_ERROR, CLIENT_ERROR_INTERRUPTED);
    g_assert_cmpuint(calls, >=, 1);
    close(fd);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
#define ADD(name, function) g_test_add("/sums/" name, struct rig, NULL, setup, function, teardown)
    ADD("whole", test_whole);
    ADD("text", test_text);
    ADD("flipped", test_flipped);
    ADD("cut", test_cut);
    ADD("other-file", test_other_file);
    ADD("texts", test_texts);
    ADD("gap", test_gap);
    ADD("watched", test_watched);
    return g_test_run();
}
