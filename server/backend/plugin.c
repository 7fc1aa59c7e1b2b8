/* SPDX-License-Identifier: BSD-3-Clause */
/* A plugin from its registration to its end: everything that is not about one handle. */
#include "server/backend/plugin-private.h"

#include "common/util/error.h"
#include "common/util/log.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static void plugin_free(struct backend *b)
{
    struct plugin *p = plugin_of(b);
    struct plugin_call c;

    if (p->forked && p->api.cleanup) {
        plugin_enter(&c, p, NULL, true);
        p->api.cleanup();
        plugin_leave_setup(&c, "cleanup", true, NULL);
    }
    if (p->loaded && p->api.unload) {
        plugin_enter(&c, p, NULL, true);
        p->api.unload();
        plugin_leave_setup(&c, "unload", true, NULL);
    }
    g_free(p->driver);
    g_free(p->filename);
    p->api.name = NULL; /* it lies in the object */
    plugin_unmap(p->dl, p->copy_fd);
    if (p->zeroes)
        munmap((void *)p->zeroes, ZEROES_SIZE);
    intern_clear(&p->interned);
    pthread_mutex_destroy(&p->lock);
    pthread_mutex_destroy(&p->registry);
    log_limit_end(&p->said);
    log_limit_end(&p->faults);
    g_string_free(p->words, TRUE);
    g_free(p->export_name);
    g_free(p->path);
    g_free(p->disk);
    g_free(p);
}

static const struct backend_ops plugin_ops = {
    .open = plugin_open,
    .close = plugin_close,
    .pread = plugin_pread,
    .pwrite = plugin_pwrite,
    .zero = plugin_zero,
    .trim = plugin_trim,
    .flush = plugin_flush,
    .cache = plugin_cache,
    .extents = plugin_extents,
    .resize = plugin_resize,
    .identity = plugin_identity,
    .free = plugin_free,
};

/* ---- registration ---- */

static bool good_name(const char *name)
{
    if (!name || !g_ascii_isalnum(*name))
        return false;
    for (; *name; name++) {
        if (!g_ascii_isalnum(*name) && *name != '-')
            return false;
    }
    return true;
}

/* Callbacks of the other generation are not looked at, whatever their slots hold. */
static void forget_other_generation(struct nbdkit_plugin *api)
{
    if (api->api_version >= 2) {
        api->pread_v1 = NULL;
        api->pwrite_v1 = NULL;
        api->flush_v1 = NULL;
        api->trim_v1 = NULL;
        api->zero_v1 = NULL;
    } else {
        api->pread = NULL;
        api->pwrite = NULL;
        api->flush = NULL;
        api->trim = NULL;
        api->zero = NULL;
    }
}

/* Take over what the plugin registers: of the structure, the part that both sides know. */
static int register_plugin(struct plugin *p, GError **err)
{
    const struct nbdkit_plugin *(*init)(void);

    *(void **)&init = dlsym(p->dl, "plugin_init");
    if (!init && dlsym(p->dl, "filter_init"))
        return fail(err,
                    "%s is an nbdkit filter: filters cannot be used here, because they only work "
                    "inside the very nbdkit that they were built with",
                    p->path);
    if (!init)
        return fail(err, "%s is not an nbdkit plugin: it has no symbol plugin_init", p->path);

    const struct nbdkit_plugin *registered = init();
    if (!registered)
        return fail(err, "%s: plugin_init returned nothing", p->path);
    if (registered->struct_size < G_STRUCT_OFFSET(struct nbdkit_plugin, longname))
        return fail(err, "%s: plugin structure of %" G_GUINT64_FORMAT " bytes is too small",
                    p->path, registered->struct_size);
    memcpy(&p->api, registered, MIN(registered->struct_size, sizeof p->api));
    if (p->api.api_version < 0 || p->api.api_version > NBDKIT_MAX_API_VERSION)
        return fail(err, "%s: plugin API version %d is not supported (0 to %d are)", p->path,
                    p->api.api_version, NBDKIT_MAX_API_VERSION);
    if (!good_name(p->api.name))
        return fail(err, "%s: plugin has no name, or one that is not letters, digits and '-'",
                    p->path);
    if (p->api.thread_model < 0 || p->api.thread_model > NBDKIT_PARALLEL)
        return fail(err, "%s: plugin %s: unknown thread model %d", p->path, p->api.name,
                    p->api.thread_model);
    forget_other_generation(&p->api);
    if (!p->api.open || !p->api.get_size || (!p->api.pread && !p->api.pread_v1))
        return fail(err, "%s: plugin %s has no %s callback, which every plugin must have", p->path,
                    p->api.name,
                    !p->api.open       ? "open"
                    : !p->api.get_size ? "get_size"
                                       : "pread");
    p->api.struct_size = registered->struct_size; /* the plugin's word, for --dump-plugin */
    return 0;
}

