/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What other programs have done wrong with qcow2 images: a test for the kind of each mistake, with the
 * name of who has made it. (Those that need several threads: test-known-races.c.)
 */
#include "tests/rigs/live-picture.h"

#include <errno.h>
#include <string.h>

#define KIB 1024u
#define MIB (KIB * KIB)

/* ---- space ---- */

/* QEMU: images have grown beyond their disk with discards, since each write took another place. */
static void test_grow_with_discard(void)
{
    struct live_picture p;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 4M"))
        return;
    live_picture_open(&p);
    for (unsigned i = 0; i < 400; i++) {
        uint64_t offset = i * 7 % 50 * 64 * KIB + i % 3 * 4096;

        live_picture_write(&p, offset, 200 * KIB, (uint8_t)(i + 1));
        if (i % 2)
            live_picture_trim(&p, i * 11 % 50 * 64 * KIB, 300 * KIB);
        if (i % 40 == 0)
            g_assert_cmpint(live_flush(p.image), ==, 0);
        g_assert_cmpuint(live_picture_room(&p), <=, 5 * MIB);
    }
    live_picture_trim(&p, 0, 4 * MIB);
    g_assert_cmpint(live_flush(p.image), ==, 0);
    g_assert_cmpuint(live_picture_room(&p), <=, MIB);
    live_picture_close(&p);
    g_assert_cmpuint(live_picture_length(&p), <=, 5 * MIB);
    live_picture_end(&p);
}

/* Incus: discards of less than a cluster were dropped. qcow2-rs: a range was zeroed in place of punched. */
static void test_sub_cluster_discards(void)
{
    struct live_picture p;
    uint64_t full;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 4M"))
        return;
    live_picture_open(&p);
    live_picture_write(&p, 0, 4 * MIB, 1);
    full = live_picture_room(&p);
    for (unsigned at = 0; at < 4 * MIB; at += 8192)
        live_picture_trim(&p, at, 4096);
    g_assert_cmpuint(live_picture_room(&p), <=, full - 2 * MIB + 64 * KIB);
    live_picture_look(&p);
    live_picture_end(&p);
}

/* cloud-hypervisor 8597: each flush moved tables to other places, and the file grew without end. */
static void test_growth_by_flushes(void)
{
    struct live_picture p;
    uint64_t length;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 4M"))
        return;
    live_picture_open(&p);
    live_picture_write(&p, 0, 64 * KIB, 1);
    g_assert_cmpint(live_flush(p.image), ==, 0);
    length = live_picture_length(&p);
    for (unsigned i = 0; i < 1000; i++) {
        live_picture_write(&p, i % 16 * 4096, 4096, (uint8_t)i);
        g_assert_cmpint(live_flush(p.image), ==, 0);
    }
    g_assert_cmpuint(live_picture_length(&p), ==, length);
    live_picture_end(&p);
}

/* cloud-hypervisor: a file of 414 KiB was blown up to 32 MiB, by the size that its header says. */
static void test_size_of_the_header(void)
{
    struct qcow2_rig r;
    struct live_options options = LIVE_OPTIONS_INIT;
    struct q2_error err = {0};

    options.writable = true;
    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i 1T");
    for (unsigned i = 0; i < 3; i++) {
        g_autofree char *path = qcow2_rig_path(&r, "i"), *room = NULL;
        struct live_image *image = live_open(path, &options, &err);

        g_assert_nonnull(image);
        g_assert_cmpint(live_pwrite(image, "x", 1, UINT64_C(900) << 30, 0), ==, 0);
        g_assert_cmpint(live_close(image, &err), ==, 0);
        room = qcow2_rig_output(&r, 0, "qemu-img check -q -f qcow2 i; du -k i");
        g_assert_cmpuint(g_ascii_strtoull(room, NULL, 10), <, 700);
    }
    qcow2_rig_end(&r);
}

