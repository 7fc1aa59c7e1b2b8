/* SPDX-License-Identifier: BSD-3-Clause */
/* Chains: content and depth, shorter and longer backing files, and which names an image may give. */
#include "tests/rigs/qcow2-oracle.h"

#include <limits.h>
#include <string.h>
#include <sys/resource.h>

#define MIB (UINT64_C(1) << 20)

static void create(const struct qcow2_rig *r, const char *name, const char *options, uint64_t size)
{
    qcow2_rig_run(r, "qemu-img create -q -f qcow2 %s %s %" G_GUINT64_FORMAT, options, name,
                  (guint64)size);
}

/* ---- content ---- */

static void test_content(void)
{
    static const char *const options[] = {
        "-o cluster_size=4096", "-o extended_l2=on",  "-o compat=0.10",
        "-o cluster_size=2M",   "-o data_file=d.raw", "",
    };
    char over[100] = "", name[20];
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        uint64_t size = (uint64_t)g_test_rand_int_range(3, 9) * MIB + 512 * i;
        g_autofree char *all = g_strdup_printf("%s %s", options[i], over);

        g_snprintf(name, sizeof(name), "%u.qcow2", i);
        create(&r, name, all, size);
        qcow2_rig_fill(&r, name, size, 12);
        qcow2_assert_same(&r, name);
        if (i == 2) {
            qcow2_rig_run(&r, "qemu-img convert -c -O qcow2 -o "
                              "backing_file=1.qcow2,backing_fmt=qcow2 2.qcow2 c && mv c 2.qcow2");
            qcow2_assert_same(&r, name);
        }
        g_snprintf(over, sizeof(over), "-b %s -F qcow2", name);
    }
    qcow2_rig_end(&r);
}

/* Compressed clusters of two files at one place of the disk (small ones over larger ones), or at one
 * place of their files: reads go from one to the other. */
static void compress(const struct qcow2_rig *r, const char *options, unsigned length, unsigned step)
{
    g_autofree char *over = g_strdup_printf("-b a.qcow2 -F qcow2 %s", options);

    create(r, "a.qcow2", "", MIB);
    create(r, "b.qcow2", over, MIB);
    for (unsigned i = 0; i < 16; i++)
        qcow2_rig_run(r, "qemu-io -f qcow2 -c 'write -q -c -P %u %uk 64k' a.qcow2", i + 1, i * 64);
    for (unsigned i = 0; i < 16; i += step)
        qcow2_rig_run(r, "qemu-io -f qcow2 -c 'write -q -c -P %u %uk %uk' b.qcow2", i + 101, i * 64,
                      length);
    qcow2_assert_same(r, "b.qcow2");
    qcow2_assert_clean(r, "a.qcow2");
    qcow2_assert_clean(r, "b.qcow2");
}

static void test_compressed(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    compress(&r, "-o cluster_size=4096", 4, 1);
    compress(&r, "", 64, 2);
    qcow2_rig_end(&r);
}

/* QEMU sees raw files as whole sectors: what it says of their last bytes is not compared. */
static void assert_same_over_raw(const struct qcow2_rig *r, unsigned raw_size)
{
    g_autofree uint8_t *disk = NULL;
    size_t size;

    if (raw_size % 512 == 0) {
        qcow2_assert_same(r, "top.qcow2");
        return;
    }
    disk = qcow2_rig_disk(r, "top.qcow2", &size);
    qcow2_assert_disk(r, "top.qcow2", disk, size);
}

/* A raw file below, with holes, which is shorter, of a size that is no multiple of anything, or
 * longer. */
static void test_raw(void)
{
    static const unsigned sizes[] = {0, 1, 511, 4097, 3000001, 3000320, 9 << 20};
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        qcow2_rig_run(&r, "rm -f base.raw && head -c %u /dev/urandom > base.raw", sizes[i]);
        if (sizes[i] > 2000000)
            qcow2_rig_run(&r, "fallocate -p -o 65536 -l 1000000 base.raw || true");
        create(&r, "top.qcow2", "-b base.raw -F raw", 4 * MIB);
        assert_same_over_raw(&r, sizes[i]);
        qcow2_rig_fill(&r, "top.qcow2", 4 * MIB, 10);
        assert_same_over_raw(&r, sizes[i]);
    }
    qcow2_rig_end(&r);
}

