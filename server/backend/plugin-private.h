/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the plugin host share.
 *
 * A struct plugin is one disk's instance of a plugin: its own copy of the shared object, its own
 * configuration. A struct plugin_handle is one opened handle of it.
 *
 * Every call into a plugin stands between plugin_enter and one of the plugin_leave functions. These
 * - take the lock that the plugin's thread model asks for,
 * - tell the nbdkit_* functions, through a thread-local pointer, on whose behalf they are called,
 * - turn what the callback returned and said into an errno or a GError.
 *
 * Locks: plugin.lock (thread models 0 and 1) and plugin_handle.lock (model 2) are held across calls
 * into the plugin and never together. plugin.registry guards the number of handles and is a leaf:
 * nothing is called while it is held. No lock of ours is held when the thread model is parallel.
 */
#ifndef BACKEND_PLUGIN_PRIVATE_H
#define BACKEND_PLUGIN_PRIVATE_H

#include "common/base/nbdkit-abi.h"
#include "common/util/log-limit.h"
#include "plugins/nbdfleece-plugin.h"
#include "server/backend/plugin.h"

#include <pthread.h>

/* Strings that a plugin had interned (nbdkit_strdup_intern(3)); they live as long as their owner.
 */
struct intern {
    pthread_mutex_t lock;
    GPtrArray *strings; /* NULL: none yet */
};
void intern_init(struct intern *in);
void intern_clear(struct intern *in);

struct plugin {
    struct backend backend;  /* first: a struct backend pointer is a struct plugin pointer */
    struct backend_ops ops;  /* what backend.ops points at */
    char *disk;              /* the disk's name, for messages */
    char *driver, *filename; /* what backend's point at */
    char *path;              /* of the file that was asked for */

    void *dl;                 /* dlopen's handle */
    int copy_fd;              /* the private copy it was loaded from; -1: from path itself */
    struct nbdkit_plugin api; /* as registered; zeroes in what the plugin is too old to know */
    /* nbdfleece-plugin.h's functions; NULL: the plugin has none of that name */
    __typeof__(nbdfleece_plugin_fd) *offered_fd;
    __typeof__(nbdfleece_plugin_resize) *offered_resize;
    __typeof__(nbdfleece_plugin_open_ahead) *offered_open_ahead;
    __typeof__(nbdfleece_plugin_disk) *offered_disk;

    int thread_model; /* after config_complete: NBDKIT_SERIALIZE_CONNECTIONS .. NBDKIT_PARALLEL */
    bool late;        /* it is started while clients are served: stdin is not its to read */
    bool loaded;      /* .load was called */
    bool configured;  /* .config_complete was called: stdin is no longer the plugin's to read */
    bool forked;      /* .after_fork was called, so .cleanup is due */
    unsigned config_seen; /* KEY=VALUE pairs and bare words so far */

    pthread_mutex_t lock;
    struct intern interned;

    pthread_mutex_t registry;
    unsigned handles;  /* open or being opened */
    char *export_name; /* what every handle is opened for; NULL before the first */

    struct log_limit said;   /* errors in its own words */
    struct log_limit faults; /* errors in ours */

    const char *zeroes; /* ZEROES_SIZE bytes, never written: the kernel's zero page */
};

static inline struct plugin *plugin_of(struct backend *b)
{
    return (struct plugin *)b;
}

/* The piece in which zeroes are written where a plugin cannot zero. */
#define ZEROES_SIZE (1u << 20)
/* No data callback is given more bytes than this (nbdkit's own limit, so what plugins are used to).
 */
#define DATA_CALL_MAX (64u << 20)
/* Zero, trim and cache callbacks carry no data, but a 32-bit count; some plugins keep it in an int.
 */
#define RANGE_CALL_MAX (1u << 30)

