/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin that breaks one of the rules: mode=WHAT says which. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char mode[64];

static int is(const char *what)
{
    return !strcmp(mode, what);
}

static int evil_config(const char *key, const char *value)
{
    if (strcmp(key, "mode") != 0)
        return 7; /* neither 0 nor -1 */
    strncpy(mode, value, sizeof mode - 1);
    return is("silent-config") ? -1 : 0;
}

static int evil_thread_model(void)
{
    return is("thread_model") ? -5 : is("thread_model-huge") ? 99 : THREAD_MODEL;
}

static const char *evil_default_export(int readonly, int is_tls)
{
    return is("no-default") ? NULL : is("bad-default") ? "\xff\xfe" : "";
}

static void *evil_open(int readonly)
{
    if (is("open")) {
        nbdkit_error("no: %s", "two reasons");
        nbdkit_error("and another");
        return NULL;
    }
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t evil_get_size(void *handle)
{
    return is("size") ? -2 : is("size-huge") ? INT64_MAX : 1 << 20;
}

static int evil_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = is("block-minimum") ? 3 : is("block-minimum-huge") ? 131072 : 512;
    *preferred = is("block-preferred") ? 256 : is("block-preferred-odd") ? 5000 : 4096;
    *maximum = is("block-maximum")      ? 5000
               : is("block-descend")    ? 2048
               : is("block-no-maximum") ? UINT32_MAX
                                        : 32 << 20;
    return is("block-return") ? 1 : 0;
}

static int evil_can_write(void *handle)
{
    return is("can_write") ? -1 : 1;
}

static int evil_can_fua(void *handle)
{
    return is("can_fua") ? -1 : NBDKIT_FUA_EMULATE; /* without .flush */
}

static int evil_can_cache(void *handle)
{
    return is("can_cache") ? -1 : NBDKIT_CACHE_NATIVE; /* without .cache */
}

static int yes(void *handle)
{
    return 1;
}

static int data_call(void)
{
    if (is("returns-1"))
        return 1;
    if (is("returns-count"))
        return 512;
    if (is("returns-minus-2"))
        return -2;
    if (is("errno")) {
        errno = ENOSPC; /* it means nothing, since errno_is_preserved is not set */
        return -1;
    }
    if (is("set_error")) {
        nbdkit_set_error(ENOSPC);
        errno = EPERM;
        return -1;
    }
    if (is("eagain")) {
        nbdkit_set_error(EAGAIN);
        return -1;
    }
    if (is("error-nonsense")) {
        nbdkit_set_error(-17);
        return -1;
    }
    return 0;
}

static int evil_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    memset(buf, 0, count);
    return data_call();
}

static int evil_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags)
{
    return data_call();
}

static int evil_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *e)
{
    if (is("extents-none"))
        return 0;
    if (is("extents-empty")) {
        for (int i = 0; i < 1000; i++)
            nbdkit_add_extent(e, offset, 0, NBDKIT_EXTENT_HOLE);
        return 0;
    }
    if (is("extents-before"))
        return nbdkit_add_extent(e, 0, offset, 0);
    if (is("extents-gap")) {
        nbdkit_add_extent(e, offset, 512, 0);
        nbdkit_add_extent(e, offset + 1024, 512, NBDKIT_EXTENT_HOLE);
        return 0; /* as if nothing had been wrong */
    }
    if (is("extents-backwards")) {
        nbdkit_add_extent(e, offset, 1024, 0);
        nbdkit_add_extent(e, offset, 512, NBDKIT_EXTENT_HOLE);
        return 0;
    }
    if (is("extents-late"))
        return nbdkit_add_extent(e, offset + 512, count, 0) < 0 ? 0 : 0;
    if (is("extents-overflow")) {
        nbdkit_add_extent(e, offset, UINT64_MAX, NBDKIT_EXTENT_HOLE);
        return 0;
    }
    if (is("extents-flags"))
        return nbdkit_add_extent(e, offset, count, 0xfffffff0 | NBDKIT_EXTENT_ZERO);
    if (is("extents-many")) { /* more than any list takes, all different from their neighbours */
        for (uint64_t i = 0; i < 3000000; i++) {
            if (nbdkit_add_extent(e, offset + i, 1, i % 2) < 0)
                return -1;
        }
        return 0;
    }
    if (is("extents-ragged")) { /* boundaries that are no multiples of the minimum block */
        nbdkit_add_extent(e, offset, 700, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
        nbdkit_add_extent(e, offset + 700, 100, NBDKIT_EXTENT_ZERO);
        nbdkit_add_extent(e, offset + 800, 3296, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
        nbdkit_add_extent(e, offset + 4096, 10, 0);
        return 0;
    }
    if (is("extents-crumb"))
        return nbdkit_add_extent(e, offset, 10, NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO);
    return nbdkit_add_extent(e, offset, count, 0);
}

static struct nbdkit_plugin plugin = {
    .name = "evil",
    .config = evil_config,
    .thread_model = evil_thread_model,
    .default_export = evil_default_export,
    .open = evil_open,
    .get_size = evil_get_size,
    .block_size = evil_block_size,
    .can_write = evil_can_write,
    .can_flush = yes, /* without .flush, and the same for trim and zero */
    .can_trim = yes,
    .can_zero = yes,
    .can_fua = evil_can_fua,
    .can_cache = evil_can_cache,
    .pread = evil_pread,
    .pwrite = evil_pwrite,
    .extents = evil_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
