/* SPDX-License-Identifier: BSD-3-Clause */
/* New images, as `qemu-img` sees them: clean, with what was asked for, and good to write to. */
#include "common/qcow2/q2-create.h"
#include "tests/rigs/qcow2-oracle.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define MIB (UINT64_C(1) << 20)

static struct q2_create_options usual(uint64_t size)
{
    return (struct q2_create_options){.size = size, .cluster_bits = 16, .refcount_order = 4};
}

static int open_new(const struct qcow2_rig *r, const char *name)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

/* Make i.qcow2, whose data file, if it has one, is "data". */
static void create(const struct qcow2_rig *r, const struct q2_create_options *o)
{
    int fd = open_new(r, "i.qcow2"), data = o->data_file ? open_new(r, "data") : -1;
    struct q2_error err;

    if (q2_create(fd, data, o, &err) < 0)
        g_error("%s", err.text);
    close(fd);
    if (data >= 0)
        close(data);
}

/* `qemu-img info --output=json` has this text. */
static void assert_info(const struct qcow2_rig *r, const char *format, ...)
{
    g_autofree char *info = qcow2_rig_output(r, 0, "qemu-img info --output=json i.qcow2");
    g_autofree char *text = NULL;
    va_list args;

    va_start(args, format);
    text = g_strdup_vprintf(format, args);
    va_end(args);
    if (!strstr(info, text))
        g_error("not '%s', but %s", text, info);
}

static void assert_good(const struct qcow2_rig *r, const struct q2_create_options *o)
{
    qcow2_assert_clean(r, "i.qcow2");
    qcow2_assert_same(r, "i.qcow2");
    assert_info(r, "\"virtual-size\": %" G_GUINT64_FORMAT, o->size);
    assert_info(r, "\"cluster-size\": %u", 1U << o->cluster_bits);
    assert_info(r, "\"refcount-bits\": %u", 1U << o->refcount_order);
    assert_info(r, "\"extended-l2\": %s", o->extended ? "true" : "false");
    assert_info(r, "\"compat\": \"1.1\"");
    if (o->size >= 3 * MIB)
        qcow2_rig_run(r, "qemu-io -f qcow2 -c 'write -q -P 1 100k 1M' -c 'write -q -z 1M 300k' "
                         "-c 'read -q -P 1 100k 900k' -c 'read -q -P 0 1M 1M' i.qcow2");
    qcow2_assert_clean(r, "i.qcow2");
    qcow2_assert_same(r, "i.qcow2");
}

static void test_clusters(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned bits = 9; bits <= 21; bits += bits == 9 || bits == 20 ? 1 : 2)
        for (unsigned extended = 0; extended <= (bits >= 14); extended++) {
            struct q2_create_options o = usual(5 * MIB + 512);

            o.cluster_bits = bits;
            o.extended = extended;
            o.refcount_order = bits % 7;
            /* A count of 1 bit is enough for an image without snapshots. */
            create(&r, &o);
            assert_good(&r, &o);
        }
    qcow2_rig_end(&r);
}

static void test_sizes(void)
{
    static const uint64_t sizes[] = {0, 512, 65536, 512 * MIB, 512 * MIB + 512, UINT64_C(1) << 46};
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned i = 0; i < G_N_ELEMENTS(sizes); i++) {
        struct q2_create_options o = usual(sizes[i]);

        create(&r, &o);
        qcow2_assert_clean(&r, "i.qcow2");
        assert_info(&r, "\"virtual-size\": %" G_GUINT64_FORMAT, o.size);
        qcow2_rig_run(&r, "qemu-img resize -q -f qcow2 i.qcow2 +1M");
        qcow2_assert_clean(&r, "i.qcow2");
    }
    qcow2_rig_end(&r);
}

/* Every cluster has its place: nothing is allocated any more when it is written. */
static void test_preallocation(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned bits = 9; bits <= 21; bits += 4)
        for (unsigned extended = 0; extended <= (bits >= 14); extended++)
            for (unsigned how = Q2_PREALLOCATION_METADATA; how <= Q2_PREALLOCATION_FALLOC; how++) {
                struct q2_create_options o = usual(7 * MIB + 1536);
                g_autofree char *before = NULL, *after = NULL, *room = NULL;

                o.cluster_bits = bits;
                o.extended = extended;
                o.refcount_order = how == Q2_PREALLOCATION_FALLOC ? 6 : 0;
                o.preallocation = how;
                create(&r, &o);
                before = qcow2_rig_output(&r, 0, "stat -c %%s i.qcow2");
                room = qcow2_rig_output(&r, 0, "du -k i.qcow2");
                g_assert_true((strtoul(room, NULL, 10) > 7 << 10) ==
                              (how == Q2_PREALLOCATION_FALLOC));
                assert_good(&r, &o);
                after = qcow2_rig_output(&r, 0, "stat -c %%s i.qcow2");
                g_assert_cmpstr(after, ==, before);
            }
    qcow2_rig_end(&r);
}