/* hyperkit's qcow: it froze on images that qemu-img had made, and they grew. */
static void test_images_by_qemu_img(void)
{
    static const char *const options[] = {"preallocation=off",    "preallocation=metadata",
                                          "preallocation=falloc", "preallocation=full",
                                          "lazy_refcounts=on",    "compat=0.10"};

    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        struct live_picture p;
        uint64_t length;

        if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 -o %s i 8M", options[i]))
            return;
        length = live_picture_length(&p);
        live_picture_open(&p);
        for (unsigned at = 0; at < 8 * MIB; at += 96 * KIB)
            live_picture_write(&p, at, 20000, (uint8_t)(at / (96 * KIB) + 1));
        live_picture_look(&p);
        live_picture_close(&p);
        g_assert_cmpuint(live_picture_length(&p), <=, MAX(length, 9 * MIB));
        live_picture_end(&p);
    }
}

/* ---- what lies below ---- */

/* cloud-hypervisor 8245: zeroing, as discarding, made what the backing file has visible. */
static void test_zeroes_over_a_backing_file(void)
{
    static const char *const kinds[] = {"", "-o compat=0.10", "-o extended_l2=on"};

    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        for (unsigned flags = 0; flags <= LIVE_MAY_TRIM; flags += LIVE_MAY_TRIM) {
            struct live_picture p;

            if (!live_picture_begin(&p,
                                    "qemu-img create -q -f qcow2 base 2M &&"
                                    "qemu-io -f qcow2 -c 'write -q -P 66 0 2M' base &&"
                                    "qemu-img create -q -f qcow2 %s -b base -F qcow2 i",
                                    kinds[i]))
                return;
            live_picture_open(&p);
            live_picture_zero(&p, 0, 128 * KIB, flags);
            live_picture_zero(&p, 200 * KIB, 1000, flags);
            live_picture_write(&p, 500 * KIB, 100 * KIB, 1);
            live_picture_zero(&p, 450 * KIB, 200 * KIB, flags);
            live_picture_trim(&p, 520 * KIB, 64 * KIB);
            live_picture_trim(&p, MIB, 256 * KIB);
            live_picture_look(&p);
            live_picture_reopen(&p);
            live_picture_look(&p);
            live_picture_end(&p);
        }
}

/* ---- tables ---- */

/* cloud-hypervisor 8606: 118 of 200 L2 tables were overwritten, since the places of those that the image
 * had were thought to be free. */
static void test_tables_overwritten(void)
{
    struct live_picture p;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 -o cluster_size=512 i 8M &&"
                                "qemu-io -f qcow2 -c 'write -q -P 9 0 6400k' i"))
        return;
    for (unsigned turn = 1; turn < 4; turn++) {
        live_picture_open(&p);
        for (unsigned at = 0; at < 8 * MIB; at += 32 * KIB)
            live_picture_write(&p, at + turn * 5 * KIB, 3000, (uint8_t)(at / (32 * KIB) + turn));
        live_picture_trim(&p, turn * MIB, 300 * KIB);
        live_picture_look(&p);
        live_picture_close(&p);
    }
    live_picture_end(&p);
}

/* cloud-hypervisor 8358: cluster 0, with the header, was given to the guest, because it was counted 0
 * times. No count of 0 is believed. */
static void test_cluster_0_overwritten(void)
{
    struct live_picture p;
    uint64_t table, block;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 -o cluster_size=4096 i 4M &&"
                                "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' i"))
        return;
    table = qcow2_rig_get(&p.rig, "i", 48, 8);
    block = qcow2_rig_get(&p.rig, "i", table, 8);
    for (unsigned i = 0; i < 100; i++)
        qcow2_rig_put(&p.rig, "i", block + i * 2, 2, 0);
    live_picture_open(&p);
    for (unsigned at = 0; at < 4 * MIB; at += 10000)
        live_picture_write(&p, at, MIN(5000, 4 * MIB - at), (uint8_t)(at / 10000 + 1));
    live_picture_look(&p);
    live_close(p.image, NULL);
    p.image = NULL;
    g_free(p.disk);
    g_assert_cmpuint(qcow2_rig_get(&p.rig, "i", 0, 4), ==, 0x514649fb);
    p.disk = qcow2_rig_disk(&p.rig, "i", &p.size);
    for (unsigned at = 0; at < 4 * MIB; at += 10000)
        g_assert_cmpuint(p.disk[at], ==, (uint8_t)(at / 10000 + 1));
    live_picture_end(&p);
}

