/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/state/bit-file.h"

#include "common/state/folder.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE        (UINT64_C(1) << 34)
#define GRANULARITY 65536u
#define PAGE        4096u

static const char a_uuid[] = "c1a60a3c-1f0b-4a4e-9c57-0d2a53f0a001";
static const char other_uuid[] = "c1a60a3c-1f0b-4a4e-9c57-0d2a53f0a002";

struct place {
    char *folder;
    struct storage *s;
};

static void place_begin(struct place *p)
{
    g_autoptr(GError) err = NULL;

    p->folder = g_dir_make_tmp("bits-XXXXXX", NULL);
    p->s = state_folder_open(p->folder, false, &err);
    g_assert_no_error(err);
}

static void place_end(struct place *p)
{
    static const char *const names[] = {"bits", "lock", ""};

    bit_file_remove(p->s, a_uuid, NULL);
    bit_file_remove(p->s, other_uuid, NULL);
    p->s->ops->free(p->s);
    for (size_t i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = g_build_filename(p->folder, names[i], NULL);

        if (g_remove(path) < 0)
            g_assert_cmpint(errno, ==, ENOENT);
    }
    g_free(p->folder);
}

static char *path_of(struct place *p, const char *uuid)
{
    return g_build_filename(p->folder, "bits", uuid, NULL);
}

static struct bit_file *create(struct place *p, const char *uuid)
{
    g_autoptr(GError) err = NULL;
    struct bit_file *f = bit_file_create(p->s, uuid, SIZE, GRANULARITY, &err);

    g_assert_no_error(err);
    g_assert_nonnull(f);
    return f;
}

static struct bit_file *reopen(struct place *p, const char *uuid)
{
    g_autoptr(GError) err = NULL;
    struct bit_file *f = bit_file_open(p->s, uuid, SIZE, GRANULARITY, &err);

    g_assert_no_error(err);
    g_assert_nonnull(f);
    return f;
}

/* The sentence about the file `uuid` ends so. */
static void assert_refused(struct place *p, const char *uuid, uint64_t size, uint32_t granularity,
                           const char *why)
{
    g_autofree char *expected = g_strdup_printf("state: %s/bits/%s: %s", p->folder, uuid, why);
    g_autoptr(GError) err = NULL;

    g_assert_null(bit_file_open(p->s, uuid, size, granularity, &err));
    g_assert_cmpstr(err->message, ==, expected);
}

static uint32_t crc_of(struct bit_file *f)
{
    g_autoptr(GError) err = NULL;
    uint32_t crc;

    bit_file_crc(f, &crc, &err);
    g_assert_no_error(err);
    return crc;
}

static void unmap(struct place *p, uint64_t *words)
{
    p->s->ops->unmap(p->s, words, bit_file_map_length(SIZE, GRANULARITY));
}

/* Change a byte of a file by XOR. */
static void flip(const char *path, off_t offset, unsigned char bits)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    unsigned char byte;

    g_assert_cmpint(pread(fd, &byte, 1, offset), ==, 1);
    byte ^= bits;
    g_assert_cmpint(pwrite(fd, &byte, 1, offset), ==, 1);
    close(fd);
}

/* ---- tests ---- */

static void test_lengths(void)
{
    g_assert_cmpuint(bit_file_map_length(0, 65536), ==, PAGE);
    g_assert_cmpuint(bit_file_map_length(1, 65536), ==, PAGE);
    g_assert_cmpuint(bit_file_map_length(UINT64_C(65536) * 8 * PAGE, 65536), ==, PAGE);
    g_assert_cmpuint(bit_file_map_length(UINT64_C(65536) * 8 * PAGE + 1, 65536), ==, 2 * PAGE);
    g_assert_cmpuint(bit_file_map_length(UINT64_C(1) << 40, 65536), ==, 2 << 20);
}

