/* SPDX-License-Identifier: BSD-3-Clause */
/* Growing disks: what is behind the old end reads as zeroes, whatever was there; the L1 table grows in its
 * place and elsewhere; power may be lost at each moment. */
#include "common/live/live-private.h"
#include "tests/rigs/live-power.h"

#include <errno.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (UINT64_C(1) << 20)

/* An image i.qcow2 that is open, and what its disk is. */
struct disk {
    struct qcow2_rig rig;
    struct live_image *image;
    GByteArray *bytes;
};

static char *path_of(const struct disk *d)
{
    return qcow2_rig_path(&d->rig, "i.qcow2");
}

static void open_disk(struct disk *d, bool start)
{
    const struct live_options o = {.writable = true, .locking = true};
    g_autofree char *path = path_of(d);
    struct q2_error err;

    d->image = live_open(path, &o, &err);
    if (!d->image || (start && live_start(d->image, &err) < 0))
        g_error("%s", err.text);
}

static void close_disk(struct disk *d)
{
    struct q2_error err;

    if (live_close(d->image, &err) < 0)
        g_error("%s", err.text);
    d->image = NULL;
    qcow2_rig_run(&d->rig, "qemu-img check -q i.qcow2");
}

/* Know the disk as QEMU has it. */
static void learn(struct disk *d)
{
    size_t size;
    g_autofree uint8_t *bytes = qcow2_rig_disk(&d->rig, "i.qcow2", &size);

    d->bytes = g_byte_array_new();
    g_byte_array_append(d->bytes, bytes, (guint)size);
}

static bool begin(struct disk *d, const char *command)
{
    memset(d, 0, sizeof(*d));
    if (!qcow2_rig_begin(&d->rig))
        return false;
    qcow2_rig_run(&d->rig, "%s", command);
    learn(d);
    return true;
}

static void end(struct disk *d)
{
    g_byte_array_free(d->bytes, TRUE);
    qcow2_rig_end(&d->rig);
}

/* The whole disk, as we read it while it is open. */
static void assert_read(struct disk *d)
{
    g_autofree uint8_t *got = g_malloc(d->bytes->len);

    g_assert_cmpuint(live_size(d->image), ==, d->bytes->len);
    g_assert_cmpint(live_pread(d->image, got, d->bytes->len, 0), ==, 0);
    for (guint i = 0; i < d->bytes->len; i++)
        if (got[i] != d->bytes->data[i])
            g_error("byte %u is %u, not %u", i, got[i], d->bytes->data[i]);
}

/* The whole disk, as QEMU reads it when it is closed. */
static void assert_qemu_reads(struct disk *d)
{
    size_t size;
    g_autofree uint8_t *got = qcow2_rig_disk(&d->rig, "i.qcow2", &size);

    g_assert_cmpmem(got, size, d->bytes->data, d->bytes->len);
}

static void grow(struct disk *d, uint64_t size)
{
    guint old = d->bytes->len;

    g_assert_cmpint(live_resize(d->image, size), ==, 0);
    g_byte_array_set_size(d->bytes, (guint)size);
    memset(d->bytes->data + old, 0, size - old);
    assert_read(d);
}

static void write_disk(struct disk *d, uint64_t offset, size_t length)
{
    uint8_t byte = (uint8_t)g_test_rand_int_range(1, 256);

    memset(d->bytes->data + offset, byte, length);
    g_assert_cmpint(live_pwrite(d->image, d->bytes->data + offset, length, offset, 0), ==, 0);
}

/* ---- kinds ---- */

