/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/replace-file.h"
#include "client/base/error.h"
#include "client/base/partial.h"
#include "common/base/file-io.h"

static int replace(const char *path, const char *text, size_t length,
                   int (*commit)(struct partial *, GError **), GError **err)
{
    struct partial *p = partial_new(path, true, err);
    int error, result = -1;

    if (!p)
        return -1;
    error = pwrite_all(partial_fd(p), text, length, 0);
    if (error < 0)
        client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", partial_path(p), g_strerror(-error));
    else
        result = commit(p, err);
    partial_free(p);
    return result;
}

int replace_file(const char *path, const char *text, size_t length, GError **err)
{
    return replace(path, text, length, partial_commit, err);
}

int replace_file_unsynced(const char *path, const char *text, size_t length, GError **err)
{
    return replace(path, text, length, partial_name, err);
}