static void test_backing(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "head -c 4M /dev/urandom >base");
    for (unsigned how = 0; how < 3; how++) {
        struct q2_create_options o = usual(4 * MIB);

        o.backing = "base";
        o.backing_format = "raw";
        o.extended = how > 0;
        o.preallocation = how == 2 ? Q2_PREALLOCATION_METADATA : Q2_PREALLOCATION_OFF;
        o.cluster_bits = 17;
        create(&r, &o);
        assert_info(&r, "\"backing-filename-format\": \"raw\"");
        qcow2_assert_clean(&r, "i.qcow2");
        qcow2_assert_same(&r, "i.qcow2");
        qcow2_rig_run(&r, "qemu-img compare -q -f raw -F qcow2 base i.qcow2 && "
                          "qemu-io -f qcow2 -c 'write -q -P 1 4k 4k' i.qcow2");
        qcow2_assert_clean(&r, "i.qcow2");
        qcow2_assert_same(&r, "i.qcow2");
    }
    qcow2_rig_end(&r);
}

static void test_data_file(void)
{
    struct qcow2_rig r;

    if (!qcow2_rig_begin(&r))
        return;
    for (unsigned how = 0; how < 8; how++) {
        struct q2_create_options o = usual(4 * MIB);

        o.data_file = "data";
        o.data_file_raw = how & 1;
        o.extended = how & 2;
        o.preallocation = how & 4 ? Q2_PREALLOCATION_FALLOC : Q2_PREALLOCATION_OFF;
        create(&r, &o);
        assert_info(&r, "\"data-file\": \"data\"");
        assert_info(&r, "\"data-file-raw\": %s", how & 1 ? "true" : "false");
        assert_good(&r, &o);
        if (how & 1)
            qcow2_rig_run(&r, "qemu-img compare -q -f raw -F qcow2 data i.qcow2");
    }
    qcow2_rig_end(&r);
}

/* What lies in a raw data file is the disk. */
static void test_container(void)
{
    struct q2_create_options o = usual(3 * MIB);
    g_autofree char *path = NULL;
    struct q2_error err;
    struct qcow2_rig r;
    int fd, data;

    if (!qcow2_rig_begin(&r))
        return;
    qcow2_rig_run(&r, "head -c 3M /dev/urandom >data && cp data before");
    o.data_file = "data";
    o.data_file_raw = true;
    path = qcow2_rig_path(&r, "data");
    data = open(path, O_RDWR | O_CLOEXEC);
    fd = open_new(&r, "i.qcow2");
    g_assert_cmpint(q2_create(fd, data, &o, &err), ==, 0);
    close(fd);
    close(data);
    qcow2_rig_run(&r, "cmp data before && qemu-img compare -q -f raw -F qcow2 before i.qcow2 && "
                      "qemu-img bitmap --add i.qcow2 b");
    qcow2_assert_clean(&r, "i.qcow2");
    qcow2_rig_end(&r);
}

static void refuse(const struct q2_create_options *o, const char *why)
{
    struct q2_error err = {0};

    g_assert_cmpint(q2_create_check(o, &err), ==, -1);
    if (!strstr(err.text, why))
        g_error("not '%s', but '%s'", why, err.text);
    g_assert_cmpint(q2_create(-1, -1, o, &err), ==, -1);
}

static void test_refused(void)
{
    g_autofree char *name = g_strnfill(1024, 'x');
    struct q2_create_options o = usual(MIB);
    struct q2_error err;

    o.cluster_bits = 8;
    refuse(&o, "512 bytes to 2 MiB");
    o.cluster_bits = 22;
    refuse(&o, "512 bytes to 2 MiB");
    o.cluster_bits = 13;
    o.extended = true;
    refuse(&o, "16 KiB");
    o = usual(MIB);
    o.refcount_order = 7;
    refuse(&o, "64 bits");
    o = usual(1000);
    refuse(&o, "multiple of 512");
    o = usual(UINT64_C(1) << 63);
    refuse(&o, "8 EiB");
    o = usual((UINT64_C(1) << 51) + 512);
    refuse(&o, "too large for clusters of 65536 bytes: at most 2251799813685248");
    o = usual(MIB);
    o.backing = "base";
    refuse(&o, "has to be stated");
    o.backing_format = "vmdk";
    refuse(&o, "raw or qcow2");
    o.backing_format = "raw";
    o.preallocation = Q2_PREALLOCATION_METADATA;
    refuse(&o, "would hide");
    o.extended = true;
    g_assert_cmpint(q2_create_check(&o, &err), ==, 0);
    o.backing = "";
    refuse(&o, "1 to 1023 bytes");
    o.backing = name;
    refuse(&o, "1 to 1023 bytes");
    o = usual(MIB);
    o.data_file_raw = true;
    refuse(&o, "no data file");
    o.data_file = name;
    refuse(&o, "1 to 1023 bytes");
    o.data_file = "data";
    o.backing = "base";
    o.backing_format = "raw";
    refuse(&o, "no backing file");
    /* Counts of so many clusters have no room. */
    o = usual(UINT64_C(1) << 41);
    o.cluster_bits = 12;
    o.refcount_order = 6;
    o.preallocation = Q2_PREALLOCATION_METADATA;
    g_assert_cmpint(q2_create(-1, -1, &o, &err), ==, -1);
    g_assert_nonnull(strstr(err.text, "all of it allocated"));
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/create/clusters", test_clusters);
    g_test_add_func("/create/sizes", test_sizes);
    g_test_add_func("/create/preallocation", test_preallocation);
    g_test_add_func("/create/backing", test_backing);
    g_test_add_func("/create/data-file", test_data_file);
    g_test_add_func("/create/container", test_container);
    g_test_add_func("/create/refused", test_refused);
    return g_test_run();
}
