/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Handles: a handle is opened, and the plugin is asked once for all that it can do.
 *
 * Whatever the plugin answers is checked here, so that the data path can rely on it: an ability
 * without its callback is taken away, a limit that contradicts itself is an error.
 *
 * All handles of a disk are opened for one export name, the plugin's default (or ""), whatever name
 * a client uses to reach the disk. Names of exports are the server's here, and a disk is one image:
 * its bitmaps and views would be nonsense if a client's choice of a name could put another image
 * behind them.
 */
#include "server/backend/plugin-private.h"

#include "common/util/error.h"
#include "common/util/log-limit.h"

#include <string.h>

#define EXPORT_NAME_MAX 4096

/* ---- questions ---- */

/* Only -1 is a failure here. Other answers without a meaning are taken as nbdkit takes them, since
 * that is what plugins were tested with. */

/* Put a plugin's answer into *answer. -1 and *err if it has failed. */
static int ask(struct plugin_handle *h, const char *name, int (*callback)(void *), int *answer,
               GError **err)
{
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, true);
    *answer = callback(h->opaque);
    return plugin_leave_setup(&c, name, *answer != -1, err);
}

/* Ask a question of yes or no; without a `callback` the answer is `otherwise`. 0 or 1, or -1 and
 * *err. */
static int ask_bool(struct plugin_handle *h, const char *name, int (*callback)(void *),
                    bool otherwise, GError **err)
{
    int r;

    if (!callback)
        return otherwise;
    if (ask(h, name, callback, &r, err) < 0)
        return -1;
    return r != 0;
}

/* The same for can_fua and can_cache. NBDKIT_SUPPORT_..., or `odd` where the plugin answers another
 * number, or -1. */
static int ask_support(struct plugin_handle *h, const char *name, int (*callback)(void *),
                       int otherwise, int odd, GError **err)
{
    int r;

    if (!callback)
        return otherwise;
    if (ask(h, name, callback, &r, err) < 0)
        return -1;
    return r < 0 || r > NBDKIT_SUPPORT_NATIVE ? odd : r;
}

/* A yes without the callback for it counts as a no, and is logged once for each handle. */
static bool backed(struct plugin_handle *h, const char *question, bool yes, bool callback)
{
    if (yes && !callback)
        log_error_limited(
            &h->plugin->faults,
            "disk %s: %s: %s is true, but the callback for it is missing: taken as false",
            h->plugin->disk, h->plugin->api.name, question);
    return yes && callback;
}

static int ask_size(struct plugin_handle *h, GError **err)
{
    struct plugin_call c;

    plugin_enter(&c, h->plugin, h, true);
    int64_t size = h->plugin->api.get_size(h->opaque);
    if (plugin_leave_setup(&c, "get_size", size >= 0, err) < 0)
        return -1;
    h->handle.size = (uint64_t)size;
    return 0;
}

static bool is_power_of_2(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

static int check_block_size(struct plugin_handle *h, uint32_t minimum, uint32_t preferred,
                            uint32_t maximum, GError **err)
{
    const char *wrong = NULL;

    if (!is_power_of_2(minimum) || minimum > 65536)
        wrong = "the minimum is not a power of 2 up to 64K";
    else if (!is_power_of_2(preferred) || preferred < 512 || preferred > 32 << 20)
        wrong = "the preferred size is not a power of 2 from 512 to 32M";
    else if (maximum != UINT32_MAX && maximum % minimum)
        wrong = "the maximum is neither -1 nor a multiple of the minimum";
    else if (minimum > preferred || preferred > maximum)
        wrong = "they do not ascend";
    if (!wrong)
        return 0;
    return fail(err, "disk %s: %s: block_size %u, %u, %u: %s", h->plugin->disk, h->plugin->api.name,
                minimum, preferred, maximum, wrong);
}

static int ask_block_size(struct plugin_handle *h, GError **err)
{
    uint32_t minimum = 0, preferred = 0, maximum = 0;
    struct plugin_call c;

    h->handle.min_block = 1;
    h->handle.pref_block = 4096;
    h->handle.max_block = DATA_CALL_MAX;
    h->data_max = DATA_CALL_MAX;
    if (!h->plugin->api.block_size)
        return 0;
    plugin_enter(&c, h->plugin, h, true);
    int r = h->plugin->api.block_size(h->opaque, &minimum, &preferred, &maximum);
    if (plugin_leave_setup(&c, "block_size", r == 0, err) < 0)
        return -1;
    if (!minimum && !preferred && !maximum) /* nothing to say */
        return 0;
    if (check_block_size(h, minimum, preferred, maximum, err) < 0)
        return -1;
    h->handle.has_block_size = true;
    h->handle.min_block = minimum;
    h->handle.pref_block = preferred;
    if (maximum != UINT32_MAX) {
        h->handle.max_block = maximum;
        h->data_max = MIN(maximum, DATA_CALL_MAX); /* both multiples of the minimum */
    }
    return 0;
}

static int ask_fua(struct plugin_handle *h, GError **err)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    bool flush = api->flush || api->flush_v1;

    h->fua = ask_support(h, "can_fua", api->can_fua,
                         flush ? NBDKIT_SUPPORT_EMULATE : NBDKIT_SUPPORT_NONE,
                         NBDKIT_SUPPORT_EMULATE, err);
    if (h->fua < 0)
        return -1;
    if (h->fua == NBDKIT_SUPPORT_NATIVE && api->api_version < 2)
        h->fua = NBDKIT_SUPPORT_EMULATE; /* its callbacks have no flags argument */
    if (h->fua == NBDKIT_SUPPORT_EMULATE && !backed(h, "can_fua (by flush)", true, flush))
        h->fua = NBDKIT_SUPPORT_NONE;
    h->handle.can_fua = h->fua != NBDKIT_SUPPORT_NONE;
    return 0;
}

