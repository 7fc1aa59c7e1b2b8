/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/tls/new-files.h"
#include "client/base/error.h"
#include "common/base/file-io.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct file {
    char *path, *text;
    mode_t mode;
};

static void file_free(gpointer file)
{
    struct file *f = file;

    if (f->text)
        explicit_bzero(f->text, strlen(f->text));
    g_free(f->text);
    g_free(f->path);
    g_free(f);
}

void new_files_init(struct new_files *n)
{
    n->folders = g_ptr_array_new_with_free_func(g_free);
    n->files = g_ptr_array_new_with_free_func(file_free);
}

void new_files_clear(struct new_files *n)
{
    g_ptr_array_unref(n->folders);
    g_ptr_array_unref(n->files);
}

void new_files_add_folder(struct new_files *n, const char *path)
{
    g_ptr_array_add(n->folders, g_strdup(path));
}

void new_files_add(struct new_files *n, const char *dir, const char *name, char *text, mode_t mode)
{
    struct file *f = g_new(struct file, 1);

    *f = (struct file){.path = g_build_filename(dir, name, NULL), .text = text, .mode = mode};
    g_ptr_array_add(n->files, f);
}

static int write_file(const struct file *f, GError **err)
{
    int fd = open(f->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    size_t length = strlen(f->text);

    if (fd < 0)
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", f->path, g_strerror(errno));
    int error = -pwrite_all(fd, f->text, length, 0);
    if (error == 0 && (fchmod(fd, f->mode) < 0 || fsync(fd) < 0))
        error = errno;
    if (close(fd) < 0 && error == 0)
        error = errno;
    if (error == 0)
        return 0;
    unlink(f->path);
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", f->path, g_strerror(error));
}

/* Remove the first `folders` folders and `files` files again. */
static void undo(const struct new_files *n, unsigned folders, unsigned files)
{
    while (files > 0)
        unlink(((const struct file *)n->files->pdata[--files])->path);
    while (folders > 0)
        rmdir(n->folders->pdata[--folders]);
}

int new_files_write(const struct new_files *n, GError **err)
{
    for (unsigned i = 0; i < n->folders->len; i++) {
        if (mkdir(n->folders->pdata[i], 0700) < 0) {
            client_fail(err, CLIENT_ERROR_FAILED, "%s: making the folder: %s",
                        (char *)n->folders->pdata[i], g_strerror(errno));
            undo(n, i, 0);
            return -1;
        }
    }
    for (unsigned i = 0; i < n->files->len; i++) {
        if (write_file(n->files->pdata[i], err) < 0) {
            undo(n, n->folders->len, i);
            return -1;
        }
    }
    return 0;
}
