/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that needs a library which two plugins may not be able to share. (GLib can be shared,
 * but plugin-share.c does not list it.) */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <glib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static void *needy_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t needy_get_size(void *handle)
{
    return 1 << 20;
}

static int needy_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    memset(buf, g_ascii_xdigit_value('a'), count);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "needy",
    .open = needy_open,
    .get_size = needy_get_size,
    .pread = needy_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
