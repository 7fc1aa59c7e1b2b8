/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/base/output-file.h"
#include "client/base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gstdio.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

static int fail_errno(const char *path, int error, GError **err)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", path, g_strerror(error));
}

/* 0 or an errno. The descriptor is closed. */
static int write_and_close(int fd, const GString *text)
{
    int error = 0;

    for (gsize done = 0; done < text->len && error == 0;) {
        ssize_t n = write(fd, text->str + done, text->len - done);

        if (n >= 0)
            done += (gsize)n;
        else if (errno != EINTR)
            error = errno;
    }
    if (close(fd) < 0 && error == 0)
        error = errno;
    return error;
}

static int replace(const char *path, const GString *text, GError **err)
{
    g_autofree char *temporary = g_strconcat(path, ".XXXXXX", NULL);
    int fd = g_mkstemp_full(temporary, O_RDWR | O_CLOEXEC, 0666);
    int error;

    if (fd < 0)
        return fail_errno(path, errno, err);
    error = write_and_close(fd, text);
    if (error == 0 && rename(temporary, path) < 0)
        error = errno;
    if (error == 0)
        return 0;
    unlink(temporary);
    return fail_errno(path, error, err);
}

/* /dev/stdout, say. */
static bool is_standard_output(const char *path)
{
    struct stat named, out;

    return stat(path, &named) == 0 && fstat(STDOUT_FILENO, &out) == 0 &&
           named.st_dev == out.st_dev && named.st_ino == out.st_ino;
}

/* Standard output is gone on with, where a shell appends it to a file. All else is opened before it is
 * looked at, so that it is no other one by then. */
static int write_through(const char *path, const GString *text, GError **err)
{
    bool append = is_standard_output(path);
    int fd = append ? fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0)
                    : open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOCTTY, 0666);
    struct stat st;
    int error;

    if (fd < 0)
        return fail_errno(path, errno, err);
    error = fstat(fd, &st) < 0 ? errno : 0;
    if (error == 0 && S_ISBLK(st.st_mode)) {
        close(fd);
        return client_fail(err, CLIENT_ERROR_FAILED, "%s: a page is not written to a block device",
                           path);
    }
    if (error == 0 && S_ISREG(st.st_mode) && !append && ftruncate(fd, 0) < 0)
        error = errno;
    if (error != 0) {
        close(fd);
        return fail_errno(path, error, err);
    }
    error = write_and_close(fd, text);
    return error == 0 ? 0 : fail_errno(path, error, err);
}

int output_file_write(const char *path, const GString *text, GError **err)
{
    struct stat st;

    if (lstat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return write_through(path, text, err);
    return replace(path, text, err);
}