static void test_kind(gconstpointer options)
{
    static const uint64_t steps[] = {512, 1024, 4 * KIB, 64 * KIB, 130 * KIB, 3 * MIB, 9 * MIB};
    g_autofree char *create =
        g_strdup_printf("qemu-img create -q -f qcow2 %s i.qcow2 1000K", (const char *)options);
    struct disk d;

    for (int start = 0; start < 2; start++) {
        if (!begin(&d, create))
            return;
        qcow2_rig_fill(&d.rig, "i.qcow2", 1000 * KIB, 6);
        g_byte_array_free(d.bytes, TRUE);
        learn(&d);
        open_disk(&d, start);
        for (unsigned i = 0; i < G_N_ELEMENTS(steps); i++) {
            uint64_t old = d.bytes->len;

            write_disk(&d, old - 700, 700);
            grow(&d, old + steps[i]);
            write_disk(&d, old - 100, 101);
            write_disk(&d, d.bytes->len - 1, 1);
            /* Half of them without a flush in between. */
            if (i % 2)
                g_assert_cmpint(live_flush(d.image), ==, 0);
        }
        assert_read(&d);
        close_disk(&d);
        assert_qemu_reads(&d);
        end(&d);
    }
}

/* ---- what is behind the old end ---- */

/* A backing file that is longer: raw, an image, a chain; the old end is inside of a cluster, with and
 * without data. */
static void test_backing(void)
{
    static const char *const bases[] = {
        "head -c 3000000 /dev/zero | tr '\\0' x > base && B='-b base -F raw'",
        "qemu-img create -q -f qcow2 base 3M && qemu-io -f qcow2 -c 'write -q -P 7 0 3M' base && "
        "B='-b base -F qcow2'",
        "qemu-img create -q -f qcow2 low 3M && qemu-io -f qcow2 -c 'write -q -P 7 0 3M' low && "
        "qemu-img create -q -f qcow2 -b low -F qcow2 base 2M && B='-b base -F qcow2'",
    };
    static const char *const options[] = {"", "-o compat=0.10", "-o cluster_size=4096",
                                          "-o extended_l2=on"};
    struct disk d;

    for (unsigned i = 0; i < G_N_ELEMENTS(bases) * G_N_ELEMENTS(options); i++) {
        g_autofree char *create =
            g_strdup_printf("%s && qemu-img create -q -f qcow2 %s $B i.qcow2 1000K",
                            bases[i % G_N_ELEMENTS(bases)], options[i / G_N_ELEMENTS(bases)]);

        if (!begin(&d, create))
            return;
        open_disk(&d, false);
        if (g_test_rand_bit())
            write_disk(&d, d.bytes->len - 512, 512);
        grow(&d, d.bytes->len + 512);
        grow(&d, d.bytes->len + 200 * KIB);
        write_disk(&d, 1100 * KIB, 5);
        grow(&d, 5 * MIB);
        close_disk(&d);
        assert_qemu_reads(&d);
        end(&d);
    }
}

/* Make the disk smaller by its header alone: all entries stay. */
static void cut(struct disk *d, uint64_t size)
{
    qcow2_rig_put(&d->rig, "i.qcow2", 24, 8, size);
    g_byte_array_set_size(d->bytes, (guint)size);
}

/* A disk that was larger once, and left its tables behind: in the last table, and in others. */
static void test_rest(void)
{
    static const char *const options[] = {"",
                                          "-o compat=0.10",
                                          "-o cluster_size=512",
                                          "-o cluster_size=4096",
                                          "-o extended_l2=on",
                                          "-o data_file=d.raw"};
    static const uint64_t sizes[] = {512, 1000 * KIB, 3 * MIB - 512};
    struct disk d;

    for (unsigned i = 0; i < G_N_ELEMENTS(options) * G_N_ELEMENTS(sizes); i++) {
        g_autofree char *create = g_strdup_printf(
            "qemu-img create -q -f qcow2 %s i.qcow2 6M && "
            "qemu-io -f qcow2 -c 'write -q -P 7 0 4M' -c 'write -q -P 8 5M 512k' i.qcow2",
            options[i / G_N_ELEMENTS(sizes)]);

        if (!begin(&d, create))
            return;
        cut(&d, sizes[i % G_N_ELEMENTS(sizes)]);
        open_disk(&d, false);
        assert_read(&d);
        grow(&d, d.bytes->len + 512);
        grow(&d, 4 * MIB);
        grow(&d, 6 * MIB);
        grow(&d, 9 * MIB);
        close_disk(&d);
        assert_qemu_reads(&d);
        end(&d);
    }
}

