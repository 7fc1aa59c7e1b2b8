/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that has only the callbacks that every plugin must have. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS

static void *minimal_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t minimal_get_size(void *handle)
{
    return 1 << 20;
}

static int minimal_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    for (uint32_t i = 0; i < count; i++)
        ((char *)buf)[i] = (char)((offset + i) >> 12);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "minimal",
    .open = minimal_open,
    .get_size = minimal_get_size,
    .pread = minimal_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
