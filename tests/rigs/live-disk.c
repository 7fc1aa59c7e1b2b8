/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-disk.h"

#include "common/base/file-io.h"

#include <errno.h>
#include <string.h>

/* Not a whole number of clusters. */
#define SIZE "5244416"

#define RAW_BASE                                                                                   \
    "qemu-img create -q -f raw base 3145728 && "                                                   \
    "qemu-io -f raw -c 'write -q -P 17 0 700k' -c 'write -q -P 18 1500000 400000' base"
#define CHAIN_BASE                                                                                 \
    "qemu-img create -q -f qcow2 -o cluster_size=4k base0 " SIZE " && "                            \
    "qemu-io -f qcow2 -c 'write -q -P 19 0 5M' base0 && "                                          \
    "qemu-img create -q -f qcow2 -o cluster_size=1k -b base0 -F qcow2 base 3000320 && "            \
    "qemu-io -f qcow2 -c 'write -q -P 20 100k 300k' -c 'write -q -z 800k 50k' base"
#define COMPRESSED                                                                                 \
    "qemu-io -f qcow2 -c 'write -q -c -P 33 0 64k' -c 'write -q -c -P 34 128k 1M' "                \
    "-c 'write -q -P 35 200k 10k' -c 'write -q -c -P 36 3M 64k' disk.qcow2"
/* QEMU compresses whole clusters: those of 512 bytes, too. */
#define COMPRESSED_SMALL                                                                           \
    "qemu-io -f qcow2 -c 'write -q -c -P 33 0 4k' -c 'write -q -c -P 34 32k 256k' disk.qcow2"
#define PREALLOCATED "qemu-io -f qcow2 -c 'write -q -P 37 0 1M' -c 'write -q -z 500k 2M' disk.qcow2"

const struct live_disk_kind live_disk_kinds[] = {
    {"plain", NULL, "-o compat=1.1", NULL},
    {"version-2", NULL, "-o compat=0.10", NULL},
    {"version-2-over-chain", CHAIN_BASE, "-o compat=0.10 -b base -F qcow2", NULL},
    {"small-clusters", NULL, "-o cluster_size=512", NULL},
    {"small-clusters-over-raw", RAW_BASE, "-o cluster_size=512 -b base -F raw", COMPRESSED_SMALL},
    {"large-clusters-over-raw", RAW_BASE, "-o cluster_size=2M -b base -F raw", NULL},
    {"over-raw", RAW_BASE, "-b base -F raw", NULL},
    {"over-chain", CHAIN_BASE, "-b base -F qcow2", NULL},
    {"counts-of-one-bit", NULL, "-o refcount_bits=1", NULL},
    {"counts-of-64-bits", NULL, "-o refcount_bits=64,cluster_size=4k", NULL},
    {"extended", NULL, "-o extended_l2=on", NULL},
    {"extended-over-raw", RAW_BASE, "-o extended_l2=on,cluster_size=64k -b base -F raw", NULL},
    {"extended-over-chain", CHAIN_BASE, "-o extended_l2=on,cluster_size=128k -b base -F qcow2",
     NULL},
    {"extended-compressed", RAW_BASE, "-o extended_l2=on,cluster_size=64k -b base -F raw",
     COMPRESSED},
    {"data-file", NULL, "-o data_file=data.raw", NULL},
    {"data-file-over-raw", RAW_BASE, "-o data_file=data.raw -b base -F raw", NULL},
    {"data-file-raw", NULL, "-o data_file=data.raw,data_file_raw=on", NULL},
    {"data-file-extended", NULL, "-o data_file=data.raw,extended_l2=on,cluster_size=64k", NULL},
    {"compressed", NULL, "-o compat=1.1", COMPRESSED},
    {"compressed-version-2", NULL, "-o compat=0.10", COMPRESSED},
    {"compressed-zstd", RAW_BASE, "-o compression_type=zstd -b base -F raw", COMPRESSED},
    {"preallocated", NULL, "-o preallocation=metadata", PREALLOCATED},
    {"preallocated-data-file", NULL, "-o preallocation=metadata,data_file=data.raw", PREALLOCATED},
};
const unsigned live_disk_n_kinds = G_N_ELEMENTS(live_disk_kinds);

bool live_disk_begin(struct live_disk *d)
{
    *d = (struct live_disk){.name = "disk.qcow2"};
    if (!qcow2_rig_begin(&d->rig))
        return false;
    g_mutex_init(&d->lock);
    d->told = g_string_new(NULL);
    return true;
}

