/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * From a plugin's name to a mapped object whose globals belong to one disk alone.
 *
 * The problem. nbdkit plugins keep their configuration in globals, and dlopen returns the same
 * object each time that it is asked for the same file: two disks would share one configuration. So
 * from the second disk on, each gets a private copy of the file, in a memfd: another inode, and so
 * another object.
 * - dlopen also compares names. A memfd is opened by the name /proc/self/fd/N. The next copy would
 *   have the same name if N were free again; so a copy's descriptor stays open as long as the
 *   object is mapped.
 * - Libraries that a plugin needs stay shared: plugin-share.c says which plugins bear that.
 *
 * The scope. nbdkit loads plugins with RTLD_GLOBAL, so that the modules of language plugins find
 * their interpreter's symbols, which they are not linked to. With copies that would be wrong: what
 * the first copy exports would hide what the second one has of the same name (debug flags;
 * everything, in a plugin without a version script), and they would share their globals after all.
 * So plugins are loaded with RTLD_LOCAL, and the libraries that they need are made global one by
 * one. All copies have these in common anyway.
 */
#include "server/backend/plugin-private.h"

#include "common/base/file-io.h"
#include "common/util/error.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef MFD_EXEC
#define MFD_EXEC 0x10U
#endif

/* ---- where plugins are ---- */

/* The folder where the build puts plugin `name` of ours, plugins/NAME/.libs beside the program.
 * NULL where the program does not lie in a build tree. */
static char *folder_in_build_tree(const char *name)
{
    g_autofree char *program = g_file_read_link("/proc/self/exe", NULL);

    if (!program)
        return NULL;
    g_autofree char *top = g_path_get_dirname(program);
    g_autofree char *folder = g_build_filename(top, "plugins", name, ".libs", NULL);
    return g_file_test(folder, G_FILE_TEST_IS_DIR) ? g_steal_pointer(&folder) : NULL;
}

/* The folders to look into, in this order, with NULL at the end: $NBDFLEECE_PLUGIN_PATH (for
 * tests), the build tree, our installed plugins, nbdkit's. */
static GPtrArray *search_folders(const char *name)
{
    GPtrArray *folders = g_ptr_array_new_with_free_func(g_free);
    const char *path = secure_getenv("NBDFLEECE_PLUGIN_PATH");
    g_auto(GStrv) given = g_strsplit(path ? path : "", ":", -1);
    char *built = folder_in_build_tree(name);

    for (char **f = given; *f; f++)
        g_ptr_array_add(folders, g_strdup(*f));
    if (built)
        g_ptr_array_add(folders, built);
    g_ptr_array_add(folders, g_strdup(PLUGINDIR));
    g_ptr_array_add(folders, g_strdup(NBDKIT_PLUGINDIR));
    g_ptr_array_add(folders, NULL);
    return folders;
}

char *plugin_find(const char *name, GError **err)
{
    if (strchr(name, '/'))
        return g_strdup(name);

    g_autofree char *file = g_strdup_printf("nbdkit-%s-plugin.so", name);
    g_autoptr(GPtrArray) folders = search_folders(name);

    for (unsigned i = 0; folders->pdata[i]; i++) {
        g_autofree char *path = g_build_filename(folders->pdata[i], file, NULL);
        if (g_file_test(path, G_FILE_TEST_EXISTS))
            return g_steal_pointer(&path);
    }
    g_autofree char *looked = g_strjoinv(", ", (char **)folders->pdata);
    fail(err, "plugin %s: there is no %s in %s", name, file, looked);
    return NULL;
}

/* ---- mapping ---- */

/* A memfd with the content of the file at `path`, or -1. */
static int copy_of(const char *path, GError **err)
{
    g_autoptr(GMappedFile) map = g_mapped_file_new(path, FALSE, err);
    if (!map)
        return -1;

    g_autofree char *base = g_path_get_basename(path);
    int fd = memfd_create(base, MFD_CLOEXEC | MFD_EXEC);
    if (fd < 0 && errno == EINVAL) /* before Linux 6.3 */
        fd = memfd_create(base, MFD_CLOEXEC);
    if (fd < 0)
        return fail_errno(err, errno, "%s: private copy", path);
    int r = pwrite_all(fd, g_mapped_file_get_contents(map), g_mapped_file_get_length(map), 0);
    if (r < 0) {
        close(fd);
        return fail_errno(err, r, "%s: private copy", path);
    }
    return fd;
}

/* Make the symbols of the libraries that `dl` needs global (see the head of this file). */
static void share_needed(void *dl)
{
    g_autoptr(GPtrArray) names = plugin_needed_libraries(dl);

    for (unsigned i = 0; i < names->len; i++) {
        void *needed = dlopen(names->pdata[i], RTLD_LAZY | RTLD_NOLOAD | RTLD_GLOBAL);
        if (needed) /* the plugin's own reference keeps it */
            dlclose(needed);
    }
}

/* One thread maps a plugin at a time. It looks whether the file is mapped already, or a library
 * that bears only one plugin; that must still be true when its own plugin is mapped. */
static pthread_mutex_t mapping = PTHREAD_MUTEX_INITIALIZER;

static void *map_locked(const char *path, int *copy_fd, GError **err)
{
    g_autofree char *name = NULL;
    void *loaded = dlopen(path, RTLD_NOW | RTLD_NOLOAD);

    *copy_fd = -1;
    if (loaded) {
        if (plugin_check_shared(loaded, NULL, path, err) == 0)
            *copy_fd = copy_of(path, err);
        dlclose(loaded);
        if (*copy_fd < 0)
            return NULL;
        name = g_strdup_printf("/proc/self/fd/%d", *copy_fd);
    }
    void *dl = dlopen(name ? name : path, RTLD_NOW | RTLD_LOCAL);
    if (!dl) {
        /* Names the file and the symbol or library that it misses. */
        fail(err, "cannot load plugin: %s", dlerror());
        plugin_unmap(NULL, *copy_fd);
        return NULL;
    }
    /* A copy has been checked already, by its original. */
    if (*copy_fd < 0 && plugin_check_shared(dl, dl, path, err) < 0) {
        plugin_unmap(dl, -1);
        return NULL;
    }
    share_needed(dl);
    return dl;
}

void *plugin_map(const char *path, int *copy_fd, GError **err)
{
    pthread_mutex_lock(&mapping);
    void *dl = map_locked(path, copy_fd, err);
    pthread_mutex_unlock(&mapping);
    return dl;
}

void plugin_unmap(void *dl, int copy_fd)
{
    /* When the process ends, leak checkers must still see what the plugin's globals point at. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    if (dl)
        dlclose(dl);
    if (copy_fd >= 0)
        close(copy_fd);
#endif
}
