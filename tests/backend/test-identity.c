/* SPDX-License-Identifier: BSD-3-Clause */
/* What is known of an image: which it is, and whether somebody has written to it. */
#include "tests/backend/file-disk.h"
#include "tests/backend/loop.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct backend_identity ask(struct backend_handle *h)
{
    struct backend_identity identity;

    g_assert_cmpint(h->backend->ops->identity(h, &identity, NULL), ==, 0);
    g_assert_nonnull(identity.content);
    g_assert_cmpstr(identity.image, !=, "");
    return identity;
}

/* Of a file, opened for that. */
static struct backend_identity of_file(const char *path)
{
    struct disk d = open_disk("file", path);
    struct backend_identity identity = ask(d.h);

    close_disk(&d);
    return identity;
}

/* What was written is noticed also where it comes within the tick of a file system's clock. */
static void age(const char *path)
{
    const struct timespec times[2] = {{.tv_sec = 1000000000, .tv_nsec = 5},
                                      {.tv_sec = 1000000000, .tv_nsec = 5}};

    g_assert_cmpint(utimensat(AT_FDCWD, path, times, 0), ==, 0);
}

static bool same_image(const struct backend_identity *a, const struct backend_identity *b)
{
    return strcmp(a->image, b->image) == 0;
}

static bool same(const struct backend_identity *a, const struct backend_identity *b)
{
    return same_image(a, b) && strcmp(a->content, b->content) == 0 && a->modified == b->modified;
}

/* ---- our file plugin ---- */

static void test_written(void)
{
    g_autofree char *path = harness_file("written", MIB, NULL, 0);

    age(path);
    struct backend_identity first = of_file(path), again = of_file(path);
    g_assert_true(same(&first, &again));
    g_assert_cmpint(first.modified, ==, INT64_C(1000000000000000005));
    g_assert_false(first.transient);
    assert_contains(first.content, "size=1048576 mtime=1000000000.000000005 ctime=");

    struct disk d = open_disk("file", path);
    write_pattern(&d, 1, 512, 0, 0);
    struct backend_identity written = ask(d.h);
    close_disk(&d);
    g_assert_true(same_image(&first, &written));
    g_assert_cmpstr(first.content, !=, written.content);
    g_assert_cmpint(written.modified, >, first.modified);
    backend_identity_clear(&first);
    backend_identity_clear(&again);
    backend_identity_clear(&written);
    g_assert_null(first.image);
}

/* Somebody who sets the mtime back is noticed by the ctime. */
static void test_set_back(void)
{
    g_autofree char *path = harness_file("set-back", MIB, NULL, 0);

    age(path);
    struct backend_identity first = of_file(path), later;
    do {
        age(path);
        later = of_file(path);
        bool moved = strcmp(first.content, later.content) != 0;
        g_assert_cmpint(first.modified, ==, later.modified);
        backend_identity_clear(&later);
        if (moved)
            break;
    } while (true);
    backend_identity_clear(&first);
}

static void test_resized(void)
{
    g_autofree char *path = harness_file("resized", MIB, NULL, 0);
    struct backend_identity first = of_file(path);

    g_assert_cmpint(truncate(path, 2 * MIB), ==, 0);
    struct backend_identity later = of_file(path);
    g_assert_true(same_image(&first, &later));
    assert_contains(later.content, "size=2097152");
    backend_identity_clear(&first);
    backend_identity_clear(&later);
}

/* By another name it is the same image; under the same name there may be another. */
static void test_names(void)
{
    g_autofree char *path = harness_file("names", MIB, NULL, 0);
    g_autofree char *moved = g_strconcat(path, ".moved", NULL);
    struct backend_identity first = of_file(path);

    g_assert_cmpint(g_rename(path, moved), ==, 0);
    struct backend_identity later = of_file(moved);
    g_assert_true(same_image(&first, &later));
    g_autofree char *other = harness_file("names", MIB, NULL, 0);
    struct backend_identity stranger = of_file(other);
    g_assert_false(same_image(&first, &stranger));
    backend_identity_clear(&first);
    backend_identity_clear(&later);
    backend_identity_clear(&stranger);
}