struct plugin_handle {
    struct backend_handle handle; /* first */
    struct plugin *plugin;
    void *opaque; /* the plugin's */
    bool readonly;
    const struct backend_client *client; /* may be NULL */
    pthread_mutex_t lock;
    struct intern interned;
    bool native_zero;
    int fua, cache;    /* NBDKIT_SUPPORT_... */
    uint32_t data_max; /* most bytes of one pread or pwrite, a multiple of min_block */
};

/* ---- plugin-call.c ---- */

struct plugin_call {
    struct plugin *plugin;
    struct plugin_handle *handle; /* NULL: none yet */
    pthread_mutex_t *locked;
    int error;     /* nbdkit_set_error(3)'s */
    GString *said; /* collects nbdkit_error(3)'s text for a GError; NULL: it is logged at once */
};

/* The call that this thread is in, or NULL (a thread of the plugin's own). */
struct plugin_call *plugin_call_current(void);

/* Begin a call: of the plugin, of one of its handles. `collect`: errors go to a GError. */
void plugin_enter(struct plugin_call *c, struct plugin *p, struct plugin_handle *h, bool collect);

/* End a data call: 0 or a negative errno from what the callback returned. First thing after the
 * callback: errno counts. Anything but 0 and -1 is a fault of the plugin: logged, -EIO. */
int plugin_leave(struct plugin_call *c, const char *callback, int returned);

/* End a call that collects: if `ok`, what the plugin said is only logged. Else it goes to *err:
 * `disk NAME: PLUGIN: CALLBACK: TEXT`. Returns 0 or -1. */
int plugin_leave_setup(struct plugin_call *c, const char *callback, bool ok, GError **err);

/* ---- plugin.c ---- */

/* Call .load, once: after debug flags are set, before any other callback. */
void plugin_ensure_loaded(struct plugin *p);
/* Set p->thread_model: the smaller of what the plugin registered and what it says when asked. */
int plugin_settle_thread_model(struct plugin *p, GError **err);

/* ---- plugin-load.c ---- */

/* Find the file of plugin `name`, or take it as a path if it has a slash. g_free() it. */
char *plugin_find(const char *name, GError **err);
/* Map the object at `path` such that its globals are the caller's alone. *copy_fd: as in struct
 * plugin. Any thread. */
void *plugin_map(const char *path, int *copy_fd, GError **err);
void plugin_unmap(void *dl, int copy_fd);

/* ---- plugin-share.c ---- */

/* The libraries that `dl` itself asks for, by the names it uses. */
GPtrArray *plugin_needed_libraries(void *dl);
/* May one more instance of the plugin `dl`, from the file at `path`, be used beside all that are
 * mapped, `but` excepted (NULL: none)? */
int plugin_check_shared(void *dl, void *but, const char *path, GError **err);
/* May its callbacks be called from many threads, one at a time? */
int plugin_check_threads(void *dl, const char *path, GError **err);

/* ---- plugin-handle.c, plugin-data.c: struct backend_ops ---- */

int plugin_open(struct backend *b, bool readonly, const struct backend_client *client,
                struct backend_handle **handle, GError **err);
void plugin_close(struct backend_handle *h);
int plugin_resize(struct backend_handle *h, uint64_t size, GError **err);

int plugin_pread(struct backend_handle *h, void *buf, uint32_t length, uint64_t offset);
int plugin_pwrite(struct backend_handle *h, const void *buf, uint32_t length, uint64_t offset,
                  uint32_t flags);
int plugin_zero(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);
int plugin_trim(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags);
int plugin_flush(struct backend_handle *h);
int plugin_cache(struct backend_handle *h, uint64_t length, uint64_t offset);
int plugin_extents(struct backend_handle *h, uint64_t length, uint64_t offset, uint32_t flags,
                   struct extents *extents);

/* ---- nbdkit-extents.c ---- */

/* Give what a plugin has added to `out`, all boundaries multiples of `align`. 0; -EINVAL: it added
 * nothing; -EIO: it broke the rules of nbdkit_add_extent(3), which was logged; -ENOMEM. */
int nbdkit_extents_take(struct nbdkit_extents *e, uint32_t align, struct extents *out);

#endif