static void fill_all(const struct qcow2_rig *r, const char *name, unsigned byte)
{
    qcow2_rig_run(r,
                  "qemu-io -f qcow2 -c \"write -q -P %u 0 $(qemu-img info %s | sed -n "
                  "'s/.*(\\([0-9]*\\) bytes)/\\1/p')\" %s",
                  byte, name, name);
}

/* A disk that shrank and grew again: what the middle file does not have any more does not come back from
 * below, neither in the whole chain nor in a part of it. */
static void test_shorter_in_the_middle(void)
{
    struct q2_reader *reader;
    struct q2_image *image;
    struct qcow2_rig r;
    struct q2_extent e;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "a.qcow2", "", 4 * MIB);
    fill_all(&r, "a.qcow2", 7);
    create(&r, "b.qcow2", "-b a.qcow2 -F qcow2", 2 * MIB);
    create(&r, "c.qcow2", "-b b.qcow2 -F qcow2", 6 * MIB);
    qcow2_assert_same(&r, "c.qcow2");
    image = qcow2_open(&r, "c.qcow2", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    for (unsigned depth = 1; depth < 4; depth++) {
        g_assert_cmpint(q2_image_extent(reader, 2 * MIB, 4 * MIB, depth, &e, NULL), ==, 0);
        g_assert_cmpint(e.kind, ==, Q2_ZERO);
        g_assert_cmpuint(e.depth, ==, 1);
        g_assert_cmpuint(e.length, ==, 4 * MIB);
    }
    g_assert_cmpint(q2_image_extent(reader, 2 * MIB, 4 * MIB, 0, &e, NULL), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_UNALLOCATED);
    g_assert_cmpint(q2_image_extent(reader, 0, 6 * MIB, UINT_MAX, &e, NULL), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_DATA);
    g_assert_cmpuint(e.depth, ==, 2);
    g_assert_cmpuint(e.length, ==, 2 * MIB);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* With a limit, what is deeper is not told; the rest is as without. */
static void test_depth(void)
{
    struct q2_reader *all, *some;
    struct q2_image *image;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "0.qcow2", "", 8 * MIB);
    create(&r, "1.qcow2", "-b 0.qcow2 -F qcow2", 8 * MIB);
    create(&r, "2.qcow2", "-b 1.qcow2 -F qcow2", 8 * MIB);
    create(&r, "3.qcow2", "-b 2.qcow2 -F qcow2", 8 * MIB);
    for (unsigned i = 0; i < 4; i++) {
        g_autofree char *name = g_strdup_printf("%u.qcow2", i);

        qcow2_rig_fill(&r, name, 8 * MIB, 15);
    }
    qcow2_assert_same(&r, "3.qcow2");
    image = qcow2_open(&r, "3.qcow2", Q2_REFERENCES_FOLDER);
    all = q2_reader_new(image, NULL);
    some = q2_reader_new(image, NULL);
    for (unsigned depth = 0; depth < 5; depth++)
        for (uint64_t at = 0; at < 8 * MIB; at += 512) {
            struct q2_extent a, s;

            g_assert_cmpint(q2_image_extent(all, at, 512, UINT_MAX, &a, NULL), ==, 0);
            g_assert_cmpint(q2_image_extent(some, at, 8 * MIB - at, depth, &s, NULL), ==, 0);
            g_assert_cmpint(s.kind, ==, a.depth > depth ? Q2_UNALLOCATED : a.kind);
            if (s.kind != Q2_UNALLOCATED)
                g_assert_cmpuint(s.depth, ==, a.depth);
        }
    q2_reader_free(all);
    q2_reader_free(some);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

static void test_accessors(void)
{
    struct q2_image *image, *backing;
    g_autofree char *path = NULL;
    struct q2_reader *reader;
    struct q2_extent e;
    struct qcow2_rig r;
    uint8_t byte = 1;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "head -c 65536 /dev/zero | tr '\\0' x > b.raw");
    create(&r, "t.qcow2", "-b b.raw -F raw", 2 * MIB);
    path = qcow2_rig_path(&r, "t.qcow2");
    image = qcow2_open(&r, "t.qcow2", Q2_REFERENCES_FOLDER);
    backing = q2_image_backing(image);
    g_assert_cmpstr(q2_image_path(image), ==, path);
    g_assert_cmpstr(q2_image_header(image)->backing, ==, "b.raw");
    g_assert_nonnull(backing);
    g_assert_null(q2_image_header(backing));
    g_assert_null(q2_image_backing(backing));
    g_assert_cmpuint(q2_image_size(backing), ==, 65536);
    q2_image_close(image);
    image = qcow2_open(&r, "t.qcow2", Q2_REFERENCES_NONE);
    g_assert_null(q2_image_backing(image));
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_extent(reader, 0, 2 * MIB, UINT_MAX, &e, NULL), ==, 0);
    g_assert_cmpint(e.kind, ==, Q2_UNALLOCATED);
    g_assert_cmpint(q2_image_pread(reader, &byte, 1, 5, NULL), ==, 0);
    g_assert_cmpint(byte, ==, 0);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

