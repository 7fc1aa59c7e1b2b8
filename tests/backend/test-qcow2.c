/* SPDX-License-Identifier: BSD-3-Clause */
/* Our qcow2 plugin, driven as the server drives it, over images that QEMU's tools make and judge. */
#include "tests/backend/harness.h"
#include "tests/rigs/qcow2-rig.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * 1024)

struct disk {
    struct qcow2_rig rig;
    char *path;
    struct backend *b;
    struct backend_handle *h;
};

static void load(struct disk *d, const char *key, const char *value)
{
    d->b = harness_load("qcow2", "file", d->path, key, value, NULL);
    d->h = harness_open(d->b);
}

static void unload(struct disk *d)
{
    harness_close(d->h);
    harness_free(d->b);
}

/* A disk of 8 MiB on an image that qemu-img makes with these words. */
static bool begin(struct disk *d, const char *words)
{
    if (!qcow2_rig_begin(&d->rig))
        return false;
    d->path = qcow2_rig_path(&d->rig, "disk.qcow2");
    qcow2_rig_run(&d->rig,
                  "truncate -s 8M base.raw; printf 'base' | dd of=base.raw conv=notrunc "
                  "status=none; qemu-img create -q -f qcow2 %s disk.qcow2 8M",
                  words);
    load(d, NULL, NULL);
    return true;
}

static void end(struct disk *d)
{
    unload(d);
    qcow2_rig_run(&d->rig, "qemu-img check -q disk.qcow2");
    qcow2_rig_end(&d->rig);
    g_free(d->path);
}

static void fill(struct disk *d, char byte, uint32_t length, uint64_t offset, uint32_t flags)
{
    g_autofree char *bytes = g_malloc(length);

    memset(bytes, byte, length);
    g_assert_cmpint(d->b->ops->pwrite(d->h, bytes, length, offset, flags), ==, 0);
}

static void assert_bytes(struct disk *d, char byte, uint32_t length, uint64_t offset)
{
    g_autofree char *bytes = g_malloc(length);

    g_assert_cmpint(d->b->ops->pread(d->h, bytes, length, offset), ==, 0);
    for (uint32_t i = 0; i < length; i++)
        g_assert_cmpint(bytes[i], ==, byte);
}

static struct backend_segment map(struct disk *d, uint64_t offset, uint64_t length, bool writing)
{
    struct backend_segment s;

    d->h->map(d->h, offset, length, writing, &s);
    return s;
}

/* ---- what it can do ---- */

static void test_abilities(void)
{
    struct disk d;

    if (!begin(&d, ""))
        return;
    g_assert_cmpuint(d.h->size, ==, 8 * MIB);
    g_assert_true(d.h->can_write && d.h->can_flush && d.h->can_trim && d.h->can_zero &&
                  d.h->can_fast_zero && d.h->can_fua && d.h->can_cache && d.h->can_extents &&
                  d.h->can_multi_conn && d.h->has_block_size);
    g_assert_false(d.h->rotational);
    g_assert_cmpuint(d.h->min_block, ==, 1);
    g_assert_cmpuint(d.h->pref_block, >=, 4096);
    g_assert_cmpint(d.h->fd, ==, -1);
    g_assert_nonnull(d.h->map);
    g_assert_cmpstr(d.b->driver, ==, "qcow2");
    g_assert_cmpstr(d.b->filename, ==, d.path);
    end(&d);
}

static void test_data(void)
{
    struct extents e = EXTENTS_INIT;
    struct disk d;

    if (!begin(&d, "-b base.raw -F raw"))
        return;
    char bytes[4];
    g_assert_cmpint(d.b->ops->pread(d.h, bytes, 4, 0), ==, 0);
    g_assert_cmpmem(bytes, 4, "base", 4);
    fill(&d, 'a', 100000, 1234, 0);
    fill(&d, 'b', 1, 4 * MIB + 7, BACKEND_FUA);
    assert_bytes(&d, 'a', 100000, 1234);
    assert_bytes(&d, 'b', 1, 4 * MIB + 7);
    assert_bytes(&d, 0, 7, 4 * MIB);
    g_assert_cmpint(d.b->ops->pread(d.h, bytes, 4, 0), ==, 0);
    g_assert_cmpmem(bytes, 4, "base", 4);
    g_assert_cmpint(d.b->ops->zero(d.h, 2 * MIB, 0, BACKEND_MAY_TRIM), ==, 0);
    g_assert_cmpint(d.b->ops->trim(d.h, MIB, 4 * MIB, BACKEND_FUA), ==, 0);
    g_assert_cmpint(d.b->ops->cache(d.h, 8 * MIB, 0), ==, 0);
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);
    assert_bytes(&d, 0, 8 * MIB, 0);
    g_assert_cmpint(d.b->ops->extents(d.h, 2 * MIB, 0, 0, &e), ==, 0);
    for (size_t i = 0; i < e.count; i++)
        g_assert_cmpuint(e.list[i].flags & EXTENT_ZERO, ==, EXTENT_ZERO);
    extents_free(&e);
    end(&d);
}

