/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening and closing live images: what is refused, what is told, and that an image which is only opened stays as
 * it is. */
#include "common/live/live-policy.h"
#include "tests/rigs/qcow2-rig.h"

#include <string.h>

#define MIB (UINT64_C(1) << 20)

/* What has been told, a line each. */
static void note(void *opaque, const char *sentence)
{
    g_string_append_printf(opaque, "%s\n", sentence);
}

static struct live_image *open_with(const struct qcow2_rig *r, const char *name,
                                    const struct live_options *o)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    struct q2_error err;
    struct live_image *image = live_open(path, o, &err);

    if (!image)
        g_error("%s", err.text);
    return image;
}

static struct live_image *open_image(const struct qcow2_rig *r, const char *name, bool writable)
{
    return open_with(r, name, &(struct live_options){.writable = writable, .locking = true});
}

static void close_image(struct live_image *image)
{
    struct q2_error err;

    if (live_close(image, &err) < 0)
        g_error("%s", err.text);
}

static void assert_refused_with(const struct qcow2_rig *r, const char *name,
                                const struct live_options *o, const char *text)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    g_autofree uint8_t *before = NULL, *after = NULL;
    size_t size_before, size_after;
    struct q2_error err = {0, ""};

    before = qcow2_rig_bytes(r, name, &size_before);
    g_assert_null(live_open(path, o, &err));
    if (!strstr(err.text, text))
        g_error("'%s' has no '%s'", err.text, text);
    g_assert_null(live_open(path, o, NULL));
    after = qcow2_rig_bytes(r, name, &size_after);
    g_assert_cmpmem(before, size_before, after, size_after);
}

/* It is not opened for writing, and left as it is; but for reading, when `told` is said (NULL: nothing). */
static void assert_readonly(const struct qcow2_rig *r, const char *name, const char *text,
                            const char *told)
{
    g_autoptr(GString) said = g_string_new("");

    assert_refused_with(r, name, &(struct live_options){.writable = true}, text);
    assert_refused_with(r, name, &(struct live_options){.writable = true}, "read-only");
    live_close(open_with(r, name, &(struct live_options){.tell = note, .opaque = said}), NULL);
    if (told)
        g_assert_nonnull(strstr(said->str, told));
    else
        g_assert_cmpstr(said->str, ==, "");
}

static void create(const struct qcow2_rig *r, const char *name, const char *options)
{
    qcow2_rig_run(r, "qemu-img create -q -f qcow2 %s %s 4M", options, name);
}

/* ---- what is refused ---- */

static void test_marks(void)
{
    g_autoptr(GString) said = g_string_new("");
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "i.qcow2", "");
    qcow2_rig_put(&r, "i.qcow2", 72, 8, Q2_INCOMPATIBLE_DIRTY);
    assert_readonly(&r, "i.qcow2", "fleecectl image check --repair all", "was not closed");
    qcow2_rig_put(&r, "i.qcow2", 72, 8, Q2_INCOMPATIBLE_CORRUPT);
    assert_readonly(&r, "i.qcow2", "marked as corrupt", "marked as corrupt");
    /* In a backing file, which is told of by its name. */
    create(&r, "top.qcow2", "-b i.qcow2 -F qcow2 -u");
    close_image(open_with(&r, "top.qcow2",
                          &(struct live_options){.writable = true, .tell = note, .opaque = said}));
    g_assert_nonnull(strstr(said->str, "i.qcow2' is marked as corrupt"));
    qcow2_rig_end(&r);
}

static void test_content(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "s.qcow2", "");
    qcow2_rig_run(
        &r, "qemu-io -f qcow2 -c 'write -q 0 1M' s.qcow2 && qemu-img snapshot -c a s.qcow2 && "
            "qemu-img snapshot -c b s.qcow2");
    assert_readonly(&r, "s.qcow2", "has 2 internal snapshots", NULL);
    create(&r, "b.qcow2", "");
    qcow2_rig_run(&r, "qemu-img bitmap --add b.qcow2 b0");
    assert_readonly(&r, "b.qcow2", "persistent bitmaps", NULL);
    /* What is said to do helps. */
    qcow2_rig_run(&r, "qemu-img snapshot -d a s.qcow2 && qemu-img snapshot -d b s.qcow2");
    qcow2_rig_run(&r, "qemu-img bitmap --remove b.qcow2 b0");
    close_image(open_image(&r, "s.qcow2", true));
    close_image(open_image(&r, "b.qcow2", true));
    qcow2_rig_end(&r);
}