bool live_disk_make(struct live_disk *d, const struct live_disk_kind *kind, bool filled)
{
    if (!live_disk_begin(d))
        return false;
    if (kind->base)
        qcow2_rig_run(&d->rig, "%s", kind->base);
    qcow2_rig_run(&d->rig, "qemu-img create -q -f qcow2 %s disk.qcow2 " SIZE, kind->options);
    if (kind->fill)
        qcow2_rig_run(&d->rig, "%s", kind->fill);
    if (filled)
        qcow2_rig_fill(&d->rig, d->name, g_ascii_strtoull(SIZE, NULL, 10), 20);
    return true;
}

void live_disk_end(struct live_disk *d)
{
    g_assert_null(d->image);
    qcow2_rig_end(&d->rig);
    g_string_free(d->told, TRUE);
    g_mutex_clear(&d->lock);
    g_free(d->model);
}

static void tell(void *opaque, const char *sentence)
{
    struct live_disk *d = opaque;

    g_mutex_lock(&d->lock);
    g_string_append_printf(d->told, "%s\n", sentence);
    g_mutex_unlock(&d->lock);
    g_test_message("told: %s", sentence);
}

void live_disk_open_ops(struct live_disk *d, bool writable, const struct live_file_ops *ops)
{
    g_autofree char *path = qcow2_rig_path(&d->rig, d->name);
    struct live_options options = LIVE_OPTIONS_INIT;
    struct q2_error err = {0};

    if (!d->model)
        d->model = qcow2_rig_disk(&d->rig, d->name, &d->size);
    options.writable = writable;
    options.ops = ops;
    options.tell = tell;
    options.opaque = d;
    options.table_memory = 64 << 10;
    d->image = live_open(path, &options, &err);
    if (!d->image)
        g_error("%s", err.text);
    g_assert_cmpuint(live_size(d->image), ==, d->size);
}

void live_disk_open(struct live_disk *d, bool writable)
{
    live_disk_open_ops(d, writable, NULL);
}

void live_disk_close(struct live_disk *d)
{
    struct q2_error err = {0};

    if (live_close(d->image, &err) < 0)
        g_error("%s", err.text);
    d->image = NULL;
}

static void assert_same(const uint8_t *bytes, const uint8_t *model, size_t length, size_t offset)
{
    if (memcmp(bytes, model, length) == 0)
        return;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != model[i])
            g_error("at %zu of the disk: %u instead of %u", offset + i, bytes[i], model[i]);
}

void live_disk_judge(struct live_disk *d)
{
    g_autofree uint8_t *disk = NULL;
    size_t size;

    qcow2_rig_run(&d->rig, "qemu-img check -q -f qcow2 %s", d->name);
    disk = qcow2_rig_disk(&d->rig, d->name, &size);
    g_assert_cmpuint(size, ==, d->size);
    assert_same(disk, d->model, size, 0);
}

/* ---- what is there ---- */

static bool all_zero(const uint8_t *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static void check_bytes(struct live_disk *d, size_t length, size_t offset)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    g_assert_cmpint(live_pread(d->image, bytes, length, offset), ==, 0);
    assert_same(bytes, d->model + offset, length, offset);
}

static void check_extents(struct live_disk *d, size_t length, size_t offset)
{
    while (length > 0) {
        uint64_t run;
        bool hole, zero;

        g_assert_cmpint(live_extent(d->image, length, offset, &run, &hole, &zero), ==, 0);
        g_assert_cmpuint(run, >, 0);
        g_assert_cmpuint(run, <=, length);
        g_assert_true(zero || !hole);
        if (zero)
            g_assert_true(all_zero(d->model + offset, run));
        offset += run;
        length -= run;
    }
}

static void check_segment(struct live_disk *d, const struct live_segment *s, size_t offset)
{
    g_autofree uint8_t *bytes = g_malloc(s->length);

    if (s->place == LIVE_DATA) {
        g_assert_cmpint(pread_all(s->fd, bytes, s->length, s->host), ==, 0);
        assert_same(bytes, d->model + offset, s->length, offset);
    } else if (s->place == LIVE_ZERO) {
        g_assert_true(all_zero(d->model + offset, s->length));
    }
}

