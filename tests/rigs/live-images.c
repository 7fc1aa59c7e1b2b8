/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-images.h"

#include "tests/rigs/qcow2-oracle.h"

#include <string.h>

const struct live_kind live_kinds[] = {
    {.name = "512", .cluster = 512, .whole = true},
    {.name = "4k", .cluster = 4096},
    {.name = "1k", .cluster = 1024, .slow = true},
    {.name = "v2", .cluster = 512, .options = ",compat=0.10", .old = true},
    {.name = "extended", .cluster = 16384, .options = ",extended_l2=on"},
    {.name = "backing", .cluster = 512, .backing = "raw", .backing_half_clusters = 11},
    {.name = "backing-4k",
     .cluster = 4096,
     .backing = "raw",
     .backing_half_clusters = 11,
     .whole = true},
    {.name = "longer", .cluster = 4096, .backing = "qcow2", .backing_half_clusters = 24},
    {.name = "v2-backing",
     .cluster = 512,
     .options = ",compat=0.10",
     .old = true,
     .backing = "qcow2",
     .backing_half_clusters = 24},
    {.name = "extended-backing",
     .cluster = 16384,
     .options = ",extended_l2=on",
     .backing = "raw",
     .backing_half_clusters = 11},
    {.name = "compressed", .cluster = 4096, .compressed = true, .whole = true},
    {.name = "compressed-512", .cluster = 512, .compressed = true},
    {.name = "compressed-extended",
     .cluster = 16384,
     .options = ",extended_l2=on",
     .compressed = true},
    {.name = "data-file",
     .cluster = 512,
     .options = ",data_file=d.raw",
     .data_file = true,
     .whole = true},
    {.name = "data-file-backing",
     .cluster = 4096,
     .options = ",data_file=d.raw",
     .data_file = true,
     .backing = "raw",
     .backing_half_clusters = 11},
    {.name = "data-file-raw",
     .cluster = 4096,
     .options = ",data_file=d.raw,data_file_raw=on",
     .data_file = true,
     .data_file_raw = true},
    {.name = "counts-1", .cluster = 512, .options = ",refcount_bits=1"},
    {.name = "counts-64", .cluster = 512, .options = ",refcount_bits=64", .slow = true},
    /* The table of counts has to become longer for what comes behind this end. */
    {.name = "counts-table",
     .cluster = 512,
     .options = ",refcount_bits=64",
     .slow = true,
     .end = 1200128},
};
const unsigned live_n_kinds = G_N_ELEMENTS(live_kinds);

const struct live_kind *live_kind_named(const char *name)
{
    for (unsigned i = 0; i < live_n_kinds; i++)
        if (g_str_equal(live_kinds[i].name, name))
            return &live_kinds[i];
    g_assert_not_reached();
}

static const char *const folders[] = {"work", "crash", "after"};
static const char *const files[] = {"i.qcow2", "d.raw"};

const char *live_images_path(const struct live_images *im, enum live_folder folder, unsigned file)
{
    static char paths[3][LIVE_STORAGE_FILES][100];
    char *path = paths[folder][file];

    g_snprintf(path, sizeof(paths[0][0]), "%s/%s/%s", im->rig.folder, folders[folder], files[file]);
    return path;
}

/* Bytes that differ from place to place, and from all that a guest writes (which are odd). */
static uint8_t *pattern(size_t size, unsigned seed)
{
    uint8_t *bytes = g_malloc(size);

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)((i / 512 * 16 + seed) & 0xfe) | (i % 512 == 0 ? 0 : 2);
    return bytes;
}

static void write_file(const struct live_images *im, const char *name, const uint8_t *bytes,
                       size_t size)
{
    g_autofree char *path = qcow2_rig_path(&im->rig, name);
    g_autoptr(GError) err = NULL;

    g_file_set_contents(path, (const char *)bytes, (gssize)size, &err);
    g_assert_no_error(err);
}

static void make_backing(const struct live_images *im)
{
    const struct live_kind *k = im->kind;
    size_t size = ((size_t)k->cluster * k->backing_half_clusters / 2) & ~(size_t)511;
    g_autofree uint8_t *bytes = pattern(size, 0x80);

    if (!k->backing)
        return;
    write_file(im, "b.content", bytes, size);
    qcow2_rig_run(&im->rig, "qemu-img convert -f raw -O %s b.content work/b.img", k->backing);
    qcow2_rig_run(&im->rig, "ln work/b.img crash/; ln work/b.img after/");
}