/* An inode number that was free again is no longer the image that it was. */
static void test_reused_inode(void)
{
    g_autofree char *path = harness_file("reused", MIB, NULL, 0);
    struct backend_identity first = of_file(path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    long generation;
    bool has_generations = ioctl(fd, FS_IOC_GETVERSION, &generation) == 0;

    close(fd);
    if (!has_generations) {
        backend_identity_clear(&first);
        g_test_skip("this file system has no generations");
        return;
    }
    for (unsigned i = 0; i < 50; i++) {
        g_unlink(path);
        g_free(harness_file("reused", MIB, NULL, 0));
        struct backend_identity later = of_file(path);
        g_assert_false(same_image(&first, &later));
        backend_identity_clear(&later);
    }
    backend_identity_clear(&first);
}

/* However the file is opened, it is the same image. */
static void test_ways(void)
{
    g_autofree char *path = harness_file("ways", MIB, NULL, 0);
    struct backend_identity first = of_file(path);
    g_autofree char *link = g_strdup_printf("%s/vda", harness_dir());
    struct backend_handle *h;

    g_assert_cmpint(symlink(path, link), ==, 0);
    struct disk d = open_disk("dir", harness_dir()); /* the disk's name is vda */
    struct backend_identity identity = ask(d.h);
    g_assert_true(same(&first, &identity));
    backend_identity_clear(&identity);
    close_disk(&d);
    g_unlink(link);

    struct backend *b = harness_load("file", "file", path, NULL);
    g_assert_cmpint(b->ops->open(b, true, NULL, &h, NULL), ==, 0);
    identity = ask(h);
    g_assert_true(same(&first, &identity));
    backend_identity_clear(&identity);
    harness_close(h);
    harness_free(b);

    d = open_disk("file", path, "cache", "none");
    identity = ask(d.h);
    g_assert_true(same(&first, &identity));
    backend_identity_clear(&identity);
    close_disk(&d);
    backend_identity_clear(&first);
}

static void test_direct(void)
{
    g_autofree char *path = harness_file("direct", MIB, NULL, 0);
    struct backend_identity first = of_file(path);
    int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);

    if (fd < 0) {
        backend_identity_clear(&first);
        g_test_skip("this file system has no direct I/O");
        return;
    }
    close(fd);
    struct disk d = open_disk("file", path, "direct", "true");
    struct backend_identity identity = ask(d.h);
    g_assert_true(same(&first, &identity));
    backend_identity_clear(&identity);
    close_disk(&d);
    backend_identity_clear(&first);
}

/* ---- block devices ---- */

/* What a loop device over a file of this name is known by. NULL: the test was skipped. */
static char *image_of_loop(const char *name)
{
    g_autofree char *backing = harness_file(name, MIB, NULL, 0);
    struct loop device;

    if (!loop_take(&device, backing, 512, false))
        return NULL;
    struct backend_identity identity = of_file(device.path), again = of_file(device.path);
    g_assert_true(same(&identity, &again));
    g_assert_cmpstr(identity.content, ==, "");
    char *image = g_strdup(identity.image);
    backend_identity_clear(&identity);
    backend_identity_clear(&again);
    loop_release(&device);
    return image;
}

static void test_device(void)
{
    g_autofree char *image = image_of_loop("backing");
    g_autofree char *expected =
        g_strdup_printf("device loop/backing_file=%s/backing offset=0", harness_dir());

    if (image)
        g_assert_cmpstr(image, ==, expected);
}

/* A name that is cut short is that of others, too: then the number counts, in this boot only. */
static void test_device_without_name(void)
{
    g_autofree char *name = g_strnfill(200, 'n'), *image = image_of_loop(name);
    g_autofree char *boot = NULL;

    if (!image)
        return;
    g_assert_true(g_file_get_contents("/proc/sys/kernel/random/boot_id", &boot, NULL, NULL));
    g_assert_true(g_str_has_prefix(image, "device dev="));
    assert_contains(image, g_strstrip(boot));
}

/* ---- plugins that do not say ---- */

