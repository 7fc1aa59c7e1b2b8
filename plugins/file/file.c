/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * nbdkit-file-plugin of nbdfleece: a raw file or a block device as a disk, or those of a folder.
 *
 * It has nbdkit's plugin API version 2, and is parallel; it also runs in a stock nbdkit, which does
 * not look at the functions of nbdfleece-plugin.h at the end. Its keys: nbdfleece-plugins(5).
 *
 * All handles of a file that may write share one image, and all that may not share another one. It
 * is opened with the first of these handles and closed with the last. While there is one that may
 * write, the others share it, too: two open file descriptions would lock each other out, and a
 * failed fdatasync is known only to the one that it happened on. (A server that has both kinds
 * opens the writable one first.)
 */
#include "plugins/lib/config.h"
#include "plugins/lib/identity.h"
#include "plugins/lib/space.h"
#include "plugins/nbdfleece-plugin.h"
#include "common/base/nbdkit-abi.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

/* A plugin's configuration is global, by nbdkit's API. */
static struct source source = SOURCE_INIT;
static struct image_options options = {.lock = true, .advice = POSIX_FADV_NORMAL};
static char *disk; /* the name of nbdfleece's disk; NULL: this is another server */

struct handle {
    struct image image;
    char *name;    /* of a folder's file, else "" */
    bool readonly; /* asked for so */
    unsigned users;
    struct handle *next;
};

static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *handles; /* all that are open */
static struct handle *ahead;   /* opened before any client's; NULL: none */

/* ---- configuration ---- */

static const struct config_word advices[] = {
    {"normal", POSIX_FADV_NORMAL},
    {"random", POSIX_FADV_RANDOM},
    {"sequential", POSIX_FADV_SEQUENTIAL},
    {NULL, 0},
};

static const struct config_word caches[] = {{"default", false}, {"none", true}, {NULL, 0}};

static int file_config(const char *key, const char *value)
{
    int r = source_config(&source, key, value);

    if (r != 0)
        return r < 0 ? -1 : 0;
    if (!strcmp(key, "direct"))
        return config_flag(value, &options.direct);
    if (!strcmp(key, "locking"))
        return config_flag(value, &options.lock);
    if (!strcmp(key, "fadvise"))
        return config_word(key, value, advices, &options.advice);
    if (!strcmp(key, "cache")) {
        int none = false;
        r = config_word(key, value, caches, &none);
        options.evict = none;
        return r;
    }
    nbdkit_error("unknown key '%s'", key);
    return -1;
}

static int file_config_complete(void)
{
    return source_check(&source);
}

/* ---- exports ---- */

static int add_export(void *exports, const char *name)
{
    return nbdkit_add_export(exports, name, NULL);
}

static int file_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
    if (source.kind == SOURCE_FOLDER)
        return source_list(&source, add_export, exports);
    return nbdkit_add_export(exports, "", NULL);
}

/* ---- handles ---- */

static struct handle *new_handle(const char *name, bool readonly)
{
    struct handle *h = calloc(1, sizeof *h);

    if (h)
        h->name = strdup(name);
    if (!h || !h->name) {
        nbdkit_error("open: %m");
        free(h);
        return NULL;
    }
    if (image_open(&h->image, &source, name, !readonly, &options) < 0) {
        free(h->name);
        free(h);
        return NULL;
    }
    h->readonly = readonly;
    h->next = handles;
    handles = h;
    return h;
}

/* An open one that can be shared: the writable one, where there is one. */
static struct handle *find_handle(const char *name, bool readonly)
{
    struct handle *found = NULL;

    for (struct handle *h = handles; h; h = h->next) {
        if (!strcmp(h->name, name) && (readonly || !h->readonly) && (!found || !h->readonly))
            found = h;
    }
    return found;
}

/* The name of the file in a folder: in our server, where a disk is one image, the disk's name; in
 * another server, the name that the client asks for. */
static const char *wanted_name(void)
{
    if (source.kind != SOURCE_FOLDER)
        return "";
    return disk ? disk : nbdkit_export_name();
}

static void *file_open(int readonly)
{
    const char *name = wanted_name();

    if (!name)
        return NULL;
    pthread_mutex_lock(&handles_lock);
    struct handle *h = find_handle(name, readonly);
    if (!h)
        h = new_handle(name, readonly);
    if (h)
        h->users++;
    pthread_mutex_unlock(&handles_lock);
    return h;
}

static void file_close(void *handle)
{
    struct handle *h = handle;

    pthread_mutex_lock(&handles_lock);
    if (--h->users == 0) {
        struct handle **link = &handles;
        while (*link != h)
            link = &(*link)->next;
        *link = h->next;
        image_close(&h->image);
        free(h->name);
        free(h);
    }
    pthread_mutex_unlock(&handles_lock);
}

static void file_unload(void)
{
    if (ahead)
        file_close(ahead);
    source_free(&source);
    free(disk);
}

static struct image *image_of(void *handle)
{
    return &((struct handle *)handle)->image;
}

/* ---- what it can do ---- */

static int64_t file_get_size(void *handle)
{
    int64_t size = image_size(image_of(handle));

    if (size < 0)
        nbdkit_error("%s: size: %m", image_of(handle)->path);
    return size;
}

static int file_can_write(void *handle)
{
    return image_of(handle)->writable;
}

static int yes(void *handle)
{
    return 1;
}

static int native(void *handle)
{
    return NBDKIT_SUPPORT_NATIVE;
}

static int file_is_rotational(void *handle)
{
    return image_rotational(image_of(handle));
}

static int file_can_extents(void *handle)
{
    return image_knows_holes(image_of(handle));
}