/* ---- names ---- */

/* Give image `name` another name of its backing file, and the format. */
static void rename_backing(const struct qcow2_rig *r, const char *name, const char *backing)
{
    qcow2_rig_run(r, "qemu-img rebase -u -F qcow2 -b '%s' %s", backing, name);
}

static void assert_taken(const struct qcow2_rig *r, const char *name, enum q2_references references)
{
    struct q2_image *image = qcow2_open(r, name, references);

    g_assert_nonnull(q2_image_backing(image));
    q2_image_close(image);
}

static void test_names(void)
{
    static const char *const no_paths[] = {
        "json:{\"file.filename\": \"x\"}", "nbd:unix:/x", "fat:.", "file:base.qcow2", "a:b",
        "https://example.org/base.qcow2"};
    g_autofree char *absolute = NULL;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "mkdir in in/sub");
    create(&r, "base.qcow2", "", MIB);
    create(&r, "in/base.qcow2", "", MIB);
    create(&r, "in/a:b", "", MIB);
    create(&r, "in/top.qcow2", "-b base.qcow2 -F qcow2", MIB);
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER);
    for (unsigned i = 0; i < G_N_ELEMENTS(no_paths); i++) {
        rename_backing(&r, "in/top.qcow2", no_paths[i]);
        qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "which is no path");
        qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_ANY, "which is no path");
    }
    rename_backing(&r, "in/top.qcow2", "./a:b");
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER);
    /* Outside, by ways that are more and less honest. */
    rename_backing(&r, "in/top.qcow2", "../base.qcow2");
    qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_ANY);
    absolute = qcow2_rig_path(&r, "base.qcow2");
    rename_backing(&r, "in/top.qcow2", absolute);
    qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_ANY);
    qcow2_rig_run(&r, "ln -s ../base.qcow2 in/link && ln -s .. in/up");
    rename_backing(&r, "in/top.qcow2", "link");
    qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    rename_backing(&r, "in/top.qcow2", "up/base.qcow2");
    qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    /* A folder whose name begins in the same way is another one. */
    qcow2_rig_run(&r, "mkdir inn && cp base.qcow2 inn");
    rename_backing(&r, "in/top.qcow2", "../inn/base.qcow2");
    qcow2_assert_refused(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    /* Inside. */
    rename_backing(&r, "in/top.qcow2", "sub/../../in/base.qcow2");
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER);
    qcow2_rig_run(&r, "ln -sf base.qcow2 in/link");
    rename_backing(&r, "in/top.qcow2", "link");
    assert_taken(&r, "in/top.qcow2", Q2_REFERENCES_FOLDER);
    qcow2_rig_end(&r);
}

/* Names are relative to where the file that has them really is; all files of a chain lie below the
 * folder of the first. */