/* ---- the map ---- */

static void test_map(void)
{
    struct disk d;

    if (!begin(&d, ""))
        return;
    g_assert_cmpint(map(&d, MIB, 64 * KIB, true).place, ==, BACKEND_ANYWHERE);
    fill(&d, 'a', 100, MIB, 0);
    struct backend_segment s = map(&d, MIB + 100, 1000, true);
    g_assert_cmpint(s.place, ==, BACKEND_IN_FILE);
    g_assert_cmpuint(s.length, ==, 1000);
    g_assert_cmpint(pwrite(s.fd, "by the map", 10, (off_t)s.host), ==, 10);
    char bytes[11] = "";
    g_assert_cmpint(d.b->ops->pread(d.h, bytes, 11, MIB + 99), ==, 0);
    g_assert_cmpmem(bytes, 11, "aby the map", 11);
    struct backend_segment r = map(&d, MIB + 100, 1000, false);
    g_assert_cmpint(r.place, ==, BACKEND_IN_FILE);
    g_assert_cmpuint(r.host, ==, s.host);
    /* It stays there, whatever is done to it. */
    g_assert_cmpint(d.b->ops->trim(d.h, 64 * KIB, MIB, 0), ==, 0);
    g_assert_cmpint(d.b->ops->zero(d.h, 64 * KIB, MIB, 0), ==, 0);
    g_assert_cmpint(pwrite(s.fd, "once more", 9, (off_t)s.host), ==, 9);
    g_assert_cmpint(d.b->ops->pread(d.h, bytes, 9, MIB + 100), ==, 0);
    g_assert_cmpmem(bytes, 9, "once more", 9);
    /* Elsewhere there are zeroes, which cannot be written to. */
    g_assert_cmpint(map(&d, MIB + 64 * KIB, 4096, false).place, ==, BACKEND_ZEROES);
    g_assert_cmpint(map(&d, MIB + 64 * KIB, 4096, true).place, ==, BACKEND_ANYWHERE);
    end(&d);
    if (!begin(&d, "-b base.raw -F raw"))
        return;
    fill(&d, 'a', 1, MIB, 0); /* so that the table is there, and in memory */
    g_assert_cmpint(map(&d, 0, 4, true).place, ==, BACKEND_ANYWHERE);
    g_assert_cmpint(map(&d, 0, 4, false).place, ==, BACKEND_IN_FILE);
    end(&d);
}

/* ---- handles ---- */

/* One that only reads shares the image with one that writes, and sees what it does. */
static void test_shared(void)
{
    struct backend_handle *reader, *writer;
    struct disk d;
    char byte;

    if (!begin(&d, ""))
        return;
    g_assert_cmpint(d.b->ops->open(d.b, true, NULL, &reader, NULL), ==, 0);
    g_assert_cmpint(d.b->ops->open(d.b, false, NULL, &writer, NULL), ==, 0);
    fill(&d, 'x', 1, 5 * MIB, 0);
    g_assert_cmpint(d.b->ops->pread(reader, &byte, 1, 5 * MIB), ==, 0);
    g_assert_cmpint(byte, ==, 'x');
    g_assert_cmpint(d.b->ops->pread(writer, &byte, 1, 5 * MIB), ==, 0);
    g_assert_cmpint(byte, ==, 'x');
    harness_close(writer);
    harness_close(reader);
    end(&d);
}

