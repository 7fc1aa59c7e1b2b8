/* SPDX-License-Identifier: BSD-3-Clause */
#include "fuzz/image.h"

#include "common/base/file-io.h"

#include <fcntl.h>
#include <glib.h>
#include <glib/gstdio.h>
#include <string.h>
#include <unistd.h>

static char *folder, *image_path;

char *fuzz_image_file(const char *name)
{
    return g_build_filename(folder, name, NULL);
}

static void remove_folder(void)
{
    static const char *const names[] = {"b", "d", "i"};

    for (unsigned i = 0; i < G_N_ELEMENTS(names); i++) {
        g_autofree char *path = fuzz_image_file(names[i]);

        unlink(path);
    }
    rmdir(folder);
    g_free(image_path);
    g_free(folder);
}

static void make_file(const char *name, size_t size)
{
    g_autofree char *path = fuzz_image_file(name), *bytes = g_malloc(size);

    memset(bytes, *name, size);
    CHECK(g_file_set_contents(path, bytes, (gssize)size, NULL));
}

/* In memory, if there is a file system for that: an input writes and syncs a hundred times. */
static void make_folder(void)
{
    folder = g_strdup_printf("%s/fuzz-%s-XXXXXX",
                             g_access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", fuzz_name);
    CHECK(g_mkdtemp(folder));
    image_path = fuzz_image_file("i");
    make_file("b", 5000);
    make_file("d", 65536);
    atexit(remove_folder);
}

const char *fuzz_image_path(void)
{
    if (!folder)
        make_folder();
    return image_path;
}

void fuzz_image_make(struct supply *s, unsigned pieces)
{
    int fd = open(fuzz_image_path(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    uint64_t size = take_u16(s) * (uint64_t)FUZZ_SECTOR;

    CHECK(fd >= 0);
    for (; pieces > 0 && supply_left(s) > 0; pieces--) {
        uint64_t place = take_u16(s) * (uint64_t)FUZZ_SECTOR;
        size_t length = take_u16(s), got;
        const uint8_t *bytes = take_bytes(s, length, &got);

        CHECK(pwrite_all(fd, bytes, got, place) == 0);
    }
    CHECK(ftruncate(fd, (off_t)size) == 0);
    close(fd);
}
