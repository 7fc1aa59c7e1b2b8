/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/folder-image.h"
#include "common/state/folder.h"

#include <glib/gstdio.h>
#include <stdlib.h>
#include <string.h>

void folder_image_free(folder_image *i)
{
    g_ptr_array_unref(i->names);
    g_ptr_array_unref(i->bytes);
    g_free(i);
}
static void read_folder(folder_image *i, const char *path, const char *folder)
{
    g_autofree char *at = g_build_filename(path, folder, NULL);
    GDir *d = g_dir_open(at, 0, NULL);
    const char *name;

    while (d && (name = g_dir_read_name(d))) {
        g_autofree char *file = g_build_filename(at, name, NULL);
        char *text;
        gsize length;

        if (!g_file_get_contents(file, &text, &length, NULL))
            continue; /* a folder */
        g_ptr_array_add(i->names,
                        *folder != '\0' ? g_build_filename(folder, name, NULL) : g_strdup(name));
        g_ptr_array_add(i->bytes, g_byte_array_new_take((guint8 *)text, length));
    }
    g_clear_pointer(&d, g_dir_close);
}

folder_image *folder_image_read(const char *path)
{
    folder_image *i = g_new0(folder_image, 1);

    i->names = g_ptr_array_new_with_free_func(g_free);
    i->bytes = g_ptr_array_new_with_free_func((GDestroyNotify)g_byte_array_unref);
    read_folder(i, path, "");
    read_folder(i, path, STATE_BITS);
    return i;
}

void folder_image_write(const folder_image *i, const char *path)
{
    g_autofree char *bits = g_build_filename(path, STATE_BITS, NULL);

    g_assert_cmpint(g_mkdir_with_parents(bits, 0700), ==, 0);
    for (guint f = 0; f < i->names->len; f++) {
        g_autofree char *file = g_build_filename(path, i->names->pdata[f], NULL);
        GByteArray *bytes = i->bytes->pdata[f];

        g_assert_true(g_file_set_contents_full(file, (char *)bytes->data, bytes->len,
                                               G_FILE_SET_CONTENTS_NONE, 0600, NULL));
    }
}

void folder_remove(const char *path)
{
    g_autofree char *command = g_strdup_printf("rm -rf '%s'", path);

    g_assert_cmpint(system(command), ==, 0);
}

GByteArray *folder_image_file(const folder_image *i, const char *name)
{
    for (guint f = 0; f < i->names->len; f++) {
        if (strcmp(i->names->pdata[f], name) == 0)
            return i->bytes->pdata[f];
    }
    g_error("no file %s", name);
}