/* An entry that leads to a table, or to counts of clusters, is neither read nor written. */
static void test_entry_on_metadata(void)
{
    for (unsigned cluster = 1; cluster < 5; cluster++) {
        struct live_picture p;
        g_autofree uint8_t *before = NULL, *after = NULL;
        uint8_t bytes[512];
        size_t size;

        if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 4M &&"
                                    "qemu-io -f qcow2 -c 'write -q -P 9 0 1M' i"))
            return;
        qcow2_rig_put(&p.rig, "i", qcow2_rig_l2(&p.rig, "i", 3), 8,
                      UINT64_C(1) << 63 | cluster * 64 * KIB);
        before = qcow2_rig_bytes(&p.rig, "i", &size);
        p.image = live_open(p.path, &p.options, NULL);
        g_assert_nonnull(p.image);
        g_assert_cmpint(live_pread(p.image, bytes, 512, 3 * 64 * KIB), ==, -EIO);
        g_assert_cmpint(live_pwrite(p.image, bytes, 512, 3 * 64 * KIB, 0), ==, -EIO);
        g_assert_cmpint(live_pread(p.image, bytes, 512, 0), ==, 0);
        live_close(p.image, NULL);
        after = qcow2_rig_bytes(&p.rig, "i", &size);
        /* But for the mark in the header that says so. */
        g_assert_cmpmem(before + 512, 5 * 64 * KIB - 512, after + 512, 5 * 64 * KIB - 512);
        qcow2_rig_end(&p.rig);
        g_free(p.path);
        g_free(p.disk);
    }
}

/*
 * An entry that leads to or over the end of the file, where other clusters will be as soon as something is written:
 * it is as before then, neither read nor written, and giving it up does not take away what others have there. Found
 * before and after (`late`) the file has grown.
 */
static void behind_the_end(const char *made, uint64_t word, uint64_t at, bool late)
{
    struct live_picture p;
    g_autofree uint8_t *bytes = g_malloc(64 * KIB), *twos = g_malloc(MIB);

    if (!live_picture_begin(&p, "%s", made))
        return;
    memset(twos, 0x22, MIB);
    qcow2_rig_put(&p.rig, "i", qcow2_rig_l2(&p.rig, "i", (unsigned)(at / (64 * KIB))), 8,
                  word + live_picture_length(&p));
    p.image = live_open(p.path, &p.options, NULL);
    g_assert_nonnull(p.image);
    if (!late)
        g_assert_cmpint(live_pread(p.image, bytes, 512, at + 64 * KIB), ==, 0);
    /* By another slice of the table. */
    g_assert_cmpint(live_pwrite(p.image, twos, MIB, MIB, 0), ==, 0);
    g_assert_cmpint(live_flush(p.image), ==, 0);
    memset(bytes, 0x77, 64 * KIB);
    g_assert_cmpint(live_pwrite(p.image, bytes, 64 * KIB, at, 0), ==, -EIO);
    g_assert_cmpint(live_pread(p.image, bytes, 64 * KIB, at), ==, -EIO);
    live_flush(p.image);
    live_close(p.image, NULL);
    p.image = NULL;
    p.options.writable = false;
    p.image = live_open(p.path, &p.options, NULL);
    g_assert_nonnull(p.image);
    for (unsigned i = 0; i < 16; i++) {
        g_assert_cmpint(live_pread(p.image, bytes, 64 * KIB, MIB + i * 64 * KIB), ==, 0);
        g_assert_cmpmem(bytes, 64 * KIB, twos, 64 * KIB);
    }
    live_close(p.image, NULL);
    qcow2_rig_end(&p.rig);
    g_free(p.path);
    g_free(p.disk);
}

