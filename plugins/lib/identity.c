/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A file is known by its file system, its inode and, where the file system has one, its generation,
 * by which a new file differs from a removed one whose inode number it has got.
 *
 * Device numbers may change with every start of the machine. So a file system is known by the id
 * that it has of its own, where it has one. Numbers of major 0 are given out anew with every mount;
 * where there is nothing better, none is used. A block device is known by what the kernel knows of
 * it as its name for good, and else by its number, until the machine is restarted.
 */
#include "plugins/lib/identity.h"

#include <linux/fs.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <time.h>

/* ---- files ---- */

static void name_file_system(int fd, dev_t device, char *out, size_t size)
{
    struct statfs fs;
    unsigned id[2] = {0, 0};

    if (fstatfs(fd, &fs) == 0)
        memcpy(id, &fs.f_fsid, sizeof id);
    if (id[0] || id[1])
        snprintf(out, size, " fs=%08x%08x", id[0], id[1]);
    else if (major(device) != 0)
        snprintf(out, size, " dev=%u:%u", major(device), minor(device));
    else
        *out = '\0';
}

static void name_generation(int fd, char *out, size_t size)
{
    /* The number of the call says long, but the kernel writes an int. */
    union {
        long room;
        unsigned number;
    } generation = {0};

    if (ioctl(fd, FS_IOC_GETVERSION, &generation) == 0)
        snprintf(out, size, " gen=%u", generation.number);
    else
        *out = '\0';
}

static void describe_file(int fd, const struct stat *st, struct nbdfleece_identity *identity)
{
    char fs[40], generation[24];

    name_file_system(fd, st->st_dev, fs, sizeof fs);
    name_generation(fd, generation, sizeof generation);
    snprintf(identity->image, sizeof identity->image, "file%s ino=%llu%s", fs,
             (unsigned long long)st->st_ino, generation);
    snprintf(identity->content, sizeof identity->content,
             "size=%lld mtime=%lld.%09ld ctime=%lld.%09ld", (long long)st->st_size,
             (long long)st->st_mtim.tv_sec, st->st_mtim.tv_nsec, (long long)st->st_ctim.tv_sec,
             st->st_ctim.tv_nsec);
    identity->modified = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

/* ---- block devices ---- */

/* The line that a file of the kernel consists of; false: it is not there, is empty, or does not fit.
 * Part of a name would be a name that others have too. */
static bool read_attribute(const char *folder, const char *name, char *out, size_t size)
{
    char path[128], *end;
    FILE *f;
    size_t n;

    snprintf(path, sizeof path, "%s/%s", folder, name);
    f = fopen(path, "re");
    if (!f)
        return false;
    n = fread(out, 1, size - 1, f);
    fclose(f);
    if (n == size - 1)
        return false;
    out[n] = '\0';
    end = out + strcspn(out, "\n");
    if (end[0] && end[1])
        return false;
    *end = '\0';
    return out[strspn(out, " ")] != '\0';
}

/* By its number, which may be another device's after a restart of the machine, or when it was taken
 * away: so together with the boot, and the kernel's count of disks where it has one. Where even the
 * boot is not known, no device is ever the one that it was. */
static void describe_by_number(const char *disk, dev_t device, struct nbdfleece_identity *identity)
{
    struct timespec now;
    char boot[64], sequence[24];

    if (!read_attribute("/proc/sys/kernel/random", "boot_id", boot, sizeof boot)) {
        clock_gettime(CLOCK_REALTIME, &now);
        snprintf(boot, sizeof boot, "%lld.%09ld", (long long)now.tv_sec, now.tv_nsec);
    }
    if (!read_attribute(disk, "diskseq", sequence, sizeof sequence))
        *sequence = '\0';
    snprintf(identity->image, sizeof identity->image, "device dev=%u:%u boot=%s%s%s", major(device),
             minor(device), boot, *sequence ? " seq=" : "", sequence);
}

/* A partition is known by its disk and its number, a loop device by its file and where it begins
 * there. */
static void describe_device(dev_t device, struct nbdfleece_identity *identity)
{
    static const char *const names[] = {"dm/uuid",     "md/uuid", "loop/backing_file", "wwid",
                                        "device/wwid", "serial",  "device/serial",     NULL};
    char folder[64], disk[72], partition[16] = "", offset[24] = "", value[160];
    const char *prefix = "";

    snprintf(folder, sizeof folder, "/sys/dev/block/%u:%u", major(device), minor(device));
    if (read_attribute(folder, "partition", partition, sizeof partition))
        prefix = "/..";
    snprintf(disk, sizeof disk, "%s%s", folder, prefix);
    if (!read_attribute(disk, "loop/offset", offset, sizeof offset))
        *offset = '\0';
    for (const char *const *name = names; *name; name++) {
        if (!read_attribute(disk, *name, value, sizeof value))
            continue;
        snprintf(identity->image, sizeof identity->image, "device %s=%s%s%s%s%s", *name, value,
                 *offset ? " offset=" : "", offset, *partition ? " partition=" : "", partition);
        return;
    }
    describe_by_number(disk, device, identity);
}

int identity_of(int fd, struct nbdfleece_identity *identity)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -1;
    if (S_ISBLK(st.st_mode))
        describe_device(st.st_rdev, identity);
    else
        describe_file(fd, &st, identity);
    return 0;
}
