/* SPDX-License-Identifier: BSD-3-Clause */
#include "common/base/qemu-locks.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { CONSISTENT_READ = 1, WRITE = 2, WRITE_UNCHANGED = 4, RESIZE = 8 };

#define PERMISSIONS 4

/* The bytes of the file that stand for permissions: the first ones are locked by those who have a
 * permission, the others by those who deny it to others. */
#define HAS_BASE  100
#define DENY_BASE 200

static const char *const permission_names[PERMISSIONS] = {"read", "write", "write unchanged",
                                                          "resize"};

static int lock_byte(int fd, int command, short type, off_t byte, bool *taken)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int r;

    do {
        r = fcntl(fd, command, &lock);
    } while (r < 0 && errno == EINTR);
    *taken = lock.l_type != F_UNLCK;
    return r;
}

static int hold(int fd, off_t base, unsigned permissions)
{
    bool ignored;

    for (unsigned i = 0; i < PERMISSIONS; i++) {
        if ((permissions & (1u << i)) && lock_byte(fd, F_OFD_SETLK, F_RDLCK, base + i, &ignored))
            return -1;
    }
    return 0;
}

/* The first of `permissions` whose byte somebody else holds; -1: none; -2: the question failed. */
static int held_by_others(int fd, off_t base, unsigned permissions)
{
    bool taken;

    for (unsigned i = 0; i < PERMISSIONS; i++) {
        if (!(permissions & (1u << i)))
            continue;
        if (lock_byte(fd, F_OFD_GETLK, F_WRLCK, base + i, &taken) < 0)
            return -2;
        if (taken)
            return (int)i;
    }
    return -1;
}

static int trouble(const char *path, char *why, size_t room)
{
    if (errno == EAGAIN || errno == EACCES) {
        snprintf(why, room, "%s: somebody has locked this file exclusively", path);
        return -1;
    }
    snprintf(why, room, "%s: no image locks here: %s", path, strerrordesc_np(errno));
    return 1;
}

/* The permissions that are used, and those that are denied to others. */
static void permissions_of(enum qemu_locks who, unsigned *have, unsigned *deny)
{
    *have = who == QEMU_LOCKS_WRITE ? CONSISTENT_READ | WRITE | RESIZE : CONSISTENT_READ;
    *deny = who == QEMU_LOCKS_BASE ? WRITE | RESIZE : WRITE | WRITE_UNCHANGED | RESIZE;
}

int qemu_locks_take(int fd, enum qemu_locks who, const char *path, char *why, size_t room)
{
    unsigned have, deny;
    int used, denied;

    if (who == QEMU_LOCKS_NONE)
        return 0;
    permissions_of(who, &have, &deny);
    /* First take the locks, then look: two that open at once then see each other, and both give up;
     * the other way round neither might. */
    if (hold(fd, HAS_BASE, have) < 0 || hold(fd, DENY_BASE, deny) < 0)
        return trouble(path, why, room);
    used = held_by_others(fd, HAS_BASE, deny);
    denied = held_by_others(fd, DENY_BASE, have);
    if (used == -2 || denied == -2)
        return trouble(path, why, room);
    if (used >= 0)
        snprintf(why, room, "%s: QEMU or another server has this image open with permission to %s",
                 path, permission_names[used]);
    else if (denied >= 0)
        snprintf(why, room,
                 "%s: QEMU or another server has this image open and lets nobody else %s it", path,
                 permission_names[denied]);
    return used >= 0 || denied >= 0 ? -1 : 0;
}