/* All abilities that concern changes. Only asked where the handle can be written. */
static int ask_write_abilities(struct plugin_handle *h, GError **err)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    bool zero = api->zero || api->zero_v1, trim = api->trim || api->trim_v1;
    int r;

    if ((r = ask_bool(h, "can_zero", api->can_zero, zero, err)) < 0)
        return -1;
    h->native_zero = backed(h, "can_zero", r, zero);
    h->handle.can_zero = true; /* by pwrite if need be */
    /* Where zeroing is emulated, it fails fast when it has to be fast. */
    if ((r = ask_bool(h, "can_fast_zero", api->can_fast_zero, !api->zero || !h->native_zero, err)) <
        0)
        return -1;
    h->handle.can_fast_zero = r;
    if ((r = ask_bool(h, "can_trim", api->can_trim, trim, err)) < 0)
        return -1;
    h->handle.can_trim = backed(h, "can_trim", r, trim);
    return ask_fua(h, err);
}

static int ask_abilities(struct plugin_handle *h, GError **err)
{
    const struct nbdkit_plugin *api = &h->plugin->api;
    bool write = api->pwrite || api->pwrite_v1, flush = api->flush || api->flush_v1;
    int r;

    if (ask_size(h, err) < 0 || ask_block_size(h, err) < 0)
        return -1;
    if (!h->readonly) {
        if ((r = ask_bool(h, "can_write", api->can_write, write, err)) < 0)
            return -1;
        h->handle.can_write = backed(h, "can_write", r, write);
    }
    if (h->handle.can_write && ask_write_abilities(h, err) < 0)
        return -1;
    if ((r = ask_bool(h, "can_flush", api->can_flush, flush, err)) < 0)
        return -1;
    h->handle.can_flush = backed(h, "can_flush", r, flush);
    if ((r = ask_bool(h, "is_rotational", api->is_rotational, false, err)) < 0)
        return -1;
    h->handle.rotational = r;
    if ((r = ask_bool(h, "can_multi_conn", api->can_multi_conn, false, err)) < 0)
        return -1;
    h->handle.can_multi_conn = r && h->plugin->thread_model != NBDKIT_SERIALIZE_CONNECTIONS;
    h->cache = ask_support(h, "can_cache", api->can_cache,
                           api->cache ? NBDKIT_SUPPORT_NATIVE : NBDKIT_SUPPORT_NONE,
                           NBDKIT_SUPPORT_NATIVE, err);
    if (h->cache < 0)
        return -1;
    h->handle.can_cache = h->cache != NBDKIT_SUPPORT_NONE;
    if ((r = ask_bool(h, "can_extents", api->can_extents, api->extents, err)) < 0)
        return -1;
    h->handle.can_extents = backed(h, "can_extents", r, api->extents);
    return 0;
}

static void take_offered_fd(struct plugin_handle *h)
{
    struct plugin *p = h->plugin;
    struct plugin_call c;

    plugin_enter(&c, p, h, true);
    int fd = p->offered_fd(h->opaque);
    plugin_leave_setup(&c, "nbdfleece_plugin_fd", true, NULL);
    if (fd >= 0)
        h->handle.fd = fd;
}

/* Can what a plugin has said of a range be acted on? */
static bool is_usable(const struct backend_handle *h, const struct nbdfleece_segment *said,
                      uint64_t length, bool writing)
{
    if (said->length == 0 || said->length > length ||
        (said->length < length && said->length % h->min_block != 0))
        return false;
    if (said->place == NBDFLEECE_ZERO)
        return !writing;
    return said->place == NBDFLEECE_DATA && said->fd >= 0 && said->offset <= INT64_MAX &&
           said->length <= INT64_MAX - said->offset;
}

/* Without plugin_enter, because it is asked for each request, and may call nothing of ours. */
static void plugin_map_range(struct backend_handle *handle, uint64_t offset, uint64_t length,
                             bool writing, struct backend_segment *segment)
{
    struct plugin_handle *h = (struct plugin_handle *)handle;
    struct nbdfleece_segment said = {.length = 0};

    if (h->plugin->offered_map(h->opaque, offset, length, writing, &said, sizeof said) == 0 &&
        is_usable(handle, &said, length, writing))
        *segment = (struct backend_segment){
            .place = said.place == NBDFLEECE_ZERO ? BACKEND_ZEROES : BACKEND_IN_FILE,
            .fd = said.fd,
            .host = said.offset,
            .length = said.length,
        };
    else
        *segment = (struct backend_segment){.place = BACKEND_ANYWHERE, .fd = -1, .length = length};
}

