/* SPDX-License-Identifier: BSD-3-Clause */
/* Opening with options: what stands in for names, folders that are allowed, for writing, internal
 * snapshots; and names that lead to what is no image's business. */
#include "common/qcow2/q2-image-private.h"
#include "tests/rigs/qcow2-oracle.h"

#include <fcntl.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

/* A folder with in/top.qcow2 over in/base.qcow2, and there/base.qcow2 over there/low.raw; each is filled
 * with a byte of its own. */
static bool begin(struct qcow2_rig *r)
{
    if (!qcow2_rig_begin(r))
        return false;
    qcow2_rig_run(r, "mkdir in there && qemu-img create -q -f qcow2 in/base.qcow2 1M && "
                     "qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 in/top.qcow2 1M && "
                     "qemu-img create -q -f raw there/low.raw 1M && "
                     "qemu-img create -q -f qcow2 -b low.raw -F raw there/base.qcow2 1M && "
                     "qemu-io -f qcow2 -c 'write -q -P 1 0 512k' in/base.qcow2 && "
                     "qemu-io -f raw -c 'write -q -P 3 0 1M' there/low.raw && "
                     "qemu-io -f qcow2 -c 'write -q -P 2 0 512k' there/base.qcow2 && "
                     "qemu-io -f qcow2 -c 'write -q -P 9 0 64k' in/top.qcow2");
    return true;
}

static struct q2_image *open_with(const struct qcow2_rig *r, const char *name,
                                  const struct q2_open_options *o)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    struct q2_error err;
    struct q2_image *image = q2_image_open_with(path, o, &err);

    if (!image)
        g_error("%s", err.text);
    return image;
}

static void assert_refused(const struct qcow2_rig *r, const char *name,
                           const struct q2_open_options *o, const char *text)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    struct q2_error err = {0, ""};

    g_assert_null(q2_image_open_with(path, o, &err));
    if (!strstr(err.text, text))
        g_error("'%s' has no '%s'", err.text, text);
    g_assert_null(q2_image_open_with(path, o, NULL));
}

/* The byte at `offset` of the disk. */
static void assert_bytes(struct q2_image *image, uint64_t offset, unsigned byte)
{
    struct q2_reader *reader = q2_reader_new(image, NULL);
    uint8_t got = 0;

    g_assert_cmpint(q2_image_pread(reader, &got, 1, offset, NULL), ==, 0);
    g_assert_cmpuint(got, ==, byte);
    q2_reader_free(reader);
}

/* ---- what stands in for names ---- */

static void test_backing(void)
{
    g_autofree char *other = NULL, *nothing = NULL;
    struct q2_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    other = qcow2_rig_path(&r, "there/base.qcow2");
    nothing = qcow2_rig_path(&r, "there/nothing");
    /* What that file names lies in its own folder. */
    image = open_with(&r, "in/top.qcow2", &(struct q2_open_options){.backing = other});
    assert_bytes(image, 0, 9);
    assert_bytes(image, 65536, 2);
    assert_bytes(image, MIB - 1, 3);
    q2_image_close(image);
    image = open_with(&r, "in/top.qcow2",
                      &(struct q2_open_options){.backing = other, .backing_format = "raw"});
    assert_bytes(image, 65536, 0);
    g_assert_null(q2_image_backing(q2_image_backing(image)));
    q2_image_close(image);
    /* An image that names none; and without names of images, that of the caller counts. */
    image = open_with(&r, "in/base.qcow2",
                      &(struct q2_open_options){.references = Q2_REFERENCES_NONE,
                                                .backing = other,
                                                .backing_format = "qcow2"});
    assert_bytes(image, 0, 1);
    assert_bytes(image, MIB / 2, 0);
    g_assert_null(q2_image_backing(q2_image_backing(image)));
    q2_image_close(image);
    assert_refused(&r, "in/base.qcow2", &(struct q2_open_options){.backing = other},
                   "does not state the format");
    assert_refused(&r, "in/top.qcow2",
                   &(struct q2_open_options){.backing = other, .backing_format = "vmdk"}, "'vmdk'");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.backing = nothing},
                   "No such file");
    qcow2_rig_run(&r, "ln -s ../in/top.qcow2 there/nothing");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.backing = nothing}, "a loop");
    qcow2_rig_end(&r);
}