static void test_entry_behind_the_end(void)
{
    static const char *const made[] = {
        "qemu-img create -q -f qcow2 i 64M && qemu-io -f qcow2 -c 'write -q -P 9 40M 64k' i",
        "qemu-img create -q -f qcow2 j 64M && qemu-io -f qcow2 -c 'write -q -P 9 40M 64k' j &&"
        "qemu-img convert -c -O qcow2 j i && truncate -s %65536 i"};
    const uint64_t sectors = UINT64_C(1) << 54;

    for (unsigned late = 0; late < 2; late++) {
        behind_the_end(made[0], Q2_ENTRY_COPIED, 40 * MIB, late);
        behind_the_end(made[0], Q2_ENTRY_COPIED | Q2_ENTRY_ZERO, 40 * MIB, late);
        behind_the_end(made[0], 0, 40 * MIB, late);
        behind_the_end(made[1], (Q2_ENTRY_COMPRESSED | 2 * sectors) - 512, 40 * MIB, late);
        behind_the_end(made[1], Q2_ENTRY_COMPRESSED | 2 * sectors, 40 * MIB, late);
    }
}

/* ---- headers ---- */

/* cloud-hypervisor: the first of many handles that was closed cleared the dirty bit. */
static void test_dirty_bit(void)
{
    struct live_options options = LIVE_OPTIONS_INIT;
    struct q2_error err = {0};
    g_autofree char *path = NULL;
    struct qcow2_rig r;
    uint8_t byte;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -o lazy_refcounts=on i 4M");
    qcow2_rig_put(&r, "i", 72, 8, 1);
    path = qcow2_rig_path(&r, "i");
    for (unsigned i = 0; i < 2; i++) {
        struct live_image *image = live_open(path, &options, &err);

        g_assert_nonnull(image);
        g_assert_cmpint(live_pread(image, &byte, 1, 0), ==, 0);
        g_assert_cmpint(live_close(image, &err), ==, 0);
    }
    options.writable = true;
    g_assert_null(live_open(path, &options, &err));
    g_assert_cmpuint(qcow2_rig_get(&r, "i", 72, 8), ==, 1);
    qcow2_rig_end(&r);
}

/* qcow2-rs 8: shifted by what the header says, which nobody had looked at. */
static void test_cluster_bits(void)
{
    static const uint32_t bits[] = {0, 1, 8, 22, 31, 32, 63, 64, UINT32_MAX};
    struct qcow2_rig r;
    g_autofree char *path = NULL;

    if (!qcow2_rig_begin(&r))
        return;
    path = qcow2_rig_path(&r, "i");
    for (unsigned i = 0; i < G_N_ELEMENTS(bits) * 2; i++) {
        struct live_options options = LIVE_OPTIONS_INIT;
        struct q2_error err = {0};

        qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i 4M");
        qcow2_rig_put(&r, "i", 20, 4, bits[i / 2]);
        options.writable = i % 2;
        g_assert_null(live_open(path, &options, &err));
        g_assert_cmpstr(err.text, !=, "");
    }
    qcow2_rig_end(&r);
}

/* ---- compressed clusters ---- */

