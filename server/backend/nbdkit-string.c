/* SPDX-License-Identifier: BSD-3-Clause */
/* Paths and interned strings for plugins. Paths are malloc'ed: the plugin frees them. */
#include "server/backend/plugin-private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char *nbdkit_absolute_path(const char *path)
{
    if (!path || !*path) {
        nbdkit_error("cannot make an absolute path of an empty one");
        return NULL;
    }
    g_autofree char *folder = g_get_current_dir();
    g_autofree char *joined = *path == '/' ? g_strdup(path) : g_strconcat(folder, "/", path, NULL);
    char *result = strdup(joined);
    if (!result)
        nbdkit_error("%s: %m", path);
    return result;
}

char *nbdkit_realpath(const char *path)
{
    if (!path || !*path) {
        nbdkit_error("cannot resolve an empty path");
        return NULL;
    }
    char *result = realpath(path, NULL);
    if (!result)
        nbdkit_error("realpath: %s: %m", path);
    return result;
}

void intern_init(struct intern *in)
{
    pthread_mutex_init(&in->lock, NULL);
    in->strings = NULL;
}

void intern_clear(struct intern *in)
{
    g_clear_pointer(&in->strings, g_ptr_array_unref);
    pthread_mutex_destroy(&in->lock);
}

/* For threads that a plugin has started, which belong to no disk: kept for good, as in nbdkit. */
static struct intern of_the_process = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Keep `text`, which is ours to g_free, as long as the handle that this thread works for; where
 * there is none, as long as the plugin; where there is none either, as long as the process. */
static const char *keep(char *text)
{
    struct plugin_call *c = plugin_call_current();
    struct intern *in = !c          ? &of_the_process
                        : c->handle ? &c->handle->interned
                                    : &c->plugin->interned;

    pthread_mutex_lock(&in->lock);
    if (!in->strings)
        in->strings = g_ptr_array_new_with_free_func(g_free);
    g_ptr_array_add(in->strings, text);
    pthread_mutex_unlock(&in->lock);
    return text;
}

const char *nbdkit_strdup_intern(const char *text)
{
    if (!text) {
        nbdkit_error("nbdkit_strdup_intern: no string given");
        errno = EINVAL;
        return NULL;
    }
    return keep(g_strdup(text));
}

const char *nbdkit_strndup_intern(const char *text, size_t n)
{
    if (!text) {
        nbdkit_error("nbdkit_strndup_intern: no string given");
        errno = EINVAL;
        return NULL;
    }
    return keep(g_strndup(text, strnlen(text, n)));
}

const char *nbdkit_vprintf_intern(const char *format, va_list args)
{
    return keep(g_strdup_vprintf(format, args));
}

const char *nbdkit_printf_intern(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    const char *text = nbdkit_vprintf_intern(format, args);
    va_end(args);
    return text;
}
