/* SPDX-License-Identifier: BSD-3-Clause */
#include "plugins/lib/qemu-locks.h"

#include "common/base/nbdkit-abi.h"

#include <errno.h>
#include <fcntl.h>
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

static int trouble(const char *path)
{
    if (errno == EAGAIN || errno == EACCES) {
        nbdkit_error("%s: somebody has locked this file exclusively (locking=off ignores locks)",
                     path);
        return -1;
    }
    nbdkit_debug("%s: no image locks here: %m", path);
    return 0;
}

int qemu_locks_take(int fd, bool writable, const char *path)
{
    const unsigned have = writable ? CONSISTENT_READ | WRITE | RESIZE : CONSISTENT_READ;
    const unsigned deny = WRITE | WRITE_UNCHANGED | RESIZE;

    /* First take the locks, then look: two that open at once then see each other, and both give up;
     * the other way round neither might. */
    if (hold(fd, HAS_BASE, have) < 0 || hold(fd, DENY_BASE, deny) < 0)
        return trouble(path);
    int used = held_by_others(fd, HAS_BASE, deny);
    int denied = held_by_others(fd, DENY_BASE, have);
    if (used == -2 || denied == -2)
        return trouble(path);
    if (used >= 0) {
        nbdkit_error("%s: QEMU or another server has this image open with permission to %s "
                     "(locking=off ignores that, at your risk)",
                     path, permission_names[used]);
        return -1;
    }
    if (denied >= 0) {
        nbdkit_error("%s: QEMU or another server has this image open and lets nobody else %s it "
                     "(locking=off ignores that, at your risk)",
                     path, permission_names[denied]);
        return -1;
    }
    return 0;
}