/* nbdkit's qcow2dec: a flag said of a normal cluster what was true of one before. And reads of damaged ones leaked. */
static void test_compressed_and_not(void)
{
    struct live_picture p;
    g_autofree uint8_t *bytes = g_malloc(64 * KIB);

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 2M && for i in 0 2 4 6; do "
                                "qemu-io -f qcow2 -c \"write -q -c -P 1$i $((i*64))k 64k\" "
                                "-c \"write -q -P 2$i $((i*64+64))k 64k\" i || exit; done"))
        return;
    live_picture_open(&p);
    for (unsigned i = 0; i < 200; i++) {
        unsigned cluster = i * 5 % 9;

        g_assert_cmpint(live_pread(p.image, bytes, 3000, cluster * 64 * KIB + i), ==, 0);
        g_assert_cmpmem(bytes, 3000, p.disk + cluster * 64 * KIB + i, 3000);
    }
    live_picture_close(&p);
    /* The second one is damaged now. The others are read, whatever was before. */
    qcow2_rig_put(&p.rig, "i",
                  qcow2_rig_get(&p.rig, "i", qcow2_rig_l2(&p.rig, "i", 2), 8) &
                      ((UINT64_C(1) << 54) - 1),
                  8, UINT64_MAX);
    live_picture_open(&p);
    for (unsigned i = 0; i < 300; i++) {
        g_assert_cmpint(live_pread(p.image, bytes, 512, 2 * 64 * KIB + i * 100), ==, -EIO);
        g_assert_cmpint(live_pread(p.image, bytes, 512, i % 2 * 4 * 64 * KIB), ==, 0);
        g_assert_cmpmem(bytes, 512, p.disk + i % 2 * 4 * 64 * KIB, 512);
    }
    /* Over it all is written. */
    live_picture_write(&p, 2 * 64 * KIB, 64 * KIB, 77);
    live_picture_look(&p);
    live_picture_end(&p);
}

/* cloud-hypervisor 8624: a punch came after the place was somebody else's. Compressed clusters share places: one is
 * overwritten, flushed and given back, the others stay. */
static void test_punch_after_reuse(void)
{
    struct live_picture p;

    if (!live_picture_begin(&p, "qemu-img create -q -f qcow2 i 2M && for i in $(seq 0 31); do "
                                "qemu-io -f qcow2 -c \"write -q -c -P $((i+1)) $((i*64))k 64k\" i "
                                "|| exit; done"))
        return;
    live_picture_open(&p);
    for (unsigned i = 0; i < 32; i++) {
        unsigned cluster = i * 13 % 32;

        if (i % 3 == 0)
            live_picture_write(&p, cluster * 64 * KIB, 64 * KIB, (uint8_t)(100 + i));
        else if (i % 3 == 1)
            live_picture_zero(&p, cluster * 64 * KIB, 64 * KIB, LIVE_MAY_TRIM);
        else
            live_picture_trim(&p, cluster * 64 * KIB, 64 * KIB);
        g_assert_cmpint(live_flush(p.image), ==, 0);
        live_picture_write(&p, i * 64 * KIB + 777, 5000, (uint8_t)(150 + i));
        live_picture_look(&p);
    }
    live_picture_reopen(&p);
    live_picture_look(&p);
    live_picture_end(&p);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/known-bugs/grow-with-discard", test_grow_with_discard);
    g_test_add_func("/known-bugs/sub-cluster-discards", test_sub_cluster_discards);
    g_test_add_func("/known-bugs/growth-by-flushes", test_growth_by_flushes);
    g_test_add_func("/known-bugs/size-of-the-header", test_size_of_the_header);
    g_test_add_func("/known-bugs/images-by-qemu-img", test_images_by_qemu_img);
    g_test_add_func("/known-bugs/zeroes-over-a-backing-file", test_zeroes_over_a_backing_file);
    g_test_add_func("/known-bugs/tables-overwritten", test_tables_overwritten);
    g_test_add_func("/known-bugs/cluster-0-overwritten", test_cluster_0_overwritten);
    g_test_add_func("/known-bugs/entry-on-metadata", test_entry_on_metadata);
    g_test_add_func("/known-bugs/entry-behind-the-end", test_entry_behind_the_end);
    g_test_add_func("/known-bugs/dirty-bit", test_dirty_bit);
    g_test_add_func("/known-bugs/cluster-bits", test_cluster_bits);
    g_test_add_func("/known-bugs/compressed-and-not", test_compressed_and_not);
    g_test_add_func("/known-bugs/punch-after-reuse", test_punch_after_reuse);
    return g_test_run();
}