/* Bytes that hardly become fewer when they are compressed. */
static void fill_dense(uint8_t *bytes, size_t length)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < length; i++) {
        x = x * 1664525 + 1013904223;
        bytes[i] = (uint8_t)(x >> 24) & 0xfe;
    }
}

/* Clusters 2 and 3 are small when compressed, and share a host cluster; 4 and 7 are not, and one of them lies in two
 * of them. */
static void make_compressed(const struct live_images *im)
{
    size_t c = im->kind->cluster;
    g_autofree uint8_t *bytes = g_malloc0(im->size);

    memset(bytes + 2 * c, 0x22, 2 * c);
    fill_dense(bytes + 4 * c, 5 * c / 8);
    fill_dense(bytes + 7 * c, 5 * c / 8);
    write_file(im, "c.content", bytes, im->size);
    qcow2_rig_run(
        &im->rig,
        "cd work && qemu-img convert -c -f raw -O qcow2 -o cluster_size=%u%s ../c.content "
        "i.qcow2",
        im->kind->cluster, im->kind->options ? im->kind->options : "");
}

static void make_image(const struct live_images *im)
{
    const struct live_kind *k = im->kind;
    unsigned c = k->cluster;
    g_autofree char *backing =
        k->backing ? g_strdup_printf("-b b.img -F %s", k->backing) : g_strdup("");

    if (k->compressed)
        make_compressed(im);
    else
        qcow2_rig_run(&im->rig,
                      "cd work && qemu-img create -q -f qcow2 -o cluster_size=%u%s %s i.qcow2 %u",
                      c, k->options ? k->options : "", backing, (unsigned)im->size);
    qcow2_rig_run(
        &im->rig,
        "cd work && qemu-io -f qcow2 -c 'write -q -P 0x10 0 %u' -c 'write -q -P 0x20 %u %u' -c "
        "'write -q -z %u %u' -c 'write -q -P 0x30 %u %u' -c 'write -q -z %u %u' i.qcow2",
        c, c, c, 5 * c, c, 6 * c, c, 6 * c, c);
    if (k->end)
        qcow2_rig_run(&im->rig, "cd work && truncate -s %lu i.qcow2", k->end);
    g_free(qcow2_rig_output(&im->rig, 0, "cd work && qemu-img check -q -f qcow2 i.qcow2"));
}

static void read_files(struct live_images *im)
{
    im->n_files = im->kind->data_file ? 2 : 1;
    for (unsigned i = 0; i < im->n_files; i++)
        live_storage_add(live_images_path(im, LIVE_FOLDER_WORK, i));
    for (unsigned i = 0; i < im->n_files; i++)
        live_content_copy(&im->files[i], live_storage_base(i));
    live_storage_forget();
}

bool live_images_begin(struct live_images *im, const struct live_kind *kind)
{
    size_t size;

    memset(im, 0, sizeof(*im));
    if (!qcow2_rig_begin(&im->rig))
        return false;
    im->kind = kind;
    im->size = (uint64_t)kind->cluster * LIVE_IMAGE_CLUSTERS;
    qcow2_rig_run(&im->rig, "mkdir work crash after");
    make_backing(im);
    make_image(im);
    /* QEMU takes the data file's name from its own folder. */
    struct qcow2_rig work = {.folder = qcow2_rig_path(&im->rig, "work")};
    im->disk = qcow2_rig_disk(&work, "i.qcow2", &size);
    g_free(work.folder);
    g_assert_cmpuint(size, ==, im->size);
    live_storage_begin();
    read_files(im);
    return true;
}

void live_images_end(struct live_images *im)
{
    live_storage_end();
    for (unsigned i = 0; i < LIVE_STORAGE_FILES; i++)
        live_content_clear(&im->files[i]);
    g_free(im->disk);
    qcow2_rig_end(&im->rig);
}

void live_images_restart(const struct live_images *im)
{
    live_storage_forget();
    for (unsigned i = 0; i < im->n_files; i++) {
        const char *path = live_images_path(im, LIVE_FOLDER_WORK, i);

        live_content_put(&im->files[i], path);
        live_storage_add(path);
    }
}