/* The format alone: where the image does not state it. */
static void test_backing_format(void)
{
    struct q2_image *image;
    uint64_t at = 112;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    while (qcow2_rig_get(&r, "in/top.qcow2", at, 4) != 0xe2792aca)
        at += 8 + ((qcow2_rig_get(&r, "in/top.qcow2", at + 4, 4) + 7) & ~UINT64_C(7));
    qcow2_rig_put(&r, "in/top.qcow2", at, 4, 0x12345678);
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){0}, "does not state the format");
    image = open_with(&r, "in/top.qcow2", &(struct q2_open_options){.backing_format = "qcow2"});
    assert_bytes(image, 65536, 1);
    q2_image_close(image);
    qcow2_rig_end(&r);
}

static void test_data_file(void)
{
    g_autofree char *other = NULL, *itself = NULL, *base = NULL;
    struct q2_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    other = qcow2_rig_path(&r, "there/data");
    itself = qcow2_rig_path(&r, "in/d.qcow2");
    base = qcow2_rig_path(&r, "in/base.qcow2");
    qcow2_rig_run(&r, "cd in && qemu-img create -q -f qcow2 -o data_file=data -b base.qcow2 "
                      "-F qcow2 d.qcow2 1M && qemu-io -f qcow2 -c 'write -q -P 5 0 1M' d.qcow2");
    image = open_with(&r, "in/d.qcow2", &(struct q2_open_options){0});
    assert_bytes(image, 0, 5);
    g_assert_cmpint(fcntl(image->data.fd, F_GETFL) & O_ACCMODE, ==, O_RDONLY);
    q2_image_close(image);
    qcow2_rig_run(&r, "mv in/data there/data");
    assert_refused(&r, "in/d.qcow2", &(struct q2_open_options){0}, "No such file");
    image = open_with(&r, "in/d.qcow2", &(struct q2_open_options){.data_file = other});
    assert_bytes(image, 0, 5);
    q2_image_close(image);
    /* A file of the chain is no data file, neither that of the image nor the backing file. */
    assert_refused(&r, "in/d.qcow2", &(struct q2_open_options){.data_file = itself}, "a loop");
    assert_refused(&r, "in/d.qcow2", &(struct q2_open_options){.data_file = base}, "a loop");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.data_file = other},
                   "has no data file");
    qcow2_rig_end(&r);
}

/* ---- folders that are allowed ---- */

static void assert_allowed(const struct qcow2_rig *r, const char *first, const char *second)
{
    const char *const allow[] = {first, second, NULL};
    struct q2_image *image =
        open_with(r, "in/top.qcow2", &(struct q2_open_options){.allow = allow});

    assert_bytes(image, MIB - 1, 3);
    q2_image_close(image);
}

static void test_allow(void)
{
    g_autofree char *there = NULL, *link = NULL, *nothing = NULL, *in = NULL;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    in = qcow2_rig_path(&r, "in");
    there = qcow2_rig_path(&r, "there");
    link = qcow2_rig_path(&r, "in/link");
    nothing = qcow2_rig_path(&r, "ther");
    const char *const missing[] = {there, nothing, NULL}, *const own[] = {in, NULL};
    qcow2_rig_run(&r, "qemu-img rebase -u -F qcow2 -b ../there/base.qcow2 in/top.qcow2");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){0}, "does not lie below");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.allow = own},
                   "one that is allowed");
    assert_allowed(&r, there, NULL);
    assert_allowed(&r, in, there);
    /* What is allowed is where a link leads; and names may go through links as they like. */
    qcow2_rig_run(&r, "ln -s ../there in/link");
    assert_allowed(&r, link, NULL);
    qcow2_rig_run(&r, "qemu-img rebase -u -F qcow2 -b link/base.qcow2 in/top.qcow2");
    assert_allowed(&r, there, NULL);
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.allow = own},
                   "one that is allowed");
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){.allow = missing}, "No such file");
    /* A folder that lies below another, and one that does not. */
    qcow2_rig_run(&r, "mkdir ther there/sub && mv there/low.raw there/sub && "
                      "qemu-img rebase -u -F raw -b sub/low.raw there/base.qcow2");
    assert_allowed(&r, there, NULL);
    assert_refused(&r, "in/top.qcow2",
                   &(struct q2_open_options){.allow = (const char *const[]){nothing, NULL}},
                   "one that is allowed");
    qcow2_rig_end(&r);
}