static void test_bits_stay(void)
{
    struct bit_file *f;
    struct place p;
    uint64_t *words;
    uint32_t clean, dirty;

    place_begin(&p);
    f = create(&p, a_uuid);
    g_assert_cmpstr(bit_file_uuid(f), ==, a_uuid);
    clean = crc_of(f);
    words = bit_file_map(f, NULL, NULL);
    g_assert_nonnull(words);
    words[0] = 1;
    words[4000] = UINT64_C(1) << 63;
    g_assert_cmpint(bit_file_sync(f, NULL), ==, 0);
    dirty = crc_of(f);
    g_assert_cmphex(dirty, !=, clean);
    bit_file_close(f);
    words[1] = 2; /* the mapping stays */
    unmap(&p, words);

    f = reopen(&p, a_uuid);
    words = bit_file_map(f, NULL, NULL);
    g_assert_cmphex(words[0], ==, 1);
    g_assert_cmphex(words[1], ==, 2);
    g_assert_cmphex(words[4000], ==, UINT64_C(1) << 63);
    words[1] = 0;
    g_assert_cmphex(crc_of(f), ==, dirty);
    words[0] = words[4000] = 0;
    g_assert_cmphex(crc_of(f), ==, clean);
    words[512] = 1;
    dirty = crc_of(f);
    words[512] = 0;
    words[1024] = 1; /* another page with the same bytes */
    g_assert_cmphex(crc_of(f), !=, dirty);
    unmap(&p, words);
    bit_file_close(f);
    g_assert_null(bit_file_create(p.s, a_uuid, SIZE, GRANULARITY, NULL)); /* it is there */
    g_assert_cmpint(bit_file_remove(p.s, a_uuid, NULL), ==, 0);
    g_assert_cmpint(bit_file_remove(p.s, a_uuid, NULL), ==, 0);
    place_end(&p);
}

/* The CRC of sparse, of reserved and of written zeroes is the same. */
static void test_zeroes(void)
{
    static const char zeroes[PAGE];
    g_autofree char *path = NULL;
    struct bit_file *f;
    struct place p;
    uint32_t crc;
    int fd;

    place_begin(&p);
    f = create(&p, a_uuid);
    path = path_of(&p, a_uuid);
    flip(path, 2 * PAGE + 17, 4);
    crc = crc_of(f);
    fd = open(path, O_RDWR | O_CLOEXEC);
    g_assert_cmpint(pwrite(fd, zeroes, PAGE, 3 * PAGE), ==, PAGE);
    g_assert_cmphex(crc_of(f), ==, crc);
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 3 * PAGE, PAGE) == 0)
        g_assert_cmphex(crc_of(f), ==, crc);
    close(fd);
    bit_file_close(f);
    place_end(&p);
}

static void test_wrong_file(void)
{
    g_autofree char *path = NULL, *other = NULL;
    struct place p;

    place_begin(&p);
    bit_file_close(create(&p, a_uuid));
    assert_refused(&p, other_uuid, SIZE, GRANULARITY, "it is missing");
    assert_refused(&p, a_uuid, SIZE + GRANULARITY, GRANULARITY,
                   "it has bits for another size or granularity");
    assert_refused(&p, a_uuid, SIZE, GRANULARITY * 2,
                   "it has bits for another size or granularity");
    path = path_of(&p, a_uuid);
    other = path_of(&p, other_uuid);
    g_assert_cmpint(g_rename(path, other), ==, 0);
    assert_refused(&p, other_uuid, SIZE, GRANULARITY, "it has the bits of another bitmap");
    g_assert_cmpint(g_unlink(other), ==, 0);
    g_assert_cmpint(mkdir(other, 0700), ==, 0);
    assert_refused(&p, other_uuid, SIZE, GRANULARITY, "open: Is a directory");
    g_assert_cmpint(g_rmdir(other), ==, 0);
    /* What cannot be the name of a file of ours, or bits of anything. */
    g_assert_null(bit_file_create(p.s, "../x", SIZE, GRANULARITY, NULL));
    g_assert_cmpint(bit_file_remove(p.s, "../lock", NULL), ==, -1);
    g_assert_null(bit_file_create(p.s, a_uuid, SIZE, 0, NULL));
    g_assert_null(bit_file_create(p.s, a_uuid, UINT64_MAX, GRANULARITY, NULL));
    place_end(&p);
}

static void test_damaged_header(void)
{
    g_autofree char *path = NULL;
    struct place p;

    place_begin(&p);
    bit_file_close(create(&p, a_uuid));
    path = path_of(&p, a_uuid);
    for (off_t i = 0; i < PAGE; i++) {
        unsigned char bit = (unsigned char)(1 << g_test_rand_int_range(0, 8));

        flip(path, i, bit);
        assert_refused(&p, a_uuid, SIZE, GRANULARITY,
                       i < 16 ? "this is no file of bits, or it is damaged"
                              : "its header is damaged");
        flip(path, i, bit);
    }
    bit_file_close(reopen(&p, a_uuid));
    place_end(&p);
}