/* The identity of a plugin with these keys and values is `expected`. */
#define assert_words(expected, ...)                                                                \
    do {                                                                                           \
        struct backend *b_ = harness_load("@v1", __VA_ARGS__, NULL);                               \
        struct backend_handle *h_ = harness_open(b_);                                              \
        struct backend_identity i_ = ask(h_);                                                      \
        g_assert_cmpstr(i_.image, ==, (expected));                                                 \
        g_assert_cmpstr(i_.content, ==, "");                                                       \
        g_assert_cmpint(i_.modified, ==, 0);                                                       \
        g_assert_false(i_.transient);                                                              \
        backend_identity_clear(&i_);                                                               \
        harness_close(h_);                                                                         \
        harness_free(b_);                                                                          \
    } while (0)

static void test_words(void)
{
    if (!harness_have_plugins())
        return;
    assert_words("plugin v1 a=1 b=/x/y", "a", "1", "b", "/x/y");
    assert_words("plugin v1 user= sshkey= PASSWORD= x-auth-y= cookie= header= apiToken= b=2",
                 "user", "joe", "sshkey", "k", "PASSWORD", "p", "x-auth-y", "a", "cookie", "c",
                 "header", "h", "apiToken", "t", "b", "2");
    assert_words("plugin v1 uri=nbds://host:1/x", "uri", "nbds://joe:se@cret@host:1/x");
    assert_words("plugin v1 uri=nbd+unix:///disk?socket=/tmp/a@b&my-token=&n=1", "uri",
                 "nbd+unix:///disk?socket=/tmp/a@b&my-token=/etc/keys&n=1");
    assert_words("plugin v1 proxy=host:1 ssh=joe@host p=dir/a@b q=/a:b@c", "proxy",
                 "joe:s/e@cret@host:1", "ssh", "joe@host", "p", "dir/a@b", "q", "/a:b@c");
    assert_words("plugin v1 image=vm1@snap at=host:80/a/vm1", "image", "vm1@snap", "at",
                 "host:80/a/vm1");
    /* An image and its snapshot, or a password that begins with a number. */
    assert_words("plugin v1 at=sha256:"
                 "1c718948b3e8c7501206091f73889a1e5ae9f2166828116c17c4f23a1d68acd2@b",
                 "at", "host:80/a/vm1@b");
    assert_words("plugin v1 proxy=sha256:"
                 "c91d48d8d81a992556898c09b904439a0c6797582b07225208c542b9d3f6b85b@host",
                 "proxy", "joe:12/3@host");
    assert_words("plugin v1 proxy=sha256:"
                 "c91d48d8d81a992556898c09b904439a0c6797582b07225208c542b9d3f6b85b@host/a/vm1",
                 "proxy", "joe:12/3@host/a/vm1");
    /* No URI, but a password that is none of the catalogue's business. */
    assert_words("plugin v1 uri=nbd://sha256:"
                 "d25b8e6ac7eb9e75c10e58b813ebc46a84f0fc090c4613e881bcb204e3709986@host/x",
                 "uri", "nbd://joe:s/e@host/x");
    assert_words("plugin v1 a=nbd://[::1]/y@z b=nbd://[::1]:9/y@z c=a://h:1/b@c d=a://h/b@c", "a",
                 "nbd://[::1]/y@z", "b", "nbd://[::1]:9/y@z", "c", "a://h:1/b@c", "d", "a://h/b@c");
    assert_words("plugin v1 script=sha256:"
                 "2962d2e8f4d2071a78d54625bcd1f507d6e2706eb882b2b489666a697f003eca",
                 "script", "PASSWORD=x\nexit 0\n");
    assert_words("plugin v1 url=https://h/p?X-Amz-Signature=&part=3", "url",
                 "https://h/p?X-Amz-Signature=0123&part=3");
    assert_words("plugin v1 a=\\t\\033[1m\\303\\274", "a", "\t\033[1m\303\274");
}

