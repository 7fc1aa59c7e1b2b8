/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Compares our ABI header with nbdkit's own, at compile time: every offset and every value. Since
 * both can be included at once, the functions are declared alike.
 */
#define nbdkit_plugin our_plugin
#include "common/base/nbdkit-abi.h"
#undef nbdkit_plugin

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <assert.h>
#include <glib.h>

#define SAME(ours, theirs)                                                                         \
    static_assert(offsetof(struct our_plugin, ours) == offsetof(struct nbdkit_plugin, theirs),     \
                  #ours)

SAME(struct_size, _struct_size);
SAME(api_version, _api_version);
SAME(thread_model, _thread_model);
SAME(name, name);
SAME(longname, longname);
SAME(version, version);
SAME(description, description);
SAME(load, load);
SAME(unload, unload);
SAME(config, config);
SAME(config_complete, config_complete);
SAME(config_help, config_help);
SAME(open, open);
SAME(close, close);
SAME(get_size, get_size);
SAME(can_write, can_write);
SAME(can_flush, can_flush);
SAME(is_rotational, is_rotational);
SAME(can_trim, can_trim);
SAME(pread_v1, _pread_v1);
SAME(pwrite_v1, _pwrite_v1);
SAME(flush_v1, _flush_v1);
SAME(trim_v1, _trim_v1);
SAME(zero_v1, _zero_v1);
SAME(errno_is_preserved, errno_is_preserved);
SAME(dump_plugin, dump_plugin);
SAME(can_zero, can_zero);
SAME(can_fua, can_fua);
SAME(pread, pread);
SAME(pwrite, pwrite);
SAME(flush, flush);
SAME(trim, trim);
SAME(zero, zero);
SAME(magic_config_key, magic_config_key);
SAME(can_multi_conn, can_multi_conn);
SAME(can_extents, can_extents);
SAME(extents, extents);
SAME(can_cache, can_cache);
SAME(cache, cache);
SAME(get_thread_model, thread_model);
SAME(can_fast_zero, can_fast_zero);
SAME(preconnect, preconnect);
SAME(get_ready, get_ready);
SAME(after_fork, after_fork);
SAME(list_exports, list_exports);
SAME(default_export, default_export);
SAME(export_description, export_description);
SAME(cleanup, cleanup);
SAME(block_size, block_size);
static_assert(sizeof(struct our_plugin) <= sizeof(struct nbdkit_plugin), "size");

static_assert(NBDKIT_SERIALIZE_CONNECTIONS == NBDKIT_THREAD_MODEL_SERIALIZE_CONNECTIONS, "");
static_assert(NBDKIT_SERIALIZE_ALL_REQUESTS == NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS, "");
static_assert(NBDKIT_SERIALIZE_REQUESTS == NBDKIT_THREAD_MODEL_SERIALIZE_REQUESTS, "");
static_assert(NBDKIT_PARALLEL == NBDKIT_THREAD_MODEL_PARALLEL, "");
static_assert(NBDKIT_MAY_TRIM == NBDKIT_FLAG_MAY_TRIM, "");
static_assert(NBDKIT_FUA == NBDKIT_FLAG_FUA, "");
static_assert(NBDKIT_REQ_ONE == NBDKIT_FLAG_REQ_ONE, "");
static_assert(NBDKIT_FAST_ZERO == NBDKIT_FLAG_FAST_ZERO, "");
static_assert(NBDKIT_SUPPORT_NONE == NBDKIT_FUA_NONE, "");
static_assert(NBDKIT_SUPPORT_EMULATE == NBDKIT_FUA_EMULATE, "");
static_assert(NBDKIT_SUPPORT_NATIVE == NBDKIT_FUA_NATIVE, "");
static_assert(NBDKIT_SUPPORT_NONE == NBDKIT_CACHE_NONE, "");
static_assert(NBDKIT_SUPPORT_EMULATE == NBDKIT_CACHE_EMULATE, "");
static_assert(NBDKIT_SUPPORT_NATIVE == NBDKIT_CACHE_NATIVE, "");

static void test_size(void)
{
    /* 384 bytes on 64 bits in nbdkit 1.32, and never less. */
    if (sizeof(void *) == 8)
        g_assert_cmpuint(sizeof(struct our_plugin), ==, 384);
}

int main(int argc, char **argv)
{
    g_test_init(&argc, &argv, NULL);
    g_test_add_func("/abi/size", test_size);
    return g_test_run();
}