static void check_places(struct live_disk *d, size_t length, size_t offset)
{
    while (length > 0) {
        struct live_segment s = live_map(d->image, offset, length, false);
        struct live_segment w = live_map(d->image, offset, length, true);

        g_assert_cmpuint(s.length, >, 0);
        g_assert_cmpuint(s.length, <=, length);
        check_segment(d, &s, offset);
        g_assert_cmpint(w.place, !=, LIVE_ZERO);
        g_assert_true(w.place == LIVE_SLOW || live_writable(d->image));
        check_segment(d, &w, offset);
        offset += s.length;
        length -= s.length;
    }
}

void live_disk_check_range(struct live_disk *d, size_t length, size_t offset)
{
    check_bytes(d, length, offset);
    check_extents(d, length, offset);
    check_places(d, length, offset);
}

void live_disk_check(struct live_disk *d)
{
    live_disk_check_range(d, d->size, 0);
}

/* ---- changes ---- */

void live_disk_write(struct live_disk *d, size_t length, size_t offset, uint8_t seed,
                     unsigned flags)
{
    for (size_t i = 0; i < length; i++)
        d->model[offset + i] = (uint8_t)(seed + i / 512 * 7 + i % 3) | 1;
    g_assert_cmpint(live_pwrite(d->image, d->model + offset, length, offset, flags), ==, 0);
}

void live_disk_zero(struct live_disk *d, size_t length, size_t offset, unsigned flags)
{
    int error = live_zero(d->image, length, offset, flags);

    if (error == -ENOTSUP && (flags & LIVE_FAST))
        return;
    g_assert_cmpint(error, ==, 0);
    memset(d->model + offset, 0, length);
}

void live_disk_trim(struct live_disk *d, size_t length, size_t offset)
{
    g_autofree uint8_t *bytes = g_malloc(length);

    g_assert_cmpint(live_trim(d->image, length, offset, 0), ==, 0);
    g_assert_cmpint(live_pread(d->image, bytes, length, offset), ==, 0);
    for (size_t i = 0; i < length; i++)
        if (bytes[i] && bytes[i] != d->model[offset + i])
            g_error("at %zu of the disk, after a trim: %u, which was %u", offset + i, bytes[i],
                    d->model[offset + i]);
    memcpy(d->model + offset, bytes, length);
}

static void random_range(const struct live_disk *d, size_t *length, size_t *offset)
{
    static const uint32_t lengths[] = {1, 512, 4096, 65536, 300000, 1 << 20};
    static const uint32_t alignments[] = {1, 512, 4096, 65536};
    size_t alignment = alignments[g_test_rand_int_range(0, G_N_ELEMENTS(alignments))];

    *length = lengths[g_test_rand_int_range(0, G_N_ELEMENTS(lengths))];
    *offset = (size_t)g_test_rand_int_range(0, (int)d->size) / alignment * alignment;
    if (g_test_rand_int_range(0, 20) == 0)
        *offset = d->size - 1000;
    if (g_test_rand_bit())
        *length = (size_t)g_test_rand_int_range(1, (int)*length + 1);
    *length = MIN(*length, d->size - *offset);
}

void live_disk_random(struct live_disk *d)
{
    int what = g_test_rand_int_range(0, 12);
    size_t length, offset;

    random_range(d, &length, &offset);
    if (what < 6)
        live_disk_write(d, length, offset, (uint8_t)g_test_rand_int(), what == 0 ? LIVE_FUA : 0);
    else if (what < 9)
        live_disk_zero(d, length, offset, (unsigned)g_test_rand_int_range(0, 8));
    else if (what < 11)
        live_disk_trim(d, length, offset);
    else
        g_assert_cmpint(live_flush(d->image), ==, 0);
    live_disk_check_range(d, length, offset);
}

void live_disk_assert_extent(struct live_disk *d, size_t offset, bool hole, bool zero)
{
    uint64_t run;
    bool is_hole, is_zero;

    g_assert_cmpint(live_extent(d->image, d->size - offset, offset, &run, &is_hole, &is_zero), ==,
                    0);
    g_assert_cmpint(is_hole, ==, hole);
    g_assert_cmpint(is_zero, ==, zero);
}

bool live_disk_was_told(struct live_disk *d, const char *text)
{
    bool was;

    g_mutex_lock(&d->lock);
    was = strstr(d->told->str, text) != NULL;
    g_mutex_unlock(&d->lock);
    return was;
}