static void test_readonly(void)
{
    struct disk d;
    struct stat before, after;

    if (!begin(&d, ""))
        return;
    fill(&d, 'x', 1, 0, 0);
    unload(&d);
    qcow2_rig_run(&d.rig, "qemu-img snapshot -c then disk.qcow2; "
                          "qemu-io -c 'write -P 7 0 64k' disk.qcow2 > /dev/null");
    /* Its tables would have to be copied, so it is not written here. */
    d.b = harness_load("qcow2", "file", d.path, NULL);
    g_autofree char *said = harness_open_error(d.b, false);
    assert_contains(said, "snapshot");
    harness_free(d.b);
    stat(d.path, &before);
    load(&d, "snapshot", "then");
    g_assert_false(d.h->can_write);
    char byte;
    g_assert_cmpint(d.b->ops->pread(d.h, &byte, 1, 0), ==, 0);
    g_assert_cmpint(byte, ==, 'x');
    unload(&d);
    stat(d.path, &after);
    g_assert_cmpint(before.st_mtim.tv_nsec, ==, after.st_mtim.tv_nsec);
    qcow2_rig_run(&d.rig, "qemu-img snapshot -d then disk.qcow2");
    load(&d, NULL, NULL);
    assert_bytes(&d, 7, 64 * KIB, 0);
    end(&d);
}

/* ---- size ---- */

static void test_resize(void)
{
    g_autoptr(GError) err = NULL;
    struct disk d;

    if (!begin(&d, "-b base.raw -F raw"))
        return;
    g_assert_cmpint(d.b->ops->resize(d.h, 9 * MIB + 512, NULL), ==, 0);
    assert_bytes(&d, 0, MIB + 512, 8 * MIB);
    fill(&d, 'x', 512, 9 * MIB, 0);
    g_assert_cmpint(d.b->ops->resize(d.h, 8 * MIB, &err), <, 0);
    assert_contains(err->message, "a qcow2 image cannot become smaller here");
    unload(&d);
    load(&d, NULL, NULL);
    g_assert_cmpuint(d.h->size, ==, 9 * MIB + 512);
    assert_bytes(&d, 'x', 512, 9 * MIB);
    end(&d);
}

/* ---- identity ---- */

static struct backend_identity identity(struct disk *d)
{
    struct backend_identity i;

    g_assert_cmpint(d->b->ops->identity(d->h, &i, NULL), ==, 0);
    return i;
}

static void assert_same(const struct backend_identity *a, const struct backend_identity *b)
{
    g_assert_cmpstr(a->image, ==, b->image);
    g_assert_cmpstr(a->content, ==, b->content);
}

/* As it is told last, it is found. What the server does by itself in between is nobody else's. */
static void test_identity(void)
{
    struct disk d;
    struct backend_identity first, last, found;

    if (!begin(&d, ""))
        return;
    first = identity(&d);
    g_assert_true(g_str_has_prefix(first.image, "qcow2 file "));
    backend_identity_clear(&first);
    for (int i = 0; i < 3; i++) {
        fill(&d, 'x', 70000, (uint64_t)i * MIB + 5, 0);
        last = identity(&d);
        unload(&d);
        load(&d, NULL, NULL);
        found = identity(&d);
        assert_same(&last, &found);
        backend_identity_clear(&last);
        backend_identity_clear(&found);
    }
    /* Told, and then written to once more. */
    last = identity(&d);
    fill(&d, 'y', 70000, 6 * MIB, 0);
    unload(&d);
    load(&d, NULL, NULL);
    found = identity(&d);
    g_assert_cmpstr(last.content, !=, found.content);
    assert_bytes(&d, 'y', 70000, 6 * MIB);
    backend_identity_clear(&last);
    backend_identity_clear(&found);
    end(&d);
}

/* What a load with this key finds. */
static struct backend_identity found_with(struct disk *d, const char *key, const char *value)
{
    struct backend_identity i;

    load(d, key, value);
    i = identity(d);
    unload(d);
    return i;
}

