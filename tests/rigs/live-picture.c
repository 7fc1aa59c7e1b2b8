/* SPDX-License-Identifier: BSD-3-Clause */
#include "tests/rigs/live-picture.h"

#include <string.h>
#include <sys/stat.h>

bool live_picture_begin(struct live_picture *p, const char *format, ...)
{
    g_autofree char *command = NULL;
    va_list args;

    *p = (struct live_picture){.options = LIVE_OPTIONS_INIT};
    if (!qcow2_rig_begin(&p->rig))
        return false;
    va_start(args, format);
    command = g_strdup_vprintf(format, args);
    va_end(args);
    qcow2_rig_run(&p->rig, "%s", command);
    p->path = qcow2_rig_path(&p->rig, "i");
    p->disk = qcow2_rig_disk(&p->rig, "i", &p->size);
    p->options.writable = true;
    return true;
}

void live_picture_end(struct live_picture *p)
{
    if (p->image)
        live_picture_close(p);
    qcow2_rig_end(&p->rig);
    g_free(p->path);
    g_free(p->disk);
}

void live_picture_open(struct live_picture *p)
{
    struct q2_error err = {0};

    p->image = live_open(p->path, &p->options, &err);
    g_assert_cmpstr(err.text, ==, "");
    g_assert_nonnull(p->image);
    g_assert_cmpuint(live_size(p->image), ==, p->size);
}

void live_picture_close(struct live_picture *p)
{
    g_autofree uint8_t *disk = NULL;
    struct q2_error err = {0};
    size_t size;

    live_close(p->image, &err);
    p->image = NULL;
    g_assert_cmpstr(err.text, ==, "");
    qcow2_rig_run(&p->rig, "qemu-img check -q -f qcow2 i");
    disk = qcow2_rig_disk(&p->rig, "i", &size);
    g_assert_cmpmem(disk, size, p->disk, p->size);
}

void live_picture_reopen(struct live_picture *p)
{
    live_picture_close(p);
    live_picture_open(p);
}

void live_picture_write(struct live_picture *p, uint64_t offset, size_t length, uint8_t value)
{
    memset(p->disk + offset, value, length);
    g_assert_cmpint(live_pwrite(p->image, p->disk + offset, length, offset, 0), ==, 0);
}

void live_picture_zero(struct live_picture *p, uint64_t offset, size_t length, unsigned flags)
{
    memset(p->disk + offset, 0, length);
    g_assert_cmpint(live_zero(p->image, length, offset, flags), ==, 0);
}

void live_picture_trim(struct live_picture *p, uint64_t offset, size_t length)
{
    g_autofree uint8_t *after = g_malloc(length);

    g_assert_cmpint(live_trim(p->image, length, offset, 0), ==, 0);
    g_assert_cmpint(live_pread(p->image, after, length, offset), ==, 0);
    for (size_t i = 0; i < length; i++)
        if (after[i])
            g_assert_cmpuint(after[i], ==, p->disk[offset + i]);
    memcpy(p->disk + offset, after, length);
}

void live_picture_look(struct live_picture *p)
{
    g_autofree uint8_t *disk = g_malloc(p->size);

    g_assert_cmpint(live_pread(p->image, disk, p->size, 0), ==, 0);
    for (size_t at = 0; at < p->size; at += 512)
        if (memcmp(disk + at, p->disk + at, MIN(512, p->size - at)) != 0)
            g_error("the sector at %zu of the disk has %02x..., %02x... is right", at, disk[at],
                    p->disk[at]);
}

static struct stat stat_of(const struct live_picture *p)
{
    struct stat st;

    g_assert_cmpint(stat(p->path, &st), ==, 0);
    return st;
}

uint64_t live_picture_room(const struct live_picture *p)
{
    return (uint64_t)stat_of(p).st_blocks * 512;
}

uint64_t live_picture_length(const struct live_picture *p)
{
    return (uint64_t)stat_of(p).st_size;
}
