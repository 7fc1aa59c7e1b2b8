/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit-qcow2-plugin of nbdfleece: a qcow2 image, and the chain of files below it, as a disk.
 *
 * It has nbdkit's plugin API version 2, and is parallel; it also runs in a stock nbdkit, which does
 * not look at the functions of nbdfleece-plugin.h at the end. Its keys: nbdfleece-plugins(5). What
 * is done to the files, and why a crash leaves them whole: common/live/live-private.h.
 */
#include "common/base/nbdkit-abi.h"
#include "plugins/qcow2/settings.h"
#include "plugins/qcow2/shared.h"

#include <errno.h>
#include <string.h>

/* A plugin's configuration is global, by nbdkit's API. */
static struct settings settings = SETTINGS_INIT;
static struct shared *ahead; /* opened before any client's; NULL: none */

static struct live_image *image_of(void *handle)
{
    return ((struct shared *)handle)->image;
}

/* ---- configuration ---- */

static int qcow2_config(const char *key, const char *value)
{
    return settings_config(&settings, key, value);
}

static int qcow2_config_complete(void)
{
    return settings_check(&settings);
}

/* ---- handles ---- */

static int qcow2_after_fork(void)
{
    return shared_start();
}

static void *qcow2_open(int readonly)
{
    return shared_open(&settings, readonly);
}

static void qcow2_close(void *handle)
{
    shared_close(handle);
}

static void qcow2_unload(void)
{
    if (ahead)
        shared_close(ahead);
    shared_settle();
    settings_free(&settings);
}

/* ---- what it can do ---- */

static int64_t qcow2_get_size(void *handle)
{
    return (int64_t)live_size(image_of(handle));
}

static int qcow2_can_write(void *handle)
{
    return live_writable(image_of(handle));
}

static int yes(void *handle)
{
    return 1;
}

static int native(void *handle)
{
    return NBDKIT_SUPPORT_NATIVE;
}

static int qcow2_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    *minimum = 1;
    *preferred = live_preferred(image_of(handle));
    *maximum = UINT32_MAX;
    return 0;
}

/* ---- data ---- */

/* Of what common/live returns: 0; or -1 with errno, which the server takes, after saying what has failed
 * (nbdkit_error leaves errno as it is). */
static int done(int result, const char *what, uint32_t count, uint64_t offset)
{
    if (result == 0)
        return 0;
    errno = -result;
    nbdkit_error("%s: %s of %u bytes at %llu: %m", settings.path, what, count,
                 (unsigned long long)offset);
    return -1;
}

static unsigned live_flags(uint32_t flags)
{
    return (flags & NBDKIT_FUA ? LIVE_FUA : 0) | (flags & NBDKIT_MAY_TRIM ? LIVE_MAY_TRIM : 0) |
           (flags & NBDKIT_FAST_ZERO ? LIVE_FAST : 0);
}

static int qcow2_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    return done(live_pread(image_of(handle), buf, count, offset), "read", count, offset);
}

static int qcow2_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                        uint32_t flags)
{
    return done(live_pwrite(image_of(handle), buf, count, offset, live_flags(flags)), "write",
                count, offset);
}

static int qcow2_flush(void *handle, uint32_t flags)
{
    int r = live_flush(image_of(handle));

    if (r == 0)
        return 0;
    errno = -r;
    nbdkit_error("%s: flush: %m", settings.path);
    return -1;
}

static int qcow2_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return done(live_trim(image_of(handle), count, offset, live_flags(flags)), "trim", count,
                offset);
}

static int qcow2_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    int r = live_zero(image_of(handle), count, offset, live_flags(flags));

    if (r == -ENOTSUP && (flags & NBDKIT_FAST_ZERO)) {
        errno = ENOTSUP; /* it was asked only */
        return -1;
    }
    return done(r, "zero", count, offset);
}

static int qcow2_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    return done(live_cache(image_of(handle), count, offset), "cache", count, offset);
}

