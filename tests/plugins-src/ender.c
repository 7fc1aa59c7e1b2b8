/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plugin that asks for the end of the server in a callback, with shutdown=CALLBACK, or for the
 * end of the client, with disconnect=CALLBACK (force=1: at once). With ENDER=load in the
 * environment it asks for the server's end in .load; with thread=1 another thread asks for it, some
 * time after the start. A data callback asks only at offset 0. With multi_conn=1 clients have
 * handles of their own.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <nbdkit-version.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#if NBDKIT_VERSION_MAJOR == 1 && NBDKIT_VERSION_MINOR < 34
extern void nbdkit_disconnect(int force);
#endif

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char shutdown_at[32], disconnect_at[32];
static int force, multi_conn, in_thread;

static void at(const char *callback)
{
    if (!strcmp(shutdown_at, callback))
        nbdkit_shutdown();
    if (!strcmp(disconnect_at, callback))
        nbdkit_disconnect(force);
}

static void ender_load(void)
{
    const char *where = getenv("ENDER");

    if (where && !strcmp(where, "load"))
        nbdkit_shutdown();
}

static int ender_config(const char *key, const char *value)
{
    if (!strcmp(key, "shutdown"))
        strncpy(shutdown_at, value, sizeof shutdown_at - 1);
    else if (!strcmp(key, "disconnect"))
        strncpy(disconnect_at, value, sizeof disconnect_at - 1);
    else if (!strcmp(key, "force"))
        return nbdkit_parse_int("force", value, &force);
    else if (!strcmp(key, "thread"))
        return nbdkit_parse_int("thread", value, &in_thread);
    else if (!strcmp(key, "multi_conn"))
        return nbdkit_parse_int("multi_conn", value, &multi_conn);
    at("config");
    return 0;
}

static int ender_config_complete(void)
{
    at("config_complete");
    return 0;
}

static int ender_thread_model(void)
{
    at("thread_model");
    return THREAD_MODEL;
}

static int ender_get_ready(void)
{
    at("get_ready");
    return 0;
}

static void *other_thread(void *unused)
{
    nbdkit_shutdown();
    return NULL;
}

static int ender_after_fork(void)
{
    pthread_t thread;

    at("after_fork");
    if (in_thread && pthread_create(&thread, NULL, other_thread, NULL) == 0)
        pthread_detach(thread);
    return 0;
}

static int ender_preconnect(int readonly)
{
    at("preconnect");
    return 0;
}

static void *ender_open(int readonly)
{
    at("open");
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static void ender_close(void *handle)
{
    at("close");
}

static int64_t ender_get_size(void *handle)
{
    at("get_size");
    return 1 << 20;
}

static int ender_can_multi_conn(void *handle)
{
    at("can_multi_conn");
    return multi_conn;
}

static int ender_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    memset(buf, 'e', count);
    if (offset == 0)
        at("pread");
    return 0;
}

static int ender_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags)
{
    if (offset == 0)
        at("pwrite");
    return 0;
}

static int ender_flush(void *handle, uint32_t flags)
{
    at("flush");
    return 0;
}

static int ender_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                         struct nbdkit_extents *extents)
{
    if (offset == 0)
        at("extents");
    return nbdkit_add_extent(extents, offset, count, 0);
}

static struct nbdkit_plugin plugin = {
    .name = "ender",
    .load = ender_load,
    .config = ender_config,
    .config_complete = ender_config_complete,
    .thread_model = ender_thread_model,
    .get_ready = ender_get_ready,
    .after_fork = ender_after_fork,
    .preconnect = ender_preconnect,
    .open = ender_open,
    .close = ender_close,
    .get_size = ender_get_size,
    .can_multi_conn = ender_can_multi_conn,
    .pread = ender_pread,
    .pwrite = ender_pwrite,
    .flush = ender_flush,
    .extents = ender_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