static void assert_raw(struct disk *d)
{
    size_t size;
    g_autofree uint8_t *raw = qcow2_rig_bytes(&d->rig, "d.raw", &size);

    g_assert_cmpmem(raw, size, d->bytes->data, d->bytes->len);
}

/* A raw data file is as long as the disk, and has the same bytes. */
static void test_raw_data_file(void)
{
    struct disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on i.qcow2 1M && "
                   "qemu-io -f qcow2 -c 'write -q -P 7 512k 512k' i.qcow2"))
        return;
    open_disk(&d, false);
    grow(&d, 2 * MIB);
    assert_raw(&d);
    grow(&d, 5 * MIB);
    assert_raw(&d);
    write_disk(&d, 3 * MIB, 1000);
    grow(&d, 5 * MIB + 512);
    close_disk(&d);
    assert_qemu_reads(&d);
    assert_raw(&d);
    end(&d);
}

/* A raw data file that somebody has made longer: what he has there stays, and the disk as it is, unless it is
 * zeroes. Each place is tried, of a hole and of data, up to the end that the disk is to have. */
static void test_longer_data_file(void)
{
    static const struct {
        const char *more; /* that makes d.raw longer */
        bool grows;
    } all[] = {
        {"printf x >> d.raw", false},
        {"truncate -s 3M d.raw; printf x | dd of=d.raw bs=1 seek=2097151 conv=notrunc", false},
        {"head -c 1048575 /dev/zero >> d.raw; printf x >> d.raw", false},
        {"head -c 1048576 /dev/zero >> d.raw; printf x >> d.raw", true},
        {"head -c 300000 /dev/zero >> d.raw", true},
        {"truncate -s 1500K d.raw", true},
    };
    struct disk d;

    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++) {
        g_autofree uint8_t *before = NULL, *after = NULL;
        size_t n_before, n_after;

        if (!begin(&d,
                   "qemu-img create -q -f qcow2 -o data_file=d.raw,data_file_raw=on i.qcow2 1M && "
                   "qemu-io -f qcow2 -c 'write -q -P 7 512k 512k' i.qcow2"))
            return;
        qcow2_rig_run(&d.rig, "(%s) 2>&1", all[i].more);
        before = qcow2_rig_bytes(&d.rig, "d.raw", &n_before);
        open_disk(&d, false);
        if (all[i].grows)
            grow(&d, 2 * MIB);
        else
            g_assert_cmpint(live_resize(d.image, 2 * MIB), ==, -EEXIST);
        assert_read(&d);
        close_disk(&d);
        after = qcow2_rig_bytes(&d.rig, "d.raw", &n_after);
        g_assert_cmpuint(n_after, ==, all[i].grows ? MAX(n_before, 2 * MIB) : n_before);
        g_assert_cmpmem(after, n_before, before, n_before);
        end(&d);
    }
}

/* ---- the L1 table ---- */

static uint64_t l1_size(const struct disk *d)
{
    return qcow2_rig_get(&d->rig, "i.qcow2", 36, 4);
}

static uint64_t l1_offset(const struct disk *d)
{
    return qcow2_rig_get(&d->rig, "i.qcow2", 40, 8);
}

/* In the clusters that it has; and elsewhere, when they are full: nothing leaks. */
static void test_l1(void)
{
    uint64_t offset;
    struct disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o cluster_size=512 i.qcow2 100K"))
        return;
    /* What lies behind the table's end, in its cluster, is anything. */
    offset = l1_offset(&d);
    qcow2_rig_put(&d.rig, "i.qcow2", offset + l1_size(&d) * 8, 8, UINT64_C(0x8000000000000e00));
    open_disk(&d, false);
    grow(&d, 2 * MIB);
    close_disk(&d);
    assert_qemu_reads(&d);
    open_disk(&d, false);
    write_disk(&d, 0, 100 * KIB);
    g_assert_cmpuint(l1_offset(&d), ==, offset);
    g_assert_cmpuint(l1_size(&d), ==, 64);
    grow(&d, 2 * MIB + 512);
    g_assert_cmpuint(l1_offset(&d), !=, offset);
    g_assert_cmpuint(l1_size(&d), ==, 65);
    offset = l1_offset(&d);
    write_disk(&d, 2 * MIB, 512);
    grow(&d, 30 * MIB);
    g_assert_cmpuint(l1_offset(&d), !=, offset);
    write_disk(&d, 30 * MIB - 5000, 5000);
    close_disk(&d);
    assert_qemu_reads(&d);
    end(&d);
}