/* Each file of the chain counts, in the right order, and who reads one changes nothing. */
static void test_backing_identity(void)
{
    struct disk d;

    if (!begin(&d, "-b base.raw -F raw"))
        return;
    unload(&d);
    qcow2_rig_run(&d.rig, "cp base.raw deep.raw; touch -a -d '3 days ago' deep.raw; "
                          "qemu-img create -q -f qcow2 -b deep.raw -F raw middle.qcow2; "
                          "cp middle.qcow2 other.qcow2");
    g_autofree char *other = qcow2_rig_path(&d.rig, "other.qcow2");
    struct backend_identity raw = found_with(&d, NULL, NULL);
    qcow2_rig_run(&d.rig, "qemu-img rebase -u -b middle.qcow2 -F qcow2 disk.qcow2");
    struct backend_identity first = found_with(&d, NULL, NULL);
    struct backend_identity another = found_with(&d, "backing", other);
    g_assert_true(g_str_has_prefix(first.image, "qcow2 file "));
    g_assert_cmpstr(first.image, !=, raw.image);
    g_assert_cmpstr(first.image, !=, another.image);
    g_assert_cmpstr(another.image, !=, raw.image);
    qcow2_rig_run(&d.rig, "cat deep.raw middle.qcow2 > /dev/null");
    struct backend_identity again = found_with(&d, NULL, NULL);
    assert_same(&first, &again);
    qcow2_rig_run(&d.rig, "printf 'more' | dd of=deep.raw conv=notrunc status=none; "
                          "touch -m -d '1 hour' deep.raw");
    struct backend_identity changed = found_with(&d, NULL, NULL);
    g_assert_cmpstr(first.image, ==, changed.image);
    g_assert_cmpstr(first.content, !=, changed.content);
    g_assert_cmpint(changed.modified - first.modified, >, INT64_C(1000000000) * 1800);
    qcow2_rig_run(&d.rig, "mv deep.raw was.raw; cp -p was.raw deep.raw");
    struct backend_identity replaced = found_with(&d, NULL, NULL);
    g_assert_cmpstr(first.image, !=, replaced.image);
    struct backend_identity *all[] = {&raw, &first, &another, &again, &changed, &replaced};
    for (size_t i = 0; i < G_N_ELEMENTS(all); i++)
        backend_identity_clear(all[i]);
    load(&d, NULL, NULL);
    end(&d);
}

/* What does not fit differs all the same. */
static void test_long_identity(void)
{
    struct disk d;

    if (!begin(&d, ""))
        return;
    unload(&d);
    g_autofree char *name = g_strnfill(250, 'n');
    struct backend_identity found[2];
    for (int i = 0; i < 2; i++) {
        name[249] = (char)('0' + i);
        qcow2_rig_run(&d.rig, "qemu-img snapshot -c %s disk.qcow2", name);
    }
    for (int i = 0; i < 2; i++) {
        name[249] = (char)('0' + i);
        found[i] = found_with(&d, "snapshot", name);
    }
    g_assert_cmpstr(found[0].image, !=, found[1].image);
    g_assert_true(g_str_has_prefix(found[0].image, "qcow2 file "));
    g_assert_cmpstr(found[0].content, ==, found[1].content);
    for (int i = 0; i < 2; i++) {
        backend_identity_clear(&found[i]);
        name[249] = (char)('0' + i);
        qcow2_rig_run(&d.rig, "qemu-img snapshot -d %s disk.qcow2", name);
    }
    load(&d, NULL, NULL);
    end(&d);
}

static void test_data_file(void)
{
    struct disk d;

    if (!begin(&d, "-o data_file=disk.data"))
        return;
    struct backend_identity first = identity(&d);
    assert_contains(first.image, " data file ");
    assert_contains(first.content, " data size=");
    fill(&d, 'x', 70000, 0, 0);
    g_assert_cmpint(d.b->ops->flush(d.h), ==, 0);
    backend_identity_clear(&first);
    unload(&d);
    /* It may be told where it is, and that may be anywhere. */
    qcow2_rig_run(&d.rig, "mkdir -p elsewhere; mv disk.data elsewhere/other");
    g_autofree char *other = qcow2_rig_path(&d.rig, "elsewhere/other");
    load(&d, "data-file", other);
    assert_bytes(&d, 'x', 70000, 0);
    unload(&d);
    qcow2_rig_run(&d.rig, "mv elsewhere/other disk.data");
    load(&d, NULL, NULL);
    end(&d);
}

/* Two disks of the plugin in one process. */
static void test_two(void)
{
    struct disk a, b;

    if (!begin(&a, "") || !begin(&b, ""))
        return;
    fill(&a, 'a', 5000, 0, 0);
    fill(&b, 'b', 5000, 0, 0);
    assert_bytes(&a, 'a', 5000, 0);
    assert_bytes(&b, 'b', 5000, 0);
    end(&a);
    end(&b);
}

static void add_tests(void)
{
    g_test_add_func("/qcow2/abilities", test_abilities);
    g_test_add_func("/qcow2/data", test_data);
    g_test_add_func("/qcow2/map", test_map);
    g_test_add_func("/qcow2/shared", test_shared);
    g_test_add_func("/qcow2/readonly", test_readonly);
    g_test_add_func("/qcow2/resize", test_resize);
    g_test_add_func("/qcow2/identity", test_identity);
    g_test_add_func("/qcow2/backing-identity", test_backing_identity);
    g_test_add_func("/qcow2/long-identity", test_long_identity);
    g_test_add_func("/qcow2/data-file", test_data_file);
    g_test_add_func("/qcow2/two", test_two);
}

int main(int argc, char **argv)
{
    return harness_main(argc, argv, add_tests);
}