/* Files may only replace the plugin's calls where these may run in parallel. */
static void take_offered_files(struct plugin_handle *h)
{
    const struct plugin *p = h->plugin;

    h->handle.fd = -1;
    if (p->thread_model != NBDKIT_PARALLEL)
        return;
    if (p->offered_fd)
        take_offered_fd(h);
    if (p->offered_map && h->handle.fd < 0)
        h->handle.map = plugin_map_range;
}

/* ---- opening and closing ---- */

/* Under model 0 there is one handle at a time. */
static int reserve_handle(struct plugin *p, GError **err)
{
    int r = 0;

    pthread_mutex_lock(&p->registry);
    if (p->thread_model == NBDKIT_SERIALIZE_CONNECTIONS && p->handles > 0)
        r = fail(err, "disk %s: %s: this plugin allows one handle at a time", p->disk, p->api.name);
    else
        p->handles++;
    pthread_mutex_unlock(&p->registry);
    return r;
}

static void release_handle(struct plugin *p)
{
    pthread_mutex_lock(&p->registry);
    p->handles--;
    pthread_mutex_unlock(&p->registry);
}

/* Settle the name that all handles are opened for. The first handle is the disk's own, and others
 * are opened only after it, so no two threads are here at once. */
static int settle_export_name(struct plugin_handle *h, GError **err)
{
    struct plugin *p = h->plugin;
    struct plugin_call c;
    const char *name = "";

    if (p->export_name)
        return 0;
    if (p->api.default_export) {
        plugin_enter(&c, p, h, true);
        name = p->api.default_export(h->readonly, h->client && h->client->tls);
        bool good = name && strnlen(name, EXPORT_NAME_MAX + 1) <= EXPORT_NAME_MAX &&
                    g_utf8_validate(name, -1, NULL);
        if (plugin_leave_setup(&c, "default_export (the plugin has no default image)", good, err) <
            0)
            return -1;
    }
    p->export_name = g_strdup(name);
    return 0;
}

/* Preconnect, open, ask. On failure nothing is left open. */
static int begin(struct plugin_handle *h, GError **err)
{
    struct plugin *p = h->plugin;
    struct plugin_call c;

    if (settle_export_name(h, err) < 0)
        return -1;
    if (p->api.preconnect) {
        plugin_enter(&c, p, h, true);
        int r = p->api.preconnect(h->readonly);
        if (plugin_leave_setup(&c, "preconnect", r == 0, err) < 0) {
            atomic_store(&p->backend.judges_clients, true); /* preconnect is there for that */
            return -1;
        }
    }
    plugin_enter(&c, p, h, true);
    h->opaque = p->api.open(h->readonly);
    if (plugin_leave_setup(&c, "open", h->opaque, err) < 0)
        return -1;
    return ask_abilities(h, err);
}

static void discard(struct plugin_handle *h)
{
    struct plugin *p = h->plugin;
    struct plugin_call c;

    if (h->opaque && p->api.close) {
        plugin_enter(&c, p, h, true);
        p->api.close(h->opaque);
        plugin_leave_setup(&c, "close", true, NULL);
    }
    release_handle(p);
    intern_clear(&h->interned);
    pthread_mutex_destroy(&h->lock);
    g_free(h);
}

int plugin_open(struct backend *b, bool readonly, const struct backend_client *client,
                struct backend_handle **handle, GError **err)
{
    struct plugin *p = plugin_of(b);

    if (reserve_handle(p, err) < 0)
        return -1;
    struct plugin_handle *h = g_new0(struct plugin_handle, 1);
    h->handle.backend = b;
    h->plugin = p;
    h->readonly = readonly;
    h->client = client;
    pthread_mutex_init(&h->lock, NULL);
    intern_init(&h->interned);
    if (begin(h, err) < 0) {
        discard(h);
        return -1;
    }
    take_offered_files(h);
    *handle = &h->handle;
    return 0;
}

void plugin_close(struct backend_handle *handle)
{
    discard((struct plugin_handle *)handle);
}

/* ---- the image's size ---- */

int plugin_resize(struct backend_handle *handle, uint64_t size, GError **err)
{
    struct plugin_handle *h = (struct plugin_handle *)handle;
    struct plugin *p = h->plugin;
    struct plugin_call c;

    if (!handle->can_write)
        return fail(err, "disk %s: %s: it is not open for writing", p->disk, p->api.name);
    if (size > INT64_MAX)
        return fail(err, "disk %s: %s: size %" G_GUINT64_FORMAT " is too large", p->disk,
                    p->api.name, size);
    plugin_enter(&c, p, h, true);
    int r = p->offered_resize(h->opaque, size);
    return plugin_leave_setup(&c, "nbdfleece_plugin_resize", r == 0, err);
}