/* The largest disk that the smallest clusters allow: more clusters of L1 than a batch of the reserve has. */
static void test_largest(void)
{
    static const uint64_t most = (UINT64_C(32) << 20) / 8 * 32 * 1024;
    uint8_t byte = 7;
    struct disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 -o cluster_size=512 i.qcow2 100K"))
        return;
    open_disk(&d, true);
    g_assert_cmpint(live_resize(d.image, most + 512), ==, -EFBIG);
    g_assert_cmpint(live_resize(d.image, most), ==, 0);
    g_assert_cmpint(live_pwrite(d.image, &byte, 1, most - 1, 0), ==, 0);
    byte = 0;
    g_assert_cmpint(live_pread(d.image, &byte, 1, most - 1), ==, 0);
    g_assert_cmpint(byte, ==, 7);
    close_disk(&d);
    open_disk(&d, false);
    g_assert_cmpuint(live_size(d.image), ==, most);
    byte = 0;
    g_assert_cmpint(live_pread(d.image, &byte, 1, most - 1), ==, 0);
    g_assert_cmpint(byte, ==, 7);
    close_disk(&d);
    end(&d);
}

/* ---- errors ---- */

static void test_refused(void)
{
    g_autofree char *path = NULL;
    struct live_image *image;
    struct disk d;

    if (!begin(&d, "qemu-img create -q -f qcow2 i.qcow2 1M"))
        return;
    open_disk(&d, false);
    g_assert_cmpint(live_resize(d.image, 1 * MIB - 512), ==, -ENOTSUP);
    g_assert_cmpint(live_resize(d.image, 1 * MIB + 1), ==, -EINVAL);
    g_assert_cmpint(live_resize(d.image, UINT64_C(1) << 63), ==, -EFBIG);
    g_assert_cmpint(live_resize(d.image, INT64_MAX & ~UINT64_C(511)), ==, -EFBIG);
    g_assert_cmpint(live_resize(d.image, 1 * MIB), ==, 0);
    g_assert_cmpuint(live_size(d.image), ==, 1 * MIB);
    close_disk(&d);
    path = path_of(&d);
    image = live_open(path, &(struct live_options){.locking = true}, NULL);
    g_assert_cmpint(live_resize(image, 2 * MIB), ==, -EROFS);
    live_close(image, NULL);
    end(&d);
}

/* ---- power ---- */

static void steps(struct live_power *p, uint64_t more)
{
    uint64_t size = p->guest.size;
    const struct live_step all[] = {
        {.kind = LIVE_STEP_WRITE, .offset = size - 600, .length = 600},
        {.kind = LIVE_STEP_RESIZE, .length = more},
        {.kind = LIVE_STEP_WRITE, .offset = size - 100, .length = 612},
        {.kind = LIVE_STEP_RESIZE, .length = 512},
    };

    for (unsigned i = 0; i < G_N_ELEMENTS(all); i++)
        g_assert_cmpint(live_power_step(p, &all[i], i % 2), ==, 0);
}

