/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the files of the plugin host share.
 *
 * A struct plugin is one disk's instance of a plugin: its own copy of the shared object, its own
 * configuration. A struct plugin_handle is one opened handle of it.
 *
 * Every call into a plugin stands between plugin_enter and one of the plugin_leave functions. These
 * - take and release the lock that the plugin's thread model asks for,
 * - note in a thread-local pointer for whom the call is made, for the nbdkit_* functions to find,
 * - turn what the callback returned and said into an errno or a GError.
 *
 * Locks: plugin.lock (thread models 0 and 1) and plugin_handle.lock (model 2) are held across calls
 * into the plugin, and never both. plugin.registry guards the number of handles; it is a leaf:
 * nothing is called while it is held. Where the thread model is parallel, no lock of ours is held
 * in a call.
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
    struct backend_ops ops;  /* backend.ops points here */
    char *disk;              /* the disk's name, for messages */
    char *driver, *filename; /* those of `backend` point here */
    char *path;              /* of the file that was asked for */

    void *dl;                 /* dlopen's handle */
    int copy_fd;              /* the private copy it was loaded from; -1: from path itself */
    struct nbdkit_plugin api; /* as registered; zeroes in what the plugin is too old to know */
    /* nbdfleece-plugin.h's functions; NULL: the plugin has none of that name */
    __typeof__(nbdfleece_plugin_fd) *offered_fd;
    __typeof__(nbdfleece_plugin_map) *offered_map;
    __typeof__(nbdfleece_plugin_resize) *offered_resize;
    __typeof__(nbdfleece_plugin_open_ahead) *offered_open_ahead;
    __typeof__(nbdfleece_plugin_disk) *offered_disk;
    __typeof__(nbdfleece_plugin_identity) *offered_identity;

    int thread_model; /* after config_complete: NBDKIT_SERIALIZE_CONNECTIONS .. NBDKIT_PARALLEL */
    bool late;        /* started while clients are served: it may not read stdin */
    bool loaded;      /* .load was called */
    bool configured;  /* .config_complete was called: it may not read stdin any more */
    bool forked;      /* .after_fork was called, so .cleanup is due */
    unsigned config_seen; /* KEY=VALUE pairs and bare words so far */
    GString *words;       /* these, each after a space, without secrets (plugin-identity.c) */

    pthread_mutex_t lock;
    struct intern interned;

    pthread_mutex_t registry;
    unsigned handles;  /* open or being opened */
    char *export_name; /* every handle is opened for it; NULL before the first */

    struct log_limit said;   /* errors in the plugin's words */
    struct log_limit faults; /* errors in our words */

    const char *zeroes; /* ZEROES_SIZE bytes, never written: the kernel's zero page */
};

static inline struct plugin *plugin_of(struct backend *b)
{
    return (struct plugin *)b;
}

/* The piece in which zeroes are written where a plugin cannot zero. */
#define ZEROES_SIZE (1u << 20)
/* No data callback is given more bytes than this; plugins know that limit from nbdkit. */
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

/* Begin a call of the plugin, or of one of its handles. `collect`: what the plugin says goes to a
 * GError. */
void plugin_enter(struct plugin_call *c, struct plugin *p, struct plugin_handle *h, bool collect);

/* End a data call: 0 or a negative errno from what the callback returned. Call it right after the
 * callback, since errno counts. Anything but 0 and -1 is a fault of the plugin: it is logged, and
 * -EIO. */
int plugin_leave(struct plugin_call *c, const char *callback, int returned);

/* End a call that collects. If `ok`, what the plugin said is logged, and 0 returned. Else it goes
 * to *err, as `disk NAME: PLUGIN: TEXT`, and -1 is returned. */
int plugin_leave_setup(struct plugin_call *c, const char *callback, bool ok, GError **err);

/* ---- plugin.c ---- */

/* Call .load, once: after debug flags are set, before any other callback. */
void plugin_ensure_loaded(struct plugin *p);
/* Set p->thread_model: the smaller of what the plugin registered and what it says when asked. */
int plugin_settle_thread_model(struct plugin *p, GError **err);

/* ---- plugin-load.c ---- */

/* Find the file of plugin `name`, or take it as a path if it has a slash. The caller g_frees it.
 * NULL and *err. */
char *plugin_find(const char *name, GError **err);
/* Map the object at `path` so that nobody else has its globals. *copy_fd: as in struct plugin. Any
 * thread. */
void *plugin_map(const char *path, int *copy_fd, GError **err);
void plugin_unmap(void *dl, int copy_fd);

/* ---- plugin-share.c ---- */

/* The libraries that `dl` itself needs, by the names that it has for them: strings of its own. The
 * caller unrefs the array. */
GPtrArray *plugin_needed_libraries(void *dl);
/* May one more instance of the plugin `dl`, from the file at `path`, be used beside all plugins
 * that are mapped? `but` (may be NULL) does not count among these. 0, or -1 and *err: no. */
int plugin_check_shared(void *dl, void *but, const char *path, GError **err);
/* May its callbacks be called from many threads, though one at a time? 0, or -1 and *err: no. */
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

/* ---- plugin-identity.c ---- */

/* The plugin was configured with this, too. */
void plugin_note_word(struct plugin *p, const char *key, const char *value);
int plugin_identity(struct backend_handle *h, struct backend_identity *identity, GError **err);

/* ---- nbdkit-extents.c ---- */

/* Append what a plugin has added to `out`, with all boundaries at multiples of `align`. 0; -EIO:
 * the plugin added nothing, or broke the rules of nbdkit_add_extent(3), which was logged; -ENOMEM.
 */
int nbdkit_extents_take(struct nbdkit_extents *e, uint32_t align, struct extents *out);

#endif