static int qcow2_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                         struct nbdkit_extents *extents)
{
    enum { HOLE = 1, ZERO = 2 };
    uint64_t end = offset + count, run;
    bool hole, zero;

    for (uint64_t at = offset; at < end; at += run) {
        int r = live_extent(image_of(handle), end - at, at, &run, &hole, &zero);
        if (r < 0)
            return done(r, "extents", count, offset);
        if (nbdkit_add_extent(extents, at, run, (hole ? HOLE : 0) | (zero ? ZERO : 0)) < 0)
            return -1;
        if (flags & NBDKIT_REQ_ONE)
            break;
    }
    return 0;
}

/* ---- registration ---- */

static struct nbdkit_plugin plugin = {
    .struct_size = sizeof plugin,
    .api_version = 2,
    .thread_model = NBDKIT_PARALLEL,
    .name = "qcow2",
    .longname = "nbdfleece qcow2 plugin",
    .version = PACKAGE_VERSION,
    .description = "A qcow2 image, with the files below it.",
    .config_help =
        "[file=]FILE            the image to serve; required\n"
        "allow=FOLDER           files that it names may lie in here, too; may be repeated\n"
        "backing=FILE           in place of the backing file that it names\n"
        "backing-format=FORMAT  in place of the format that it says: raw or qcow2\n"
        "data-file=FILE         in place of the data file that it names\n"
        "l2-cache=SIZE          memory for tables; default 64M\n"
        "locking=BOOL           take QEMU's image locks; default true\n"
        "references=WHICH       files that it names may lie in its own folder (folder,\n"
        "                       the default), or anywhere (any), or not at all (none)\n"
        "snapshot=ID            serve this internal snapshot, by its ID or name",
    .magic_config_key = "file",
    .unload = qcow2_unload,
    .config = qcow2_config,
    .config_complete = qcow2_config_complete,
    .after_fork = qcow2_after_fork,
    .open = qcow2_open,
    .close = qcow2_close,
    .get_size = qcow2_get_size,
    .block_size = qcow2_block_size,
    .can_write = qcow2_can_write,
    .can_flush = yes,
    .can_multi_conn = yes,
    .can_fast_zero = yes,
    .can_fua = native,
    .can_cache = native,
    .can_extents = yes,
    .errno_is_preserved = 1,
    .pread = qcow2_pread,
    .pwrite = qcow2_pwrite,
    .flush = qcow2_flush,
    .trim = qcow2_trim,
    .zero = qcow2_zero,
    .cache = qcow2_cache,
    .extents = qcow2_extents,
};

struct nbdkit_plugin *plugin_init(void);
struct nbdkit_plugin *plugin_init(void)
{
    return &plugin;
}

/* ---- for nbdfleece alone ---- */

/* live_map says of a place what nbdfleece_plugin_map has to. */
int nbdfleece_plugin_map(void *handle, uint64_t offset, uint64_t length, int writing,
                         struct nbdfleece_segment *segment, size_t size)
{
    const struct live_segment s = live_map(image_of(handle), offset, length, writing);

    if (s.place == LIVE_DATA)
        *segment = (struct nbdfleece_segment){s.length, s.host, s.fd, NBDFLEECE_DATA};
    else if (s.place == LIVE_ZERO)
        *segment = (struct nbdfleece_segment){s.length, 0, -1, NBDFLEECE_ZERO};
    return 0;
}

int nbdfleece_plugin_resize(void *handle, uint64_t size)
{
    int r = live_resize(image_of(handle), size);

    if (r == 0)
        return 0;
    nbdkit_error("%s: resize to %llu bytes: %s", settings.path, (unsigned long long)size,
                 live_resize_why(r));
    errno = -r;
    return -1;
}

int nbdfleece_plugin_identity(void *handle, struct nbdfleece_identity *identity, size_t size)
{
    return shared_identity(handle, identity);
}

/* Open the image while the server still is the user that it was started as. All handles of this
 * kind share it until the end. */
int nbdfleece_plugin_open_ahead(int readonly)
{
    ahead = qcow2_open(readonly);
    return ahead ? 0 : -1;
}
