/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that always opens for the server, but for a client only if there is a file open=PATH. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <string.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *path;

static int judge_config(const char *key, const char *value)
{
    if (strcmp(key, "open")) {
        nbdkit_error("unknown key %s", key);
        return -1;
    }
    path = nbdkit_absolute_path(value);
    return path ? 0 : -1;
}

static void *judge_open(int readonly)
{
    if (nbdkit_peer_pid() >= 0 && access(path, F_OK) < 0) {
        nbdkit_error("this client has no business here");
        return NULL;
    }
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t judge_get_size(void *handle)
{
    return 1 << 20;
}

static int judge_can_multi_conn(void *handle)
{
    return 1;
}

static int judge_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    memset(buf, 0, count);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "judge",
    .config = judge_config,
    .open = judge_open,
    .get_size = judge_get_size,
    .can_multi_conn = judge_can_multi_conn,
    .pread = judge_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
