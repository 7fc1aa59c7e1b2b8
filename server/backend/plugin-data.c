/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The data path: it turns requests of any length into calls that the plugin understands, and makes
 * up for what the plugin cannot do.
 *
 * - A long request is split: into pieces of at most data_max bytes if it carries data, else of
 *   RANGE_CALL_MAX. Each piece goes to its own offset.
 * - Where FUA is not native, the whole request is followed by a flush.
 * - Where a plugin cannot zero, or does not want to now (ENOTSUP), zeroes are written; unless the
 *   request has to be fast and nothing has been changed yet.
 */
#include "server/backend/plugin-private.h"

#include "common/util/log-limit.h"

#include <errno.h>

static struct plugin_handle *handle_of(struct backend_handle *h)
{
    return (struct plugin_handle *)h;
}

static int no_memory(const struct plugin_handle *h, const char *what)
{
    log_error_limited(&h->plugin->faults, "disk %s: %s: no memory", h->plugin->disk, what);
    return -ENOMEM;
}

/* ---- one call each ---- */

static int call_pread(struct plugin_handle *h, void *buf, uint32_t count, uint64_t offset)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, false);
    int r = api->pread ? api->pread(h->opaque, buf, count, offset, 0)
                       : api->pread_v1(h->opaque, buf, count, offset);
    return plugin_leave(&c, "pread", r);
}

static int call_pwrite(struct plugin_handle *h, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, false);
    int r = api->pwrite ? api->pwrite(h->opaque, buf, count, offset, flags)
                        : api->pwrite_v1(h->opaque, buf, count, offset);
    return plugin_leave(&c, "pwrite", r);
}

static int call_flush(struct plugin_handle *h)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    struct plugin_call c;

    if (!api->flush && !api->flush_v1)
        return -EINVAL;
    plugin_enter(&c, h->plugin, h, false);
    int r = api->flush ? api->flush(h->opaque, 0) : api->flush_v1(h->opaque);
    return plugin_leave(&c, "flush", r);
}

static int call_zero(struct plugin_handle *h, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    struct plugin_call c;

    if (!h->native_zero || (!api->zero && (flags & NBDKIT_FAST_ZERO)))
        return -ENOTSUP;
    plugin_enter(&c, h->plugin, h, false);
    int r = api->zero ? api->zero(h->opaque, count, offset, flags)
                      : api->zero_v1(h->opaque, count, offset, (flags & NBDKIT_MAY_TRIM) != 0);
    r = plugin_leave(&c, "zero", r);
    return r == -EOPNOTSUPP ? -ENOTSUP : r;
}

static int call_trim(struct plugin_handle *h, uint32_t count, uint64_t offset, uint32_t flags)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, false);
    int r = api->trim ? api->trim(h->opaque, count, offset, flags)
                      : api->trim_v1(h->opaque, count, offset);
    return plugin_leave(&c, "trim", r);
}

/* ---- FUA ---- */

/* The flag for each call of a request with `flags`. */
static uint32_t native_fua(const struct plugin_handle *h, uint32_t flags)
{
    return (flags & BACKEND_FUA) && h->fua == NBDKIT_SUPPORT_NATIVE ? NBDKIT_FUA : 0;
}

/* After the last call of a request, which ended with `r`: the flush that FUA may still need. */
static int finish_fua(struct plugin_handle *h, uint32_t flags, int r)
{
    if (r == 0 && (flags & BACKEND_FUA) && h->fua != NBDKIT_SUPPORT_NATIVE)
        r = call_flush(h);
    return r;
}

/* ---- requests ---- */

int plugin_pread(struct backend_handle *handle, void *buf, uint32_t length, uint64_t offset)
{
    struct plugin_handle *h = handle_of(handle);
    int r = 0;

    for (uint32_t done = 0; r == 0 && done < length;) {
        uint32_t n = MIN(length - done, h->data_max);
        r = call_pread(h, (char *)buf + done, n, offset + done);
        done += n;
    }
    return r;
}

int plugin_pwrite(struct backend_handle *handle, const void *buf, uint32_t length, uint64_t offset,
                  uint32_t flags)
{
    struct plugin_handle *h = handle_of(handle);
    int r = 0;

    if (!handle->can_write)
        return -EROFS;
    for (uint32_t done = 0; r == 0 && done < length;) {
        uint32_t n = MIN(length - done, h->data_max);
        r = call_pwrite(h, (const char *)buf + done, n, offset + done, native_fua(h, flags));
        done += n;
    }
    return finish_fua(h, flags, r);
}

static int write_zeroes(struct plugin_handle *h, uint32_t count, uint64_t offset, uint32_t fua)
{
    uint32_t most = MIN(h->data_max, ZEROES_SIZE); /* a multiple of min_block, as both are */
    int r = 0;

    for (uint32_t done = 0; r == 0 && done < count;) {
        uint32_t n = MIN(count - done, most);
        r = call_pwrite(h, h->plugin->zeroes, n, offset + done, fua);
        done += n;
    }
    return r;
}

