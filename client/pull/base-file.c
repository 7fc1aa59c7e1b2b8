/* SPDX-License-Identifier: BSD-3-Clause */
#include "client/pull/base-file.h"
#include "client/base/error.h"
#include "common/qcow2/q2-image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const unsigned char magic[] = {'Q', 'F', 'I', 0xfb};

static int base_fail(GError **err, const char *base, const char *why)
{
    return client_fail(err, CLIENT_ERROR_FAILED, "--base %s: %s", base, why);
}

/* ---- its name ---- */

char *base_file_relative(const char *file, const char *folder)
{
    g_autoptr(GString) name = g_string_new(NULL);
    gsize common = 0; /* of both: up to here, behind a slash */

    for (gsize i = 0;; i++) {
        if (file[i] == '/' && (folder[i] == '/' || folder[i] == '\0'))
            common = i + 1;
        if (file[i] != folder[i] || file[i] == '\0')
            break;
    }
    /* What is left of the folder has to be left. */
    if (common <= strlen(folder)) {
        g_auto(GStrv) above = g_strsplit(folder + common, "/", -1);

        for (char **part = above; *part; part++)
            g_string_append(name, **part != '\0' ? "../" : "");
    }
    g_string_append(name, file + common);
    if (strcspn(name->str, ":") < strcspn(name->str, "/"))
        g_string_prepend(name, "./");
    return g_string_free(g_steal_pointer(&name), FALSE);
}

/* The path of a file by its folder's real name; links of the last part stay. NULL and *err. */
static char *real_name(const char *path, GError **err)
{
    g_autofree char *folder = g_path_get_dirname(path);
    g_autofree char *last = g_path_get_basename(path);
    char real[PATH_MAX];

    if (!realpath(folder, real)) {
        client_fail(err, CLIENT_ERROR_FAILED, "%s: %s", folder, g_strerror(errno));
        return NULL;
    }
    return g_build_filename(real, last, NULL);
}

static char *name_for(const char *base, const char *image, GError **err)
{
    g_autofree char *file = NULL;
    g_autofree char *image_file = NULL;
    g_autofree char *folder = NULL;

    if (!image || g_path_is_absolute(base))
        return g_strdup(base);
    file = real_name(base, err);
    image_file = file ? real_name(image, err) : NULL;
    if (!image_file)
        return NULL;
    folder = g_path_get_dirname(image_file);
    return base_file_relative(file, folder);
}

/* ---- what it is ---- */

/* "qcow2" or "raw" by the first bytes; NULL and *err. */
static const char *format_by_bytes(const char *base, GError **err)
{
    unsigned char bytes[sizeof magic];
    int fd = open(base, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    ssize_t n;

    if (fd < 0) {
        base_fail(err, base, g_strerror(errno));
        return NULL;
    }
    n = pread(fd, bytes, sizeof bytes, 0);
    if (n < 0)
        base_fail(err, base, g_strerror(errno));
    close(fd);
    if (n < 0)
        return NULL;
    return n == sizeof bytes && memcmp(bytes, magic, sizeof magic) == 0 ? "qcow2" : "raw";
}

static const char *find_format(const char *base, GError **err)
{
    const char *format = format_by_bytes(base, err);
    bool named = g_str_has_suffix(base, ".qcow2");

    if (!format || named == (strcmp(format, "qcow2") == 0))
        return format;
    base_fail(err, base,
              named
                  ? "its name ends like that of a qcow2 image, which it is not: state what it is, "
                    "by --base-format"
                  : "it begins like a qcow2 image, which a guest may have written into a raw "
                    "disk: state what it is, by --base-format");
    return NULL;
}

/* ---- its chain ---- */

static int check_file(const char *base, const char *file, const struct stat *image, GError **err)
{
    struct stat st;

    if (stat(file, &st) < 0)
        return base_fail(err, base, g_strerror(errno));
    if (st.st_dev != image->st_dev || st.st_ino != image->st_ino)
        return 0;
    return client_fail(err, CLIENT_ERROR_FAILED,
                       "--base %s: %s is a file of its own chain, and would be replaced", base,
                       file);
}

/* A qcow2 base has to be readable down to its end. */
static int check_chain(const char *base, const struct stat *image, GError **err)
{
    struct q2_error why;
    struct q2_image *chain = q2_image_open(base, Q2_REFERENCES_ANY, &why);
    int result = 0;

    if (!chain)
        return base_fail(err, base, why.text);
    for (struct q2_image *i = chain; image && i && result == 0; i = q2_image_backing(i))
        result = check_file(base, q2_image_path(i), image, err);
    q2_image_close(chain);
    return result;
}

int base_file_look(const char *base, const char *stated, const char *image, char **name,
                   const char **format, GError **err)
{
    struct stat st;
    bool there = image && stat(image, &st) == 0;

    *format = stated ? stated : find_format(base, err);
    if (!*format)
        return -1;
    *format = strcmp(*format, "qcow2") == 0 ? "qcow2" : "raw";
    if (strcmp(*format, "qcow2") == 0 ? check_chain(base, there ? &st : NULL, err) < 0
                                      : there && check_file(base, base, &st, err) < 0)
        return -1;
    *name = name_for(base, image, err);
    return *name ? 0 : -1;
}
