/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin of API version 1 with every callback that this version has: 1 MiB of memory. */
#include <nbdkit-plugin.h>

#include "probe.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS
#define SIZE         (1 << 20)

static char disk[SIZE];

static void v1_load(void)
{
    probe("load\n");
}

static void v1_unload(void)
{
    probe("unload\n");
}

static int v1_config(const char *key, const char *value)
{
    probe("config %s=%s\n", key, value);
    return 0;
}

static int v1_config_complete(void)
{
    probe("config_complete\n");
    return 0;
}

static void *v1_open(int readonly)
{
    probe("open %d\n", readonly);
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static void v1_close(void *handle)
{
    probe("close\n");
}

static int64_t v1_get_size(void *handle)
{
    return SIZE;
}

static int yes(void *handle)
{
    return 1;
}

static int v1_can_fua(void *handle)
{
    return NBDKIT_FUA_NATIVE; /* more than this version can have */
}

static int v1_pread(void *handle, void *buf, uint32_t count, uint64_t offset)
{
    probe("pread %u %llu\n", count, (unsigned long long)offset);
    memcpy(buf, disk + offset, count);
    return 0;
}

static int v1_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset)
{
    probe("pwrite %u %llu\n", count, (unsigned long long)offset);
    memcpy(disk + offset, buf, count);
    return 0;
}

static int v1_flush(void *handle)
{
    probe("flush\n");
    return 0;
}

static int v1_trim(void *handle, uint32_t count, uint64_t offset)
{
    probe("trim %u %llu\n", count, (unsigned long long)offset);
    return 0;
}

static int v1_zero(void *handle, uint32_t count, uint64_t offset, int may_trim)
{
    probe("zero %u %llu may_trim=%d\n", count, (unsigned long long)offset, may_trim);
    memset(disk + offset, 0, count);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "v1",
    .load = v1_load,
    .unload = v1_unload,
    .config = v1_config,
    .config_complete = v1_config_complete,
    .open = v1_open,
    .close = v1_close,
    .get_size = v1_get_size,
    .can_write = yes,
    .can_flush = yes,
    .is_rotational = yes,
    .can_trim = yes,
    .can_zero = yes,
    .can_fua = v1_can_fua,
    .pread = v1_pread,
    .pwrite = v1_pwrite,
    .flush = v1_flush,
    .trim = v1_trim,
    .zero = v1_zero,
};

NBDKIT_REGISTER_PLUGIN(plugin)
