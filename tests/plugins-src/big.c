/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A plugin of 16 GiB that keeps no data: it records every data call. Its keys are zero=ERRNO
 * (zeroing fails with it; 0: it works), zero_after=N (the first N zeroings work), maximum=N (the
 * maximum block size) and fua=N (the answer of can_fua; 1 without it).
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "probe.h"

#include <stdlib.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static long zero_error, zero_after, maximum, fua = NBDKIT_FUA_EMULATE;

static int big_config(const char *key, const char *value)
{
    long number = strtol(value, NULL, 0);

    if (!strcmp(key, "zero"))
        zero_error = number;
    else if (!strcmp(key, "zero_after"))
        zero_after = number;
    else if (!strcmp(key, "maximum"))
        maximum = number;
    else if (!strcmp(key, "fua"))
        fua = number;
    else
        return -1;
    return 0;
}

static void *big_open(int readonly)
{
    return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t big_get_size(void *handle)
{
    return INT64_C(16) << 30;
}

static int big_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *max)
{
    *minimum = maximum ? 512 : 0;
    *preferred = maximum ? 4096 : 0;
    *max = (uint32_t)maximum;
    return 0;
}

static int big_can_fast_zero(void *handle)
{
    return 1;
}

static int big_can_fua(void *handle)
{
    return (int)fua;
}

static int big_can_cache(void *handle)
{
    return NBDKIT_CACHE_EMULATE;
}

static int big_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("pread %u %llu %u\n", count, (unsigned long long)offset, flags);
    memset(buf, 1, count);
    return 0;
}

static int big_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                      uint32_t flags)
{
    const char *p = buf;
    int zeroes = !p[0] && !memcmp(p, p + 1, count - 1);

    probe("pwrite %u %llu %u%s\n", count, (unsigned long long)offset, flags,
          zeroes ? " zeroes" : "");
    return 0;
}

static int big_flush(void *handle, uint32_t flags)
{
    probe("flush\n");
    return 0;
}

static int big_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("trim %u %llu %u\n", count, (unsigned long long)offset, flags);
    return 0;
}

static int big_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    probe("zero %u %llu %u\n", count, (unsigned long long)offset, flags);
    if (zero_error && zero_after-- <= 0) {
        nbdkit_set_error((int)zero_error);
        return -1;
    }
    return 0;
}

static int big_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                       struct nbdkit_extents *extents)
{
    probe("extents %u %llu %u\n", count, (unsigned long long)offset, flags);
    return nbdkit_add_extent(extents, offset, count, 0);
}

static struct nbdkit_plugin plugin = {
    .name = "big",
    .config = big_config,
    .open = big_open,
    .get_size = big_get_size,
    .block_size = big_block_size,
    .can_fast_zero = big_can_fast_zero,
    .can_fua = big_can_fua,
    .can_cache = big_can_cache,
    .pread = big_pread,
    .pwrite = big_pwrite,
    .flush = big_flush,
    .trim = big_trim,
    .zero = big_zero,
    .extents = big_extents,
};

NBDKIT_REGISTER_PLUGIN(plugin)
