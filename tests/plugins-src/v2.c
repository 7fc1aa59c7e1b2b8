/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plugin of API version 2 with every callback: 1 MiB of memory. `KEY=N` with the name of a query
 * (can_write ...) sets what it answers; other keys are noted below.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "probe.h"

#include <stdlib.h>
#include <unistd.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
#define SIZE         (1 << 20)

int v2_debug_level = 0;

static char disk[SIZE];
static char label[64];

/* What the queries answer. */
static struct {
    const char *key;
    long value;
} answers[] = {
    {"can_write", 1},       {"can_flush", 1},      {"is_rotational", 1}, {"can_trim", 1},
    {"can_zero", 1},        {"can_fast_zero", 1},  {"can_extents", 1},   {"can_fua", 2},
    {"can_multi_conn", 1},  {"can_cache", 2},      {"thread_model", 3},  {"minimum", 1},
    {"preferred", 4096},    {"maximum", 33554432}, {"zero_error", 0},    {"after_fork", 0},
    {"config_complete", 0}, {"get_ready", 0},      {"ends_fd", -1},
};
#define ANSWERS (sizeof answers / sizeof answers[0])

static long answer(const char *key)
{
    for (size_t i = 0; i < ANSWERS; i++) {
        if (!strcmp(answers[i].key, key))
            return answers[i].value;
    }
    abort();
}

static void v2_load(void)
{
    probe("load level=%d\n", v2_debug_level);
}

/* With ends_fd=N, cleanup and unload each write a letter to that descriptor, because the record
 * goes when the object is unloaded. */
static void tell_end(const char *letter)
{
    if (answer("ends_fd") >= 0 && write((int)answer("ends_fd"), letter, 1) != 1)
        abort();
}

static void v2_unload(void)
{
    probe("unload\n");
    tell_end("u");
}

static int v2_config(const char *key, const char *value)
{
    probe("config %s=%s\n", key, value);
    if (!strcmp(key, "label")) {
        snprintf(label, sizeof label, "%s", value);
        return 0;
    }
    if (!strcmp(key, "stdio")) {
        probe("stdio_safe=%d\n", nbdkit_stdio_safe());
        return 0;
    }
    for (size_t i = 0; i < ANSWERS; i++) {
        if (!strcmp(answers[i].key, key)) {
            answers[i].value = strtol(value, NULL, 0);
            return 0;
        }
    }
    nbdkit_error("what is '%s'?", key);
    return -1;
}

static int v2_config_complete(void)
{
    probe("config_complete\n");
    return (int)answer("config_complete");
}

static int v2_thread_model(void)
{
    probe("thread_model\n");
    return (int)answer("thread_model");
}

static int v2_get_ready(void)
{
    probe("get_ready\n");
    return (int)answer("get_ready");
}

static int v2_after_fork(void)
{
    probe("after_fork\n");
    return (int)answer("after_fork");
}

static void v2_cleanup(void)
{
    probe("cleanup\n");
    tell_end("c");
}

static void v2_dump_plugin(void)
{
    printf("v2_own_line=1\n");
}

static int v2_preconnect(int readonly)
{
    probe("preconnect %d\n", readonly);
    return 0;
}

static int v2_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    return nbdkit_add_export(exports, label, NULL);
}

static const char *v2_default_export(int readonly, int is_tls)
{
    probe("default_export %d %d\n", readonly, is_tls);
    return nbdkit_strdup_intern("the-default");
}

static void *v2_open(int readonly)
{
    probe("open %d name=%s tls=%d\n", readonly, nbdkit_export_name(), nbdkit_is_tls());
    char *handle = malloc(1);
    return handle;
}

static void v2_close(void *handle)
{
    probe("close\n");
    free(handle);
}

static const char *v2_export_description(void *handle)
{
    return label;
}

static int64_t v2_get_size(void *handle)
{
    probe("get_size\n");
    return SIZE;
}

static int v2_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = (uint32_t)answer("minimum");
    *preferred = (uint32_t)answer("preferred");
    *maximum = (uint32_t)answer("maximum");
    return 0;
}

#define QUERY(name)                                                                                \
    static int v2_##name(void *handle)                                                             \
    {                                                                                              \
        probe(#name "\n");                                                                         \
        return (int)answer(#name);                                                                 \
    }
QUERY(can_write)
QUERY(can_flush)
QUERY(is_rotational)
QUERY(can_trim)
QUERY(can_zero)
QUERY(can_fast_zero)
QUERY(can_extents)
QUERY(can_fua)
QUERY(can_multi_conn)
QUERY(can_cache)

static int v2_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("pread %u %llu %u\n", count, (unsigned long long)offset, flags);
    probe_data("pread");
    memcpy(buf, disk + offset, count);
    return 0;
}

static int v2_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("pwrite %u %llu %u\n", count, (unsigned long long)offset, flags);
    probe_data("pwrite");
    memcpy(disk + offset, buf, count);
    return 0;
}

static int v2_flush(void *handle, uint32_t flags)
{
    probe("flush %u\n", flags);
    probe_data("flush");
    return 0;
}

static int v2_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("trim %u %llu %u\n", count, (unsigned long long)offset, flags);
    probe_data("trim");
    return 0;
}

static int v2_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("zero %u %llu %u\n", count, (unsigned long long)offset, flags);
    probe_data("zero");
    if (answer("zero_error")) {
        nbdkit_set_error((int)answer("zero_error"));
        return -1;
    }
    memset(disk + offset, 0, count);
    return 0;
}

static int v2_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                      struct nbdkit_extents *extents)
{
    probe("extents %u %llu %u\n", count, (unsigned long long)offset, flags);
    probe_data("extents");
    /* Tell all of the disk, however little is asked: three quarters of data, then a hole. */
    if (nbdkit_add_extent(extents, 0, SIZE / 2, 0) < 0 ||
        nbdkit_add_extent(extents, SIZE / 2, SIZE / 4, 0) < 0)
        return -1;
    return nbdkit_add_extent(extents, SIZE / 4 * 3, SIZE / 4,
                             NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
}

static int v2_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("cache %u %llu %u\n", count, (unsigned long long)offset, flags);
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "v2",
    .longname = "test plugin, version 2",
    .version = "2.0",
    .description = "Every callback.",
    .config_help = "label=TEXT",
    .magic_config_key = "label",
    .errno_is_preserved = 1,
    .load = v2_load,
    .unload = v2_unload,
    .config = v2_config,
    .config_complete = v2_config_complete,
    .thread_model = v2_thread_model,
    .get_ready = v2_get_ready,
    .after_fork = v2_after_fork,
    .cleanup = v2_cleanup,
    .dump_plugin = v2_dump_plugin,
    .preconnect = v2_preconnect,
    .list_exports = v2_list_exports,
    .default_export = v2_default_export,
    .open = v2_open,
    .close = v2_close,
    .export_description = v2_export_description,
    .get_size = v2_get_size,
    .block_size = v2_block_size,
    .can_write = v2_can_write,
    .can_flush = v2_can_flush,
    .is_rotational = v2_is_rotational,
    .can_trim = v2_can_trim,
    .can_zero = v2_can_zero,
    .can_fast_zero = v2_can_fast_zero,
    .can_extents = v2_can_extents,
    .can_fua = v2_can_fua,
    .can_multi_conn = v2_can_multi_conn,
    .can_cache = v2_can_cache,
    .pread = v2_pread,
    .pwrite = v2_pwrite,
    .flush = v2_flush,
    .trim = v2_trim,
    .zero = v2_zero,
    .extents = v2_extents,
    .cache = v2_cache,
};

NBDKIT_REGISTER_PLUGIN(plugin)