/* A table that is not the image's own, and one that is too short for the disk. */
static void test_l1(void)
{
    uint64_t l1, word;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "i.qcow2", "");
    qcow2_rig_run(&r, "qemu-io -f qcow2 -c 'write -q 0 64k' i.qcow2");
    l1 = qcow2_rig_get(&r, "i.qcow2", 40, 8);
    word = qcow2_rig_get(&r, "i.qcow2", l1, 8);
    qcow2_rig_put(&r, "i.qcow2", l1, 8, word & ~Q2_ENTRY_COPIED);
    assert_refused_with(&r, "i.qcow2", &(struct live_options){.writable = true}, "is shared");
    close_image(open_image(&r, "i.qcow2", false));
    qcow2_rig_put(&r, "i.qcow2", l1, 8, word);
    qcow2_rig_put(&r, "i.qcow2", 24, 8, UINT64_C(1) << 40);
    assert_refused_with(&r, "i.qcow2", &(struct live_options){.writable = true}, "too few");
    assert_refused_with(&r, "i.qcow2", &(struct live_options){0}, "too few");
    qcow2_rig_end(&r);
}

/* What the image does not have would read as zeroes. */
static void test_no_names(void)
{
    struct live_options o = {.open = {.references = Q2_REFERENCES_NONE}};
    g_autofree char *base = NULL;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "base.qcow2", "");
    create(&r, "top.qcow2", "-b base.qcow2 -F qcow2");
    close_image(open_with(&r, "base.qcow2", &o));
    assert_refused_with(&r, "top.qcow2", &o, "may not name any");
    o.writable = true;
    assert_refused_with(&r, "top.qcow2", &o, "may not name any");
    base = qcow2_rig_path(&r, "base.qcow2");
    o.open.backing = base;
    close_image(open_with(&r, "top.qcow2", &o));
    qcow2_rig_end(&r);
}

static void test_length(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "name000", "");
    for (unsigned i = 1; i < LIVE_CHAIN_MOST + 1; i++)
        qcow2_rig_run(&r, "qemu-img create -q -f qcow2 -u -b name%03u -F qcow2 name%03u 4M", i - 1,
                      i);
    close_image(open_image(&r, "name199", false));
    assert_refused_with(&r, "name200", &(struct live_options){0}, "more than 200 files");
    qcow2_rig_end(&r);
}

/* ---- open, and closed ---- */

static const char *const kinds[] = {
    "",
    "-o compat=0.10",
    "-o cluster_size=512",
    "-o cluster_size=2M",
    "-o extended_l2=on",
    "-o preallocation=metadata",
    "-o lazy_refcounts=on",
    "-o refcount_bits=1",
    "-o refcount_bits=64",
    "-o data_file=d.raw",
    "-o data_file=d.raw,data_file_raw=on",
};

/* An image that was only opened has the same bytes after it. With a thread, which prepares space, there may
 * be some more blocks of counts; there are no leaks. */
static void test_untouched(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree uint8_t *before = NULL, *after = NULL, *disk = NULL, *disk_after = NULL;
        size_t size_before, size_after, size;
        struct live_image *image;
        struct q2_error err;
        struct qcow2_rig r;

        if (!qcow2_rig_begin(&r))
            return;
        create(&r, "i.qcow2", kinds[i]);
        qcow2_rig_fill(&r, "i.qcow2", 4 * MIB, 5);
        before = qcow2_rig_bytes(&r, "i.qcow2", &size_before);
        disk = qcow2_rig_disk(&r, "i.qcow2", &size);
        close_image(open_image(&r, "i.qcow2", false));
        close_image(open_image(&r, "i.qcow2", true));
        after = qcow2_rig_bytes(&r, "i.qcow2", &size_after);
        g_assert_cmpmem(before, size_before, after, size_after);
        for (int times = 0; times < 3; times++) {
            image = open_image(&r, "i.qcow2", true);
            g_assert_cmpint(live_start(image, &err), ==, 0);
            close_image(image);
        }
        qcow2_rig_run(&r, "qemu-img check -q i.qcow2 && test $(stat -c %%s i.qcow2) -lt %zu",
                      size_before + 200000);
        disk_after = qcow2_rig_disk(&r, "i.qcow2", &size_after);
        g_assert_cmpmem(disk, size, disk_after, size_after);
        qcow2_rig_end(&r);
    }
}

