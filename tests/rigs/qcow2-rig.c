/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/qcow2-rig.h"

#include "common/base/file-io.h"

#include <fcntl.h>
#include <glib/gstdio.h>
#include <sys/wait.h>
#include <unistd.h>

bool qcow2_rig_begin(struct qcow2_rig *r)
{
    g_autofree char *image = g_find_program_in_path("qemu-img");
    g_autofree char *io = g_find_program_in_path("qemu-io");

    if (!image || !io) {
        g_test_skip("qemu-img and qemu-io are not installed");
        return false;
    }
    r->folder = g_mkdtemp(g_strdup(g_access("/dev/shm", W_OK) == 0 ? "/dev/shm/test-qcow2-XXXXXX"
                                                                   : "/tmp/test-qcow2-XXXXXX"));
    g_assert_nonnull(r->folder);
    return true;
}

void qcow2_rig_end(struct qcow2_rig *r)
{
    qcow2_rig_run(r, "rm -rf '%s'", r->folder);
    g_free(r->folder);
}

char *qcow2_rig_path(const struct qcow2_rig *r, const char *name)
{
    return g_build_filename(r->folder, name, NULL);
}

static char *run(const struct qcow2_rig *r, int expected, const char *command)
{
    const char *argv[] = {"/bin/sh", "-c", command, NULL};
    g_autoptr(GError) err = NULL;
    g_autofree char *errors = NULL;
    char *output = NULL;
    int status = 0;

    g_spawn_sync(r->folder, (char **)argv, NULL, G_SPAWN_DEFAULT, NULL, NULL, &output, &errors,
                 &status, &err);
    g_assert_no_error(err);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != expected)
        g_error("%s: status %d: %s%s", command, status, output, errors);
    return output;
}

char *qcow2_rig_output(const struct qcow2_rig *r, int status, const char *format, ...)
{
    g_autofree char *command = NULL;
    va_list args;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    return run(r, status, command);
}

void qcow2_rig_run(const struct qcow2_rig *r, const char *format, ...)
{
    g_autofree char *command = NULL;
    va_list args;

    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    g_free(run(r, 0, command));
}

static void add_command(GString *commands, uint64_t size)
{
    static const uint32_t lengths[] = {512, 4096, 65536, 300032};
    uint32_t length = lengths[g_test_rand_int_range(0, G_N_ELEMENTS(lengths))];
    uint64_t offset;
    int what = g_test_rand_int_range(0, 8);

    if (length > size)
        length = 512;
    offset = (uint64_t)(g_test_rand_double() * (double)(size - length)) & ~UINT64_C(511);
    if (what < 6)
        g_string_append_printf(commands, "write -q -P %d", g_test_rand_int_range(1, 256));
    else
        g_string_append(commands, what == 6 ? "write -q -z" : "discard -q");
    g_string_append_printf(commands, " %" G_GUINT64_FORMAT " %u\n", (guint64)offset, length);
}

void qcow2_rig_fill(const struct qcow2_rig *r, const char *name, uint64_t size, unsigned n)
{
    g_autofree char *path = qcow2_rig_path(r, "commands");
    g_autoptr(GString) commands = g_string_new(NULL);
    g_autoptr(GError) err = NULL;

    for (unsigned i = 0; i < n; i++)
        add_command(commands, size);
    g_file_set_contents(path, commands->str, -1, &err);
    g_assert_no_error(err);
    qcow2_rig_run(r, "qemu-io -f qcow2 %s < commands", name);
}

uint8_t *qcow2_rig_bytes(const struct qcow2_rig *r, const char *name, size_t *size)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    g_autoptr(GError) err = NULL;
    char *bytes = NULL;

    g_file_get_contents(path, &bytes, size, &err);
    g_assert_no_error(err);
    return (uint8_t *)bytes;
}

uint8_t *qcow2_rig_disk(const struct qcow2_rig *r, const char *name, size_t *size)
{
    qcow2_rig_run(r, "qemu-img convert -f qcow2 -O raw %s reference.raw", name);
    return qcow2_rig_bytes(r, "reference.raw", size);
}

static int open_file(const struct qcow2_rig *r, const char *name)
{
    g_autofree char *path = qcow2_rig_path(r, name);
    int fd = open(path, O_RDWR | O_CLOEXEC);

    g_assert_cmpint(fd, >=, 0);
    return fd;
}

uint64_t qcow2_rig_get(const struct qcow2_rig *r, const char *name, uint64_t offset, unsigned width)
{
    int fd = open_file(r, name);
    uint64_t value = 0;
    uint8_t bytes[8];

    g_assert_cmpint(pread_all(fd, bytes, width, offset), ==, 0);
    close(fd);
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | bytes[i];
    return value;
}

void qcow2_rig_put(const struct qcow2_rig *r, const char *name, uint64_t offset, unsigned width,
                   uint64_t value)
{
    int fd = open_file(r, name);
    uint8_t bytes[8];

    for (unsigned i = width; i-- > 0; value >>= 8)
        bytes[i] = (uint8_t)value;
    g_assert_cmpint(pwrite_all(fd, bytes, width, offset), ==, 0);
    close(fd);
}

uint64_t qcow2_rig_l2(const struct qcow2_rig *r, const char *name, unsigned cluster)
{
    uint64_t l1 = qcow2_rig_get(r, name, 40, 8), features = 0;
    uint64_t table = qcow2_rig_get(r, name, l1, 8) & UINT64_C(0x00fffffffffffe00);

    if (qcow2_rig_get(r, name, 4, 4) == 3)
        features = qcow2_rig_get(r, name, 72, 8);
    g_assert_cmpuint(table, !=, 0);
    return table + cluster * (features & 16 ? 16U : 8U);
}
