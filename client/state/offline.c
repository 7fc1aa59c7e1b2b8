/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/state/offline.h"
#include "client/base/error.h"
#include "common/state/folder.h"

#include <errno.h>
#include <unistd.h>

/* Opening makes what is missing: that is not for a folder that was named by mistake. */
static int check_is_one(const char *path, GError **err)
{
    g_autofree char *catalogue = g_build_filename(path, STATE_CATALOGUE, NULL);

    if (access(catalogue, F_OK) == 0)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "state: %s: it is no state folder: " STATE_CATALOGUE ": %s", path,
                       g_strerror(errno));
}

static int open_folder(struct offline *o, const char *path, bool write, GError **err)
{
    o->folder = state_folder_open(path, false, err);
    if (!o->folder)
        return -1;
    if (write) {
        o->storage = o->folder;
        o->catalogue = catalogue_open(o->storage, err);
        return o->catalogue ? 0 : -1;
    }
    o->copy = folder_copy_make(o->folder, err);
    if (!o->copy)
        return -1;
    o->storage = o->copy->storage;
    o->catalogue = o->copy->catalogue;
    return 0;
}

offline *offline_open(const char *path, bool write, GError **err)
{
    g_autoptr(offline) o = g_new0(struct offline, 1);

    if (check_is_one(path, err) < 0 || open_folder(o, path, write, err) < 0)
        return NULL;
    return g_steal_pointer(&o);
}

void offline_close(offline *o)
{
    if (!o)
        return;
    if (!o->copy && o->catalogue)
        catalogue_close(o->catalogue);
    folder_copy_free(o->copy);
    if (o->folder)
        o->folder->ops->free(o->folder);
    g_free(o);
}
