/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that needs a function which this server does not have. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

extern int nbdkit_from_the_future(void);

static void *future_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t future_get_size(void *handle)
{
    return nbdkit_from_the_future();
}

static int future_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "future",
    .open = future_open,
    .get_size = future_get_size,
    .pread = future_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