static void test_long_words(void)
{
    g_autofree char *a = g_strnfill(2000, 'x'), *b = g_strnfill(2000, 'x');

    if (!harness_have_plugins())
        return;
    b[1999] = 'y';
    for (unsigned i = 0; i < 2; i++) {
        struct backend *plugin = harness_load("@v1", "a", i ? b : a, NULL);
        struct backend_handle *h = harness_open(plugin);
        struct backend_identity identity = ask(h);
        g_autofree char *words = g_strconcat(" a=", i ? b : a, NULL);
        g_autofree char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, words, -1);
        g_autofree char *expected = g_strconcat("plugin v1 sha256:", hash, NULL);

        g_assert_cmpstr(identity.image, ==, expected);
        backend_identity_clear(&identity);
        harness_close(h);
        harness_free(plugin);
    }
}

/* A file that is named from the folder where the server was started is that file in any folder. */
static void test_relative(void)
{
    g_autofree char *path = harness_file("relative", 512, NULL, 0);
    g_autofree char *before = g_get_current_dir();
    g_autofree char *expected = g_strdup_printf("plugin v1 a=%s b=elsewhere", path);

    if (!harness_have_plugins())
        return;
    g_assert_cmpint(g_chdir(harness_dir()), ==, 0);
    assert_words(expected, "a", "relative", "b", "elsewhere");
    g_assert_cmpint(g_chdir(before), ==, 0);
}

static void test_transient(void)
{
    struct backend *b = harness_try(NULL, "memory", "size", "1M", NULL);

    if (!b) {
        g_test_skip("no nbdkit");
        return;
    }
    struct backend_handle *h = harness_open(b);
    struct backend_identity identity = ask(h);
    g_assert_true(identity.transient);
    g_assert_cmpstr(identity.image, ==, "plugin memory size=1M");
    backend_identity_clear(&identity);
    harness_close(h);
    harness_free(b);
}

/* ---- plugins that do ---- */

static void test_offered(void)
{
    g_autofree char *much = g_strnfill(500, 'm');
    g_autoptr(GError) err = NULL;
    struct backend_identity identity;

    if (!harness_have_plugins())
        return;
    struct backend *b = harness_load("@extras", "identity", "disk\n7", NULL);
    struct backend_handle *h = harness_open(b);
    identity = ask(h);
    g_assert_cmpstr(identity.image, ==, "disk\\n7");
    g_assert_cmpstr(identity.content, ==, "old");
    g_assert_cmpint(identity.modified, ==, 77);
    g_assert_false(identity.transient);
    backend_identity_clear(&identity);
    identity = ask(h);
    g_assert_cmpstr(identity.content, ==, "new");
    backend_identity_clear(&identity);
    harness_close(h);
    harness_free(b);

    b = harness_load("@extras", "identity", much, NULL);
    h = harness_open(b);
    identity = ask(h);
    g_assert_cmpuint(strlen(identity.image), ==, 255);
    backend_identity_clear(&identity);
    harness_close(h);
    harness_free(b);

    b = harness_load("@extras", "identity", "bad", NULL);
    h = harness_open(b);
    g_assert_cmpint(b->ops->identity(h, &identity, &err), <, 0);
    g_assert_cmpstr(err->message, ==, "disk vda: extras: no identity");
    g_clear_error(&err);
    harness_close(h);
    harness_free(b);

    b = harness_load("@extras", NULL);
    h = harness_open(b);
    g_assert_cmpint(b->ops->identity(h, &identity, &err), <, 0);
    assert_contains(err->message, "has named no image");
    harness_close(h);
    harness_free(b);
}

static void add_tests(void)
{
    g_test_add_func("/identity/written", test_written);
    g_test_add_func("/identity/set-back", test_set_back);
    g_test_add_func("/identity/resized", test_resized);
    g_test_add_func("/identity/names", test_names);
    g_test_add_func("/identity/reused-inode", test_reused_inode);
    g_test_add_func("/identity/ways", test_ways);
    g_test_add_func("/identity/direct", test_direct);
    g_test_add_func("/identity/device", test_device);
    g_test_add_func("/identity/device-without-name", test_device_without_name);
    g_test_add_func("/identity/words", test_words);
    g_test_add_func("/identity/long-words", test_long_words);
    g_test_add_func("/identity/relative", test_relative);
    g_test_add_func("/identity/transient", test_transient);
    g_test_add_func("/identity/offered", test_offered);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