/* ---- what is no file of an image ---- */

static void name_backing(const struct qcow2_rig *r, const char *name)
{
    qcow2_rig_run(r, "qemu-img rebase -u -F raw -b '%s' in/top.qcow2", name);
}

/* A pipe, a folder, a device: nobody waits, and nothing is opened. */
static void test_kinds(void)
{
    static const enum q2_references references[] = {Q2_REFERENCES_FOLDER, Q2_REFERENCES_ANY};
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    qcow2_rig_run(&r, "mkfifo in/fifo && mkdir in/folder");
    for (unsigned i = 0; i < G_N_ELEMENTS(references); i++) {
        struct q2_open_options o = {.references = references[i]};

        name_backing(&r, "fifo");
        assert_refused(&r, "in/top.qcow2", &o, "is no regular file and no block device");
        name_backing(&r, "folder");
        assert_refused(&r, "in/top.qcow2", &o, "is no regular file and no block device");
        name_backing(&r, "/dev/null");
        assert_refused(&r, "in/top.qcow2", &o, "is no regular file and no block device");
        name_backing(&r, "nothing");
        assert_refused(&r, "in/top.qcow2", &o, "No such file");
    }
    assert_refused(&r, "in/fifo", &(struct q2_open_options){.writable = true},
                   "is no regular file");
    assert_refused(&r, "in", &(struct q2_open_options){.writable = true}, "is no regular file");
    qcow2_rig_end(&r);
}

/* A file that an image may not name is not even opened, whatever that would do. */
static void test_not_opened(void)
{
    int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    g_autofree char *low = NULL;
    char event[4096];
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    qcow2_rig_run(&r, "cd in && qemu-img create -q -f qcow2 -o data_file=d d.qcow2 1M && "
                      "rm d && ln -s ../there/low.raw d");
    name_backing(&r, "../there/low.raw");
    low = qcow2_rig_path(&r, "there/low.raw");
    g_assert_cmpint(inotify_add_watch(watch, low, IN_OPEN), >=, 0);
    assert_refused(&r, "in/top.qcow2", &(struct q2_open_options){0}, "does not lie below");
    assert_refused(&r, "in/d.qcow2", &(struct q2_open_options){.writable = true},
                   "does not lie below");
    g_assert_cmpint(read(watch, event, sizeof(event)), ==, -1);
    q2_image_close(
        open_with(&r, "in/top.qcow2", &(struct q2_open_options){.references = Q2_REFERENCES_ANY}));
    g_assert_cmpint(read(watch, event, sizeof(event)), >, 0);
    close(watch);
    qcow2_rig_end(&r);
}

/* ---- for writing ---- */

static int access_of(const struct q2_file *f)
{
    return fcntl(f->fd, F_GETFL) & O_ACCMODE;
}

/* The image and its data file, and nothing below. */
static void test_writable(void)
{
    struct q2_open_options o = {.writable = true};
    struct q2_image *image;
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    qcow2_rig_run(&r, "cd in && qemu-img create -q -f qcow2 -o data_file=d -b top.qcow2 -F qcow2 "
                      "d.qcow2 1M && chmod a-w base.qcow2");
    image = open_with(&r, "in/d.qcow2", &o);
    g_assert_cmpint(access_of(&image->file), ==, O_RDWR);
    g_assert_cmpint(access_of(&image->data), ==, O_RDWR);
    g_assert_cmpint(access_of(&image->backing->file), ==, O_RDONLY);
    g_assert_cmpint(access_of(&image->backing->backing->file), ==, O_RDONLY);
    q2_image_close(image);
    if (geteuid() != 0)
        assert_refused(&r, "in/base.qcow2", &o, "for writing: Permission denied");
    qcow2_rig_end(&r);
}

