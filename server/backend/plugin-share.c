/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Which plugins may serve several disks, and which no disk at all.
 *
 * The problem. Each disk has a plugin's object for itself (plugin-load.c), but a process has the
 * libraries that the object needs only once. nbdkit has one plugin a process, so nobody has
 * promised that such a library bears a second user. An interpreter does not (libtcl, libpython,
 * libperl): it ends the process, with all its disks, when it is set up, used or taken down for the
 * second one.
 *
 * The rule. Either a library is known to bear several users, and then those that it needs do not
 * matter. Or it belongs to the first plugin that needs it, as long as that plugin is mapped, and
 * any other plugin that needs it is refused. So a plugin that needs only known libraries may serve
 * any number of disks; one that needs an unknown library serves one disk, whatever file or name it
 * was loaded by. A library is known when a test has seen it serve two disks at once
 * (tests/backend/test-copies.py, which tries every plugin that is installed), and not when somebody
 * believes that it can.
 *
 * Nothing is noted here: the dynamic linker knows what is mapped.
 */
#include "server/backend/plugin-private.h"

#include "common/util/error.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

/* Names without version and ".so": see is_named. */
static const char *const known[] = {
    /* of every program */
    "ld-linux",
    "ld-linux-aarch",
    "ld-linux-riscv",
    "ld-linux-x86",
    "ld",
    "libc",
    "libdl",
    "libgcc_s",
    "libm",
    "libpthread",
    "libresolv",
    "librt",
    "libstdc++",
    /* of sanitizers */
    "libasan",
    "libtsan",
    "libubsan",
    /* of plugins: data, info; memory, qcow2; curl; lua; nbd; ssh; torrent; libvirt; qcow2 */
    "libgnutls",
    "libzstd",
    "libcurl",
    "libcurl-gnutls",
    "liblua",
    "libnbd",
    "libssh",
    "libtorrent-rasterbar",
    "libvirt",
    "libz",
};

/* Is `soname` the library `name`: the name, maybe a version, and ".so"? */
static bool is_named(const char *soname, const char *name)
{
    if (!g_str_has_prefix(soname, name))
        return false;
    const char *rest = soname + strlen(name);
    rest += strspn(rest, "0123456789.-");
    return rest[-1] == '.' && g_str_has_prefix(rest, "so") && (rest[2] == '\0' || rest[2] == '.');
}

static bool is_known(const char *soname)
{
    for (size_t i = 0; i < G_N_ELEMENTS(known); i++) {
        if (is_named(soname, known[i]))
            return true;
    }
    return false;
}

GPtrArray *plugin_needed_libraries(void *dl)
{
    GPtrArray *names = g_ptr_array_new_with_free_func(g_free);
    const char *strings = NULL;
    struct link_map *map;

    if (dlinfo(dl, RTLD_DI_LINKMAP, &map) < 0)
        return names;
    for (const ElfW(Dyn) *d = map->l_ld; d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_STRTAB) /* glibc relocates it in place; others do not */
            strings = (const char *)(d->d_un.d_ptr < map->l_addr ? map->l_addr + d->d_un.d_ptr
                                                                 : d->d_un.d_ptr);
    }
    for (const ElfW(Dyn) *d = map->l_ld; strings && d->d_tag != DT_NULL; d++) {
        if (d->d_tag == DT_NEEDED)
            g_ptr_array_add(names, g_strdup(strings + d->d_un.d_val));
    }
    return names;
}

/* Those of them that are not known. What these need in turn does not count: half of all libraries
 * need zlib in the end. */
static GPtrArray *unknown_libraries(void *dl)
{
    GPtrArray *names = plugin_needed_libraries(dl);

    for (unsigned i = names->len; i-- > 0;) {
        if (is_known(names->pdata[i]))
            g_ptr_array_remove_index(names, i);
    }
    return names;
}

/* The first name that is in both, or NULL. */
static const char *common_name(GPtrArray *a, GPtrArray *b)
{
    for (unsigned i = 0; i < a->len; i++) {
        if (g_ptr_array_find_with_equal_func(b, a->pdata[i], g_str_equal, NULL))
            return a->pdata[i];
    }
    return NULL;
}

static int note_object(struct dl_phdr_info *info, size_t size, void *names)
{
    if (info->dlpi_name && *info->dlpi_name)
        g_ptr_array_add(names, g_strdup(info->dlpi_name));
    return 0;
}

/* One of `names` that a mapped plugin, `but` excepted, needs already; or NULL. */
static const char *name_in_use(GPtrArray *names, void *but)
{
    g_autoptr(GPtrArray) objects = g_ptr_array_new_with_free_func(g_free);
    const char *used = NULL;

    dl_iterate_phdr(note_object, objects);
    for (unsigned i = 0; i < objects->len && !used; i++) {
        void *object = dlopen(objects->pdata[i], RTLD_LAZY | RTLD_NOLOAD);

        if (object && object != but && dlsym(object, "plugin_init")) {
            g_autoptr(GPtrArray) others = unknown_libraries(object);
            used = common_name(names, others);
        }
        if (object)
            dlclose(object);
    }
    return used;
}

/* How to serve a plugin that cannot be served here: by nbdkit, in a process of its own. */
static char *way_out(const char *path)
{
    g_autofree char *base = g_path_get_basename(path);
    g_autofree char *name =
        g_str_has_prefix(base, "nbdkit-") && g_str_has_suffix(base, "-plugin.so")
            ? g_strndup(base + strlen("nbdkit-"),
                        strlen(base) - strlen("nbdkit-") - strlen("-plugin.so"))
            : g_strdup(path);

    return g_strdup_printf("nbd command=nbdkit arg=%s arg=...", name);
}

int plugin_check_shared(void *dl, void *but, const char *path, GError **err)
{
    g_autoptr(GPtrArray) names = unknown_libraries(dl);
    const char *used = names->len > 0 ? name_in_use(names, but) : NULL;

    if (!used)
        return 0;
    g_autofree char *instead = way_out(path);
    return fail(err,
                "%s can serve only one disk of a server: it needs %s, which another disk's plugin "
                "uses already and which is not known to bear two users in one process; "
                "let another process serve this disk: '%s'",
                path, used, instead);
}

int plugin_check_threads(void *dl, const char *path, GError **err)
{
    g_autoptr(GPtrArray) names = plugin_needed_libraries(dl);

    for (unsigned i = 0; i < names->len; i++) {
        if (!is_named(names->pdata[i], "libruby"))
            continue;
        return fail(err,
                    "%s cannot be served: it needs %s, which works only in the thread that it was "
                    "started in (nbdkit itself bears it with -s alone, for one client)",
                    path, (char *)names->pdata[i]);
    }
    return 0;
}