/* What is written is there when the image is closed. */
static void test_written(void)
{
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++)
        for (int start = 0; start < 2; start++) {
            struct live_image *image;
            struct q2_error err;
            struct qcow2_rig r;

            if (!qcow2_rig_begin(&r))
                return;
            create(&r, "i.qcow2", kinds[i]);
            qcow2_rig_fill(&r, "i.qcow2", 2 * MIB, 5);
            image = open_image(&r, "i.qcow2", true);
            if (start)
                g_assert_cmpint(live_start(image, &err), ==, 0);
            g_assert_cmpint(live_pwrite(image, "abc", 3, 3 * MIB + 7, 0), ==, 0);
            g_assert_cmpint(live_pwrite(image, "d", 1, 512, 0), ==, 0);
            close_image(image);
            qcow2_rig_run(&r, "qemu-img check -q i.qcow2");
            qcow2_rig_run(&r,
                          "qemu-io -f qcow2 -c 'read -q -P 100 512 1' -c 'read -q -P 97 %u 1' "
                          "-c 'read -q -P 99 %u 1' -c 'read -q -P 0 %u 1' i.qcow2",
                          3145728 + 7, 3145728 + 9, 3145728 + 10);
            qcow2_rig_end(&r);
        }
}

static void test_facts(void)
{
    struct live_image *image;
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "base.qcow2", "");
    create(&r, "top.qcow2", "-b base.qcow2 -F qcow2");
    create(&r, "sub.qcow2", "-o extended_l2=on,cluster_size=128k -b base.qcow2 -F qcow2");
    image = open_image(&r, "base.qcow2", true);
    g_assert_cmpuint(live_size(image), ==, 4 * MIB);
    g_assert_true(live_writable(image));
    g_assert_cmpuint(live_preferred(image), ==, 4096);
    g_assert_cmpint(live_fd(image), >=, 0);
    close_image(image);
    image = open_image(&r, "top.qcow2", false);
    g_assert_false(live_writable(image));
    g_assert_cmpuint(live_preferred(image), ==, 65536);
    g_assert_nonnull(q2_image_backing((struct q2_image *)live_chain(image)));
    g_assert_cmpint(live_start(image, NULL), ==, 0);
    close_image(image);
    image = open_image(&r, "sub.qcow2", false);
    g_assert_cmpuint(live_preferred(image), ==, 4096);
    close_image(image);
    g_assert_cmpint(live_close(NULL, NULL), ==, 0);
    qcow2_rig_end(&r);
}

/* Tables have the memory that is given, however many files share it. */
static void test_memory(void)
{
    static const size_t memory[] = {1, 4096, 100000, 0, (size_t)1 << 40};
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    create(&r, "a.qcow2", "");
    qcow2_rig_run(&r, "qemu-io -f qcow2 -c 'write -q -P 7 0 4M' a.qcow2");
    create(&r, "b.qcow2", "-b a.qcow2 -F qcow2");
    create(&r, "c.qcow2", "-b b.qcow2 -F qcow2");
    for (unsigned i = 0; i < G_N_ELEMENTS(memory); i++) {
        struct live_options o = {.writable = i % 2, .table_memory = memory[i]};
        struct live_image *image = open_with(&r, "c.qcow2", &o);
        uint8_t byte = 0;

        g_assert_cmpint(live_pread(image, &byte, 1, 3 * MIB), ==, 0);
        g_assert_cmpint(byte, ==, 7);
        close_image(image);
    }
    qcow2_rig_end(&r);
}

/* A disk of 1 TiB with 2048 tables: only its L1 table is looked at. */
static void test_large(void)
{
    for (int writable = 0; writable < 2; writable++) {
        struct live_image *image;
        struct qcow2_rig r;
        gint64 began;

        if (!qcow2_rig_begin(&r))
            return;
        qcow2_rig_run(&r, "qemu-img create -q -f qcow2 i.qcow2 1T && "
                          "for i in $(seq 0 2047); do echo \"write -q $((i * 512))M 512\"; done | "
                          "qemu-io -f qcow2 i.qcow2 >/dev/null");
        began = g_get_monotonic_time();
        image = open_image(&r, "i.qcow2", writable);
        g_test_message("open in %" G_GINT64_FORMAT " us", g_get_monotonic_time() - began);
        began = g_get_monotonic_time();
        close_image(image);
        g_test_message("closed in %" G_GINT64_FORMAT " us", g_get_monotonic_time() - began);
        qcow2_rig_end(&r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/open/marks", test_marks);
    g_test_add_func("/open/content", test_content);
    g_test_add_func("/open/l1", test_l1);
    g_test_add_func("/open/no-names", test_no_names);
    g_test_add_func("/open/length", test_length);
    g_test_add_func("/open/untouched", test_untouched);
    g_test_add_func("/open/written", test_written);
    g_test_add_func("/open/facts", test_facts);
    g_test_add_func("/open/memory", test_memory);
    g_test_add_func("/open/large", test_large);
    return g_test_run();
}