static void test_most_files(void)
{
    struct q2_open_options o = {.files = 2};
    struct qcow2_rig r;

    if (!begin(&r))
        return;
    q2_image_close(open_with(&r, "in/top.qcow2", &o));
    o.files = 1;
    assert_refused(&r, "in/top.qcow2", &o, "more than 1 files");
    qcow2_rig_end(&r);
}

/* ---- internal snapshots ---- */

/* `qemu-img convert` has the snapshot's disk, which is what we read; its size, which may have been
 * smaller, is not the snapshot's there. */
static void assert_snapshot(const struct qcow2_rig *r, const char *which, size_t size)
{
    struct q2_open_options o = {.snapshot = which};
    struct q2_image *image = open_with(r, "i.qcow2", &o);
    struct q2_reader *reader = q2_reader_new(image, NULL);
    g_autofree uint8_t *expected = NULL, *got = NULL;
    struct q2_error err;
    size_t largest;

    qcow2_rig_run(r, "qemu-img convert -l %s -f qcow2 -O raw i.qcow2 snapshot.raw", which);
    expected = qcow2_rig_bytes(r, "snapshot.raw", &largest);
    g_assert_cmpuint(largest, >=, size);
    g_assert_cmpuint(q2_image_size(image), ==, size);
    got = g_malloc(size);
    if (q2_image_pread(reader, got, size, 0, &err) < 0)
        g_error("%s", err.text);
    g_assert_cmpint(memcmp(expected, got, size), ==, 0);
    q2_reader_free(reader);
    q2_image_close(image);
}

static void test_snapshots(void)
{
    static const char *const options[] = {"", "-o compat=0.10", "-o cluster_size=512",
                                          "-o extended_l2=on"};
    struct qcow2_rig r;

    for (unsigned i = 0; i < G_N_ELEMENTS(options); i++) {
        if (!qcow2_rig_begin(&r))
            return;
        qcow2_rig_run(&r, "qemu-img create -q -f qcow2 %s i.qcow2 3M", options[i]);
        qcow2_rig_fill(&r, "i.qcow2", 3 * MIB, 10);
        qcow2_rig_run(&r, "qemu-img snapshot -c a i.qcow2");
        qcow2_rig_fill(&r, "i.qcow2", 3 * MIB, 10);
        /* A disk that has grown since; version 2 cannot, with snapshots. */
        if (i != 1)
            qcow2_rig_run(&r, "qemu-img resize -q -f qcow2 i.qcow2 40M");
        qcow2_rig_run(&r, "qemu-img snapshot -c 1 i.qcow2");
        qcow2_rig_fill(&r, "i.qcow2", 3 * MIB, 10);
        assert_snapshot(&r, "a", 3 * MIB);
        assert_snapshot(&r, "1", 3 * MIB); /* an ID, and not the name of the second one */
        assert_snapshot(&r, "2", i == 1 ? 3 * MIB : 40 * MIB);
        qcow2_assert_same(&r, "i.qcow2");
        assert_refused(&r, "i.qcow2", &(struct q2_open_options){.snapshot = "b"},
                       "has no internal snapshot 'b'");
        assert_refused(&r, "i.qcow2", &(struct q2_open_options){.snapshot = "a", .writable = true},
                       "can only be read");
        qcow2_rig_end(&r);
    }
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/open/backing", test_backing);
    g_test_add_func("/open/backing-format", test_backing_format);
    g_test_add_func("/open/data-file", test_data_file);
    g_test_add_func("/open/allow", test_allow);
    g_test_add_func("/open/kinds", test_kinds);
    g_test_add_func("/open/not-opened", test_not_opened);
    g_test_add_func("/open/writable", test_writable);
    g_test_add_func("/open/most-files", test_most_files);
    g_test_add_func("/open/snapshots", test_snapshots);
    return g_test_run();
}
