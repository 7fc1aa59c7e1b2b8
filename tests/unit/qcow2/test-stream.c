/* SPDX-License-Identifier: BSD-3-Clause */
/* qcow2 files that are written in one pass: qemu-img finds them clean, and the disk in them. */
#include "tests/rigs/stream-rig.h"

#include <string.h>

#define CLUSTER UINT64_C(65536)

/* Every other 192 KiB, in ascending order, with tables closed on the way. */
static void write_stripes(struct stream_rig *r, enum stream_data kind)
{
    for (uint64_t at = 0; at < r->o.size; at += 6 * CLUSTER) {
        stream_rig_write(r, 0, kind, at, MIN(3 * CLUSTER, r->o.size - at));
        stream_rig_below(r, at);
    }
}

static void test_sizes(void)
{
    const uint64_t sizes[] = {0, 1, 512, 65535, 65536, 65536 + 512, 3 * MIB + 100};

    for (size_t i = 0; i < G_N_ELEMENTS(sizes) && stream_can_check(); i++) {
        struct stream_rig r;

        stream_rig_new(&r, &(struct q2_stream_options){.size = sizes[i]});
        write_stripes(&r, DATA_RANDOM);
        stream_rig_finish(&r);
        stream_rig_check(&r);
        stream_rig_free(&r);
    }
}

/* Every kind of data, by each way of compression. */
static void test_data(void)
{
    for (int kind = DATA_RANDOM; kind <= DATA_MIXED && stream_can_check(); kind++)
        for (int way = 0; way < 3; way++) {
            struct stream_rig r;
            struct q2_stream_options o = {.size = 9 * MIB + 1000,
                                          .compress = way > 0,
                                          .compression = way == 1 ? Q2_ZLIB : Q2_ZSTD,
                                          .detect_zeroes = kind != DATA_ZERO};

            stream_rig_new(&r, &o);
            stream_rig_write(&r, 0, kind, 0, 5 * MIB);
            stream_rig_write(&r, 0, kind, 5 * MIB, o.size - 5 * MIB);
            stream_rig_finish(&r);
            stream_rig_check(&r);
            stream_rig_free(&r);
        }
}

static void add_tests(void)
{
    g_test_add_func("/stream/sizes", test_sizes);
    g_test_add_func("/stream/data", test_data);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    add_tests();
    return g_test_run();
}