static void find_extras(struct plugin *p)
{
    *(void **)&p->offered_fd = dlsym(p->dl, "nbdfleece_plugin_fd");
    *(void **)&p->offered_map = dlsym(p->dl, "nbdfleece_plugin_map");
    *(void **)&p->offered_resize = dlsym(p->dl, "nbdfleece_plugin_resize");
    *(void **)&p->offered_open_ahead = dlsym(p->dl, "nbdfleece_plugin_open_ahead");
    *(void **)&p->offered_disk = dlsym(p->dl, "nbdfleece_plugin_disk");
    *(void **)&p->offered_identity = dlsym(p->dl, "nbdfleece_plugin_identity");
    if (!p->offered_resize)
        p->ops.resize = NULL;
}

struct backend *plugin_load(const char *name, const char *disk, GError **err)
{
    struct plugin *p = g_new0(struct plugin, 1);
    GError *why = NULL;

    p->ops = plugin_ops;
    p->backend.ops = &p->ops;
    p->disk = g_strdup(disk);
    p->copy_fd = -1;
    p->words = g_string_new(NULL);
    pthread_mutex_init(&p->lock, NULL);
    pthread_mutex_init(&p->registry, NULL);
    intern_init(&p->interned);

    p->path = plugin_find(name, &why);
    if (p->path)
        p->dl = plugin_map(p->path, &p->copy_fd, &why);
    if (p->dl && register_plugin(p, &why) == 0) {
        void *zeroes = mmap(NULL, ZEROES_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (zeroes != MAP_FAILED) {
            p->zeroes = zeroes;
            p->backend.driver = p->driver = g_strdup(p->api.name);
            p->backend.filename = "";
            find_extras(p);
            return &p->backend;
        }
        fail_errno(&why, errno, "%s: mmap", p->path);
    }
    g_propagate_prefixed_error(err, why, "disk %s: ", disk);
    plugin_free(&p->backend);
    return NULL;
}

void plugin_ensure_loaded(struct plugin *p)
{
    struct plugin_call c;

    if (p->loaded)
        return;
    p->loaded = true;
    if (!p->api.load)
        return;
    plugin_enter(&c, p, NULL, true);
    p->api.load();
    plugin_leave_setup(&c, "load", true, NULL);
}

/* ---- configuration ---- */

static bool good_key(const char *key)
{
    if (!g_ascii_isalpha(*key))
        return false;
    for (; *key; key++) {
        if (!g_ascii_isalnum(*key) && !strchr("._-", *key))
            return false;
    }
    return true;
}

int plugin_config(struct backend *b, const char *key, const char *value, GError **err)
{
    struct plugin *p = plugin_of(b);
    struct plugin_call c;

    plugin_ensure_loaded(p);
    if (!good_key(key))
        return fail(err, "disk %s: %s: '%s' is not a key", p->disk, p->api.name, key);
    if (!p->api.config)
        return fail(err, "disk %s: %s: this plugin takes no configuration (%s=...)", p->disk,
                    p->api.name, key);
    log_debug("disk %s: %s: config %s", p->disk, p->api.name, key); /* a value may be a secret */
    plugin_enter(&c, p, NULL, true);
    int r = p->api.config(key, value);
    g_autofree char *what = g_strdup_printf("config %s", key);
    if (plugin_leave_setup(&c, what, r == 0, err) < 0)
        return -1;
    p->config_seen++;
    plugin_note_word(p, key, value);
    if (!strcmp(key, "file")) {
        g_free(p->filename);
        b->filename = p->filename = g_canonicalize_filename(value, NULL);
    }
    return 0;
}

int plugin_config_bare(struct backend *b, const char *word, GError **err)
{
    struct plugin *p = plugin_of(b);

    if (p->api.magic_config_key)
        return plugin_config(b, p->api.magic_config_key, word, err);
    if (p->config_seen == 0)
        return plugin_config(b, "script", word, err);
    return fail(err, "disk %s: %s: expected KEY=VALUE, not '%s'", p->disk, p->api.name, word);
}

int plugin_config_words(struct backend *b, const struct backend_word *words, size_t n, GError **err)
{
    for (size_t i = 0; i < n; i++) {
        const struct backend_word *w = &words[i];
        int r =
            w->key ? plugin_config(b, w->key, w->value, err) : plugin_config_bare(b, w->value, err);

        if (r < 0)
            return -1;
    }
    return 0;
}

int plugin_settle_thread_model(struct plugin *p, GError **err)
{
    struct plugin_call c;

    p->thread_model = p->api.thread_model;
    if (!p->api.get_thread_model)
        return 0;
    plugin_enter(&c, p, NULL, true);
    int model = p->api.get_thread_model();
    if (plugin_leave_setup(&c, "thread_model", model >= 0, err) < 0)
        return -1;
    p->thread_model = MIN(p->thread_model, model);
    return 0;
}

/* A callback of the start that is optional, takes nothing and returns 0 or -1. */
static int call_stage(struct plugin *p, const char *name, int (*callback)(void), GError **err)
{
    struct plugin_call c;

    plugin_ensure_loaded(p);
    if (!callback)
        return 0;
    log_debug("disk %s: %s: %s", p->disk, p->api.name, name);
    plugin_enter(&c, p, NULL, true);
    int r = callback();
    return plugin_leave_setup(&c, name, r == 0, err);
}

static int tell_disk(struct plugin *p, GError **err)
{
    struct plugin_call c;

    if (!p->offered_disk)
        return 0;
    plugin_ensure_loaded(p);
    plugin_enter(&c, p, NULL, true);
    int r = p->offered_disk(p->disk);
    return plugin_leave_setup(&c, "nbdfleece_plugin_disk", r == 0, err);
}

int plugin_config_complete(struct backend *b, GError **err)
{
    struct plugin *p = plugin_of(b);
    g_autoptr(GError) why = NULL;

    if (plugin_check_threads(p->dl, p->path, &why) < 0)
        return fail(err, "disk %s: %s", p->disk, why->message);
    if (tell_disk(p, err) < 0)
        return -1;
    if (call_stage(p, "config_complete", p->api.config_complete, err) < 0)
        return -1;
    p->configured = true;
    return plugin_settle_thread_model(p, err);
}

int plugin_get_ready(struct backend *b, GError **err)
{
    return call_stage(plugin_of(b), "get_ready", plugin_of(b)->api.get_ready, err);
}

int plugin_open_ahead(struct backend *b, bool readonly, GError **err)
{
    struct plugin *p = plugin_of(b);
    struct plugin_call c;

    if (!p->offered_open_ahead)
        return 0;
    log_debug("disk %s: %s: open ahead", p->disk, p->api.name);
    plugin_enter(&c, p, NULL, true);
    int r = p->offered_open_ahead(readonly);
    return plugin_leave_setup(&c, "open", r == 0, err);
}

int plugin_after_fork(struct backend *b, GError **err)
{
    plugin_of(b)->forked = true;
    return call_stage(plugin_of(b), "after_fork", plugin_of(b)->api.after_fork, err);
}

bool plugin_debug_flag(struct backend *b, const char *name, const char *flag, int value)
{
    struct plugin *p = plugin_of(b);

    if (strcmp(name, p->api.name) != 0)
        return false;
    g_autofree char *symbol = g_strdup_printf("%s_debug_%s", name, flag);
    g_strdelimit(symbol, ".-", '_');
    int *variable = dlsym(p->dl, symbol);
    if (variable)
        *variable = value;
    else
        log_info("warning: -D %s.%s: plugin %s has no such debug flag (no symbol %s)", name, flag,
                 name, symbol);
    return true;
}