static int file_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    const struct image *im = image_of(handle);

    *minimum = *preferred = *maximum = 0;
    if (im->direct_fd < 0)
        return 0;
    *minimum = im->min_block;
    *preferred = im->align < 4096 ? 4096 : im->align;
    *maximum = UINT32_MAX;
    return 0;
}

/* ---- data ---- */

/* Say what failed; errno (which the server takes) stays. */
static int failed(void *handle, const char *what, uint32_t count, uint64_t offset)
{
    nbdkit_error("%s: %s of %u bytes at %llu: %m", image_of(handle)->path, what, count,
                 (unsigned long long)offset);
    return -1;
}

static int file_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    if (image_read(image_of(handle), buf, count, offset) < 0)
        return failed(handle, "read", count, offset);
    return 0;
}

static int file_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset,
                       uint32_t flags)
{
    if (image_write(image_of(handle), buf, count, offset, flags & NBDKIT_FUA) < 0)
        return failed(handle, "write", count, offset);
    return 0;
}

static int file_flush(void *handle, uint32_t flags)
{
    return image_flush(image_of(handle)); /* which told of the failure that counts */
}

/* What FUA wants after a change of allocation. */
static int then_flush(void *handle, uint32_t flags)
{
    return flags & NBDKIT_FUA ? image_flush(image_of(handle)) : 0;
}

static int file_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    /* Where nothing can be trimmed, nothing is done: trimming is advice. */
    if (image_trim(image_of(handle), count, offset) < 0 && errno != ENOTSUP)
        return failed(handle, "trim", count, offset);
    return then_flush(handle, flags);
}

static int file_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    if (image_zero(image_of(handle), count, offset, flags & NBDKIT_MAY_TRIM,
                   flags & NBDKIT_FAST_ZERO) < 0)
        return errno == ENOTSUP ? -1 : failed(handle, "zero", count, offset);
    return then_flush(handle, flags);
}

static int file_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    int r = posix_fadvise(image_of(handle)->fd, (off_t)offset, count, POSIX_FADV_WILLNEED);

    if (r == 0)
        return 0;
    errno = r;
    return failed(handle, "cache", count, offset);
}

static int tell_extent(void *opaque, uint64_t offset, uint64_t length, bool hole)
{
    enum { HOLE = 1, ZERO = 2 };

    return nbdkit_add_extent(opaque, offset, length, hole ? HOLE | ZERO : 0);
}

static int file_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
                        struct nbdkit_extents *extents)
{
    if (image_map(image_of(handle), count, offset, flags & NBDKIT_REQ_ONE, tell_extent, extents) <
        0)
        return failed(handle, "extents", count, offset);
    return 0;
}

/* ---- registration ---- */

static struct nbdkit_plugin plugin = {
    .struct_size = sizeof plugin,
    .api_version = 2,
    .thread_model = NBDKIT_PARALLEL,
    .name = "file",
    .longname = "nbdfleece file plugin",
    .version = PACKAGE_VERSION,
    .description = "A raw file or a block device.",
    .config_help = "[file=]FILE     the file or block device to serve; required, or one of\n"
                   "fd=N            the file that was inherited by this descriptor\n"
                   "dir=FOLDER      the file in this folder that has the export's name\n"
                   "dirfd=N         the same, of a folder inherited by this descriptor\n"
                   "cache=CACHE     default, or none: leave little in the page cache\n"
                   "direct=BOOL     bypass the page cache (O_DIRECT); default false\n"
                   "fadvise=ADVICE  normal, random or sequential; default normal\n"
                   "locking=BOOL    take QEMU's image locks; default true",
    .magic_config_key = "file",
    .unload = file_unload,
    .config = file_config,
    .config_complete = file_config_complete,
    .list_exports = file_list_exports,
    .open = file_open,
    .close = file_close,
    .get_size = file_get_size,
    .block_size = file_block_size,
    .can_write = file_can_write,
    .can_flush = yes,
    .can_multi_conn = yes,
    .can_fast_zero = yes,
    .can_fua = native,
    .can_cache = native,
    .can_extents = file_can_extents,
    .is_rotational = file_is_rotational,
    .errno_is_preserved = 1,
    .pread = file_pread,
    .pwrite = file_pwrite,
    .flush = file_flush,
    .trim = file_trim,
    .zero = file_zero,
    .cache = file_cache,
    .extents = file_extents,
};

struct nbdkit_plugin *plugin_init(void);
struct nbdkit_plugin *plugin_init(void)
{
    return &plugin;
}

/* ---- for nbdfleece alone ---- */

/* The server may read and write through this by itself; but not with direct I/O, whose alignment it
 * would have to keep, nor with cache=none, where the page cache has to be cleared again. */
int nbdfleece_plugin_fd(void *handle)
{
    struct image *im = image_of(handle);

    return im->direct_fd < 0 && !im->evicts ? im->fd : -1;
}

/* The disk that this instance is for, told before anything is opened. */
int nbdfleece_plugin_disk(const char *name)
{
    disk = strdup(name);
    if (disk)
        return 0;
    nbdkit_error("%m");
    return -1;
}

int nbdfleece_plugin_resize(void *handle, uint64_t size)
{
    if (image_resize(image_of(handle), size) == 0)
        return 0;
    nbdkit_error("%s: resize to %llu bytes: %m", image_of(handle)->path, (unsigned long long)size);
    return -1;
}

int nbdfleece_plugin_identity(void *handle, struct nbdfleece_identity *identity, size_t size)
{
    if (identity_of(image_of(handle)->fd, identity) == 0)
        return 0;
    nbdkit_error("%s: stat: %m", image_of(handle)->path);
    return -1;
}

/* Open the image while the server still is the user that it was started as. All handles of this
 * kind share it until the end. */
int nbdfleece_plugin_open_ahead(int readonly)
{
    ahead = file_open(readonly);
    return ahead ? 0 : -1;
}