static void test_lengths_of_files(void)
{
    const off_t length = PAGE + (off_t)bit_file_map_length(SIZE, GRANULARITY);
    g_autofree char *path = NULL;
    struct place p;

    place_begin(&p);
    bit_file_close(create(&p, a_uuid));
    path = path_of(&p, a_uuid);
    g_assert_cmpint(truncate(path, length + 1), ==, 0);
    assert_refused(&p, a_uuid, SIZE, GRANULARITY, "it is too long");
    for (off_t cut = length - 512; cut >= 0; cut -= 512) {
        g_assert_cmpint(truncate(path, cut), ==, 0);
        assert_refused(&p, a_uuid, SIZE, GRANULARITY, "it is cut short");
    }
    place_end(&p);
}

/* Bits behind the last granule: bitmaps count on there being none. */
static void test_tail(void)
{
    static const uint64_t granules[] = {0, 1, 63, 64, 65, 32767, 32768, 32769, 32768 * 2 - 1};
    struct place p;

    place_begin(&p);
    for (size_t i = 0; i < G_N_ELEMENTS(granules); i++) {
        uint64_t size = granules[i] * GRANULARITY;
        uint64_t bits = bit_file_map_length(size, GRANULARITY) * UINT64_C(8);
        struct bit_file *f = bit_file_create(p.s, a_uuid, size, GRANULARITY, NULL);
        g_autofree char *path = path_of(&p, a_uuid);
        const uint64_t outside[] = {granules[i], bits - 1};

        g_assert_nonnull(f);
        bit_file_close(f);
        if (granules[i] > 0)
            flip(path, (off_t)(PAGE + (granules[i] - 1) / 8),
                 (unsigned char)(1 << (granules[i] - 1) % 8));
        f = bit_file_open(p.s, a_uuid, size, GRANULARITY, NULL);
        g_assert_nonnull(f);
        bit_file_close(f);
        for (size_t j = 0; j < 2 && granules[i] < bits; j++) {
            flip(path, (off_t)(PAGE + outside[j] / 8), (unsigned char)(1 << outside[j] % 8));
            assert_refused(&p, a_uuid, size, GRANULARITY, "there are bits behind its end");
            flip(path, (off_t)(PAGE + outside[j] / 8), (unsigned char)(1 << outside[j] % 8));
        }
        bit_file_remove(p.s, a_uuid, NULL);
    }
    place_end(&p);
}

/* ---- a storage that has no room ---- */

static int no_room(struct storage_file *f, uint64_t size)
{
    return -ENOSPC;
}

static void test_no_room(void)
{
    g_autofree char *expected = NULL;
    g_autoptr(GError) err = NULL;
    g_autoptr(GPtrArray) names = g_ptr_array_new_with_free_func(g_free);
    const struct storage_ops *real;
    struct storage_ops full;
    struct place p;

    place_begin(&p);
    real = p.s->ops;
    full = *real;
    full.reserve = no_room;
    p.s->ops = &full;
    g_assert_null(bit_file_create(p.s, a_uuid, SIZE, GRANULARITY, &err));
    expected = g_strdup_printf("state: %s/bits/%s: reserve room: No space left on device", p.folder,
                               a_uuid);
    g_assert_cmpstr(err->message, ==, expected);
    p.s->ops = real;
    g_assert_cmpint(real->list(p.s, "bits", names), ==, 0);
    g_assert_cmpuint(names->len, ==, 0);
    place_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/bit-file/lengths", test_lengths);
    g_test_add_func("/bit-file/bits-stay", test_bits_stay);
    g_test_add_func("/bit-file/zeroes", test_zeroes);
    g_test_add_func("/bit-file/wrong-file", test_wrong_file);
    g_test_add_func("/bit-file/damaged-header", test_damaged_header);
    g_test_add_func("/bit-file/lengths-of-files", test_lengths_of_files);
    g_test_add_func("/bit-file/tail", test_tail);
    g_test_add_func("/bit-file/no-room", test_no_room);
    return g_test_run();
}