/* Power is lost at each moment of growing within a cluster, by clusters, and so that the L1 table moves. */
static void test_power(void)
{
    struct live_power p;

    for (unsigned i = 0; i < live_n_kinds; i++) {
        const uint64_t more[] = {512, 5 * live_kinds[i].cluster, 65 * 32 * KIB};
        bool moves = i == 0 || g_str_equal(live_kinds[i].name, "backing");

        if (!live_power_begin(&p, &live_kinds[i]))
            return;
        p.seed = (uint64_t)g_test_rand_int();
        p.ask_every = 100;
        p.reopen_every = 20;
        for (unsigned j = 0; j < (moves ? 3 : 2); j++) {
            live_power_start(&p);
            steps(&p, more[j]);
            live_power_stop(&p, false);
        }
        g_test_message("%s: %" G_GUINT64_FORMAT " crashes", live_kinds[i].name, (guint64)p.states);
        live_power_end(&p);
    }
}

/* Each operation fails once: the disk is as it was, or has grown, and growing it once more works or fails with a
 * reason. */
static bool fail_once(struct live_power *p, unsigned kinds, unsigned nth)
{
    struct live_step step = {.kind = LIVE_STEP_RESIZE, .length = 5 * p->images.kind->cluster};
    const struct live_fault fault = {.kinds = kinds,
                                     .nth = nth,
                                     .error = nth % 2 ? ENOSPC : EIO,
                                     .half = nth % 3 == 0,
                                     .medium = nth % 2 == 0};
    bool failed, moves = p->images.kind == &live_kinds[0];
    uint64_t size;
    int r;

    if (moves)
        step.length = 65 * 32 * KIB;
    live_power_start(p);
    size = p->guest.size;
    live_storage_fault(&fault);
    r = live_power_step(p, &step, false);
    g_assert_cmpuint(p->guest.size, ==, r == 0 ? size + step.length : size);
    failed = live_storage_failed();
    live_storage_fault(NULL);
    if (r < 0)
        live_power_step(p, &step, false);
    live_power_stop(p, failed);
    return failed;
}

static void test_faults(void)
{
    static const unsigned kinds[] = {LIVE_WRITE | LIVE_DURABLE, LIVE_SYNC, LIVE_EXTEND,
                                     LIVE_ZERO_RANGE};
    struct live_power p;

    for (unsigned i = 0; i < live_n_kinds; i++) {
        unsigned failed = 0;

        if (!live_power_begin(&p, &live_kinds[i]))
            return;
        p.seed = (uint64_t)g_test_rand_int();
        for (unsigned k = 0; k < G_N_ELEMENTS(kinds); k++)
            for (unsigned nth = 0; nth < 40 && fail_once(&p, kinds[k], nth); nth++)
                failed++;
        g_test_message("%s: %u faults", live_kinds[i].name, failed);
        g_assert_cmpuint(failed, >, 2);
        live_power_end(&p);
    }
}

int main(int argc, char **argv)
{
    static const char *const kinds[] = {
        "compat=0.10",          "compat=1.1",
        "cluster_size=512",     "cluster_size=4096,refcount_bits=1",
        "cluster_size=2M",      "extended_l2=on",
        "refcount_bits=64",     "preallocation=metadata",
        "lazy_refcounts=on",    "data_file=d.raw",
        "preallocation=falloc", "data_file=d.raw,data_file_raw=on",
    };

    g_test_init(&argc, &argv, NULL);
    for (unsigned i = 0; i < G_N_ELEMENTS(kinds); i++) {
        g_autofree char *path = g_strdup_printf("/resize/kind/%s", kinds[i]);
        char *options = g_strdup_printf("-o %s", kinds[i]);

        g_test_add_data_func_full(path, options, test_kind, g_free);
    }
    g_test_add_func("/resize/backing", test_backing);
    g_test_add_func("/resize/rest", test_rest);
    g_test_add_func("/resize/raw-data-file", test_raw_data_file);
    g_test_add_func("/resize/longer-data-file", test_longer_data_file);
    g_test_add_func("/resize/l1", test_l1);
    g_test_add_func("/resize/largest", test_largest);
    g_test_add_func("/resize/refused", test_refused);
    g_test_add_func("/resize/power", test_power);
    g_test_add_func("/resize/faults", test_faults);
    return g_test_run();
}