static void test_folders(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "mkdir sub elsewhere");
    create(&r, "base.qcow2", "", MIB);
    create(&r, "sub/middle.qcow2", "-b ../base.qcow2 -F qcow2", MIB);
    create(&r, "top.qcow2", "-b sub/middle.qcow2 -F qcow2", MIB);
    assert_taken(&r, "top.qcow2", Q2_REFERENCES_FOLDER);
    qcow2_assert_refused(&r, "sub/middle.qcow2", Q2_REFERENCES_FOLDER, "does not lie below");
    qcow2_rig_run(&r, "ln -s ../top.qcow2 elsewhere/link");
    assert_taken(&r, "elsewhere/link", Q2_REFERENCES_FOLDER);
    qcow2_rig_end(&r);
}

static void test_formats(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "base.qcow2", "", MIB);
    create(&r, "top.qcow2", "-b base.qcow2 -F qcow2", MIB);
    qcow2_rig_run(&r, "qemu-img create -q -f raw base.raw 1M");
    qcow2_rig_run(&r, "qemu-img rebase -u -F raw -b base.raw top.qcow2");
    assert_taken(&r, "top.qcow2", Q2_REFERENCES_FOLDER);
    qcow2_rig_run(&r, "qemu-img rebase -u -F vmdk -b base.raw top.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "'vmdk'");
    qcow2_rig_run(&r, "qemu-img rebase -u -F qcow2 -b base.raw top.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "no qcow2 file");
    qcow2_rig_end(&r);
}

/* The format is not guessed. */
static void test_no_format(void)
{
    uint64_t at = 112;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "base.qcow2", "", MIB);
    create(&r, "top.qcow2", "-b base.qcow2 -F qcow2", MIB);
    while (qcow2_rig_get(&r, "top.qcow2", at, 4) != 0xe2792aca)
        at += 8 + ((qcow2_rig_get(&r, "top.qcow2", at + 4, 4) + 7) & ~UINT64_C(7));
    qcow2_rig_put(&r, "top.qcow2", at, 4, 0x12345678); /* an extension that nobody knows */
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "does not state the format");
    qcow2_rig_end(&r);
}

static void test_loops(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "a.qcow2", "", MIB);
    create(&r, "b.qcow2", "-b a.qcow2 -F qcow2", MIB);
    rename_backing(&r, "a.qcow2", "b.qcow2");
    qcow2_assert_refused(&r, "b.qcow2", Q2_REFERENCES_FOLDER, "loop");
    rename_backing(&r, "a.qcow2", "a.qcow2");
    qcow2_assert_refused(&r, "a.qcow2", Q2_REFERENCES_FOLDER, "loop");
    qcow2_rig_run(&r, "ln b.qcow2 hard && ln -s b.qcow2 soft");
    rename_backing(&r, "a.qcow2", "hard");
    qcow2_assert_refused(&r, "b.qcow2", Q2_REFERENCES_FOLDER, "loop");
    rename_backing(&r, "a.qcow2", "soft");
    qcow2_assert_refused(&r, "b.qcow2", Q2_REFERENCES_FOLDER, "loop");
    /* An image that is its own data. */
    create(&r, "d.qcow2", "-o data_file=abcdefg", MIB);
    qcow2_assert_same(&r, "d.qcow2");
    qcow2_rig_run(&r, "rm abcdefg && ln d.qcow2 abcdefg");
    qcow2_assert_refused(&r, "d.qcow2", Q2_REFERENCES_FOLDER, "loop");
    qcow2_assert_refused(&r, "d.qcow2", Q2_REFERENCES_NONE, "may not name any");
    qcow2_rig_run(&r, "rm abcdefg");
    qcow2_assert_refused(&r, "d.qcow2", Q2_REFERENCES_FOLDER, "No such file");
    qcow2_rig_end(&r);
}