int plugin_zero(struct backend_handle *handle, uint64_t length, uint64_t offset, uint32_t flags)
{
    struct plugin_handle *h = handle_of(handle);
    uint32_t fua = native_fua(h, flags);
    uint32_t call_flags = fua | (flags & BACKEND_MAY_TRIM ? NBDKIT_MAY_TRIM : 0) |
                          (flags & BACKEND_FAST ? NBDKIT_FAST_ZERO : 0);
    int r = 0;

    if (!handle->can_write)
        return -EROFS;
    if ((flags & BACKEND_FAST) && !handle->can_fast_zero)
        return -ENOTSUP;
    for (uint64_t done = 0; r == 0 && done < length;) {
        uint32_t n = (uint32_t)MIN(length - done, RANGE_CALL_MAX);

        r = call_zero(h, n, offset + done, call_flags);
        if (r == -ENOTSUP && !(call_flags & NBDKIT_FAST_ZERO))
            r = write_zeroes(h, n, offset + done, fua);
        done += n;
        /* "Not supported" must mean that nothing was changed; from here on something was. */
        call_flags &= ~(uint32_t)NBDKIT_FAST_ZERO;
    }
    return finish_fua(h, flags, r);
}

int plugin_trim(struct backend_handle *handle, uint64_t length, uint64_t offset, uint32_t flags)
{
    struct plugin_handle *h = handle_of(handle);
    int r = 0;

    if (!handle->can_write)
        return -EROFS;
    if (!handle->can_trim)
        return -EINVAL;
    for (uint64_t done = 0; r == 0 && done < length;) {
        uint32_t n = (uint32_t)MIN(length - done, RANGE_CALL_MAX);
        r = call_trim(h, n, offset + done, native_fua(h, flags));
        done += n;
    }
    return finish_fua(h, flags, r);
}

int plugin_flush(struct backend_handle *handle)
{
    return call_flush(handle_of(handle));
}

/* ---- caching ---- */

static int call_cache(struct plugin_handle *h, uint32_t count, uint64_t offset)
{
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, false);
    return plugin_leave(&c, "cache", h->plugin->api.cache(h->opaque, count, offset, 0));
}

/* Read and throw away: what caches below the plugin has the data then. */
static int read_for_cache(struct plugin_handle *h, uint64_t length, uint64_t offset)
{
    uint32_t most = MIN(h->data_max, 1u << 20);
    g_autofree char *buf = g_try_malloc(MIN(most, length));
    int r = 0;

    if (!buf)
        return no_memory(h, "cache");
    for (uint64_t done = 0; r == 0 && done < length;) {
        uint32_t n = (uint32_t)MIN(length - done, most);
        r = call_pread(h, buf, n, offset + done);
        done += n;
    }
    return r;
}

int plugin_cache(struct backend_handle *handle, uint64_t length, uint64_t offset)
{
    struct plugin_handle *h = handle_of(handle);
    int r = 0;

    if (h->cache == NBDKIT_SUPPORT_NONE)
        return -EINVAL;
    if (length == 0)
        return 0;
    if (h->cache == NBDKIT_SUPPORT_EMULATE)
        return read_for_cache(h, length, offset);
    if (!h->plugin->api.cache) /* "native" without a callback: there is nothing to be done */
        return 0;
    for (uint64_t done = 0; r == 0 && done < length;) {
        uint32_t n = (uint32_t)MIN(length - done, RANGE_CALL_MAX);
        r = call_cache(h, n, offset + done);
        done += n;
    }
    return r;
}

/* ---- extents ---- */

/* Extents of [offset, offset + length), by one call. Its count has 32 bits, as the ABI wants it.
 * But a plugin may tell more than it was asked for (nbdkit_add_extent(3)), so one that knows of a
 * hole of a petabyte can tell it in one answer: the list takes all of it that is wanted. */
static int call_extents(struct plugin_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                        struct extents *extents)
{
    struct nbdkit_extents *list = nbdkit_extents_new(offset, offset + length);
    uint32_t count = (uint32_t)MIN(length, UINT32_MAX & ~UINT32_C(0xffff));
    struct plugin_call c;

    if (!list)
        return no_memory(h, "extents");
    plugin_enter(&c, h->plugin, h, false);
    int r = h->plugin->api.extents(h->opaque, count, offset,
                                   flags & BACKEND_REQ_ONE ? NBDKIT_REQ_ONE : 0, list);
    r = plugin_leave(&c, "extents", r);
    if (r == 0)
        r = nbdkit_extents_take(list, h->handle.min_block, extents);
    nbdkit_extents_free(list);
    return r;
}

int plugin_extents(struct backend_handle *handle, uint64_t length, uint64_t offset, uint32_t flags,
                   struct extents *extents)
{
    if (!handle->can_extents) {
        int r = extents_add(extents, length, 0);
        return r == -ENOSPC ? 0 : r;
    }
    return call_extents(handle_of(handle), length, offset, flags, extents);
}