/* Only files and block devices; nothing waits. */
static void test_files(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "base.qcow2", "", MIB);
    create(&r, "top.qcow2", "-b base.qcow2 -F qcow2", MIB);
    qcow2_rig_run(&r, "rm base.qcow2 && mkfifo base.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "no regular file");
    qcow2_assert_refused(&r, "base.qcow2", Q2_REFERENCES_FOLDER, "no regular file");
    qcow2_rig_run(&r, "rm base.qcow2 && mkdir base.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "no regular file");
    qcow2_rig_run(&r, "rmdir base.qcow2 && ln -s /dev/zero base.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_ANY, "no regular file");
    qcow2_rig_run(&r, "rm base.qcow2");
    qcow2_assert_refused(&r, "top.qcow2", Q2_REFERENCES_FOLDER, "No such file");
    qcow2_assert_refused(&r, "nothing", Q2_REFERENCES_FOLDER, "No such file");
    qcow2_rig_run(&r, "touch empty");
    qcow2_assert_refused(&r, "empty", Q2_REFERENCES_FOLDER, "ends inside");
    qcow2_rig_end(&r);
}

/* A chain of so many files: each is the template, with the name of the next. */
static void make_chain(const struct qcow2_rig *r, unsigned n)
{
    size_t size;
    g_autofree uint8_t *bytes = NULL;
    uint64_t at;

    create(r, "next", "", MIB);
    create(r, "t", "-u -b name0000 -F qcow2 -o cluster_size=512", 65536);
    at = qcow2_rig_get(r, "t", 8, 8);
    bytes = qcow2_rig_bytes(r, "t", &size);
    for (unsigned i = 0; i < n; i++) {
        g_autofree char *name = g_strdup_printf("name%04u", i);
        g_autofree char *next = g_strdup_printf("name%04u", i + 1);
        g_autofree char *path = qcow2_rig_path(r, name);

        memcpy(bytes + at, next, 8);
        g_assert_true(g_file_set_contents(path, (char *)bytes, (gssize)size, NULL));
    }
    qcow2_rig_run(r, "mv next name%04u", n);
}

static void test_length(void)
{
    struct rlimit before, more;
    struct q2_reader *reader;
    struct q2_image *image;
    struct qcow2_rig r;
    uint8_t bytes[1024];
    unsigned files = 0;

    g_assert_cmpint(getrlimit(RLIMIT_NOFILE, &before), ==, 0);
    more = (struct rlimit){Q2_CHAIN_MAX + 100, before.rlim_max};
    if (setrlimit(RLIMIT_NOFILE, &more) < 0) {
        g_test_skip("so many files cannot be open here");
        return;
    }
    if (!qcow2_rig_begin(&r))
        return;
    make_chain(&r, Q2_CHAIN_MAX);
    qcow2_assert_refused(&r, "name0000", Q2_REFERENCES_FOLDER, "more than 1024 files");
    image = qcow2_open(&r, "name0001", Q2_REFERENCES_FOLDER);
    for (const struct q2_image *i = image; i; i = q2_image_backing(i))
        files++;
    g_assert_cmpuint(files, ==, Q2_CHAIN_MAX);
    q2_image_close(image);
    qcow2_rig_run(&r, "qemu-io -f qcow2 -c 'write -q -P 9 512 512' name%04u", Q2_CHAIN_MAX);
    image = qcow2_open(&r, "name0001", Q2_REFERENCES_FOLDER);
    reader = q2_reader_new(image, NULL);
    g_assert_cmpint(q2_image_pread(reader, bytes, 1024, 0, NULL), ==, 0);
    g_assert_cmpint(bytes[511], ==, 0);
    g_assert_cmpint(bytes[512], ==, 9);
    q2_reader_free(reader);
    q2_image_close(image);
    qcow2_rig_end(&r);
    setrlimit(RLIMIT_NOFILE, &before);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/chain/content", test_content);
    g_test_add_func("/chain/compressed", test_compressed);
    g_test_add_func("/chain/raw", test_raw);
    g_test_add_func("/chain/shorter", test_shorter_in_the_middle);
    g_test_add_func("/chain/depth", test_depth);
    g_test_add_func("/chain/accessors", test_accessors);
    g_test_add_func("/chain/names", test_names);
    g_test_add_func("/chain/folders", test_folders);
    g_test_add_func("/chain/formats", test_formats);
    g_test_add_func("/chain/no-format", test_no_format);
    g_test_add_func("/chain/loops", test_loops);
    g_test_add_func("/chain/files", test_files);
    g_test_add_func("/chain/length", test_length);
    return g_test_run();
}
