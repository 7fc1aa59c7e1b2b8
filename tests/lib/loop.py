# SPDX-License-Identifier: BSD-3-Clause
"""A loop device for one test alone, taken in one step. tests/backend/loop.h is the same for C.

    with loop.device(path, sector=4096) as device:
        Server("--disk", "vda", "file", device)
"""

import contextlib
import errno
import fcntl
import os
import stat
import struct
import tempfile

import tap

MAJOR = 7
GET_FREE, CONFIGURE = 0x4C82, 0x4C0A
READ_ONLY, AUTOCLEAR = 1, 4
ATTEMPTS = 10000  # so often in a row may others be quicker
LATE = (errno.EBUSY, errno.ENXIO)


def _config(fd, sector, readonly):
    """struct loop_config of linux/loop.h."""
    flags = AUTOCLEAR | (READ_ONLY if readonly else 0)
    return bytearray(struct.pack("=II5Q4I160x64x", fd, sector, 0, 0, 0, 0, 0, 0, 0, 0, flags)
                     + bytes(16))


def _node(number, folder):
    """The path of a device: its node in /dev, or one that is made in `folder`."""
    path = f"/dev/loop{number}"
    if not os.path.exists(path):
        path = os.path.join(folder, f"loop{number}")
        if not os.path.exists(path):
            os.mknod(path, stat.S_IFBLK | 0o600, os.makedev(MAJOR, number))
    return path


def _take(config, folder):
    """(path, descriptor). Somebody else may take the device that was free a moment ago; then the
    next free one is tried."""
    with open("/dev/loop-control", "rb+", buffering=0) as control:
        for _ in range(ATTEMPTS):
            path = _node(fcntl.ioctl(control, GET_FREE), folder)
            fd = None
            try:
                fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
                fcntl.ioctl(fd, CONFIGURE, config)
                return path, fd
            except OSError as e:
                if fd is not None:
                    os.close(fd)
                if e.errno not in LATE:
                    raise
                os.sched_yield()
    raise AssertionError(f"others were quicker to take a loop device, {ATTEMPTS} times")


@contextlib.contextmanager
def device(backing, sector=512, readonly=False):
    """The path of a device with the data of the file `backing`. Skips the test where no device can
    be had. The device goes away when the last user has closed it."""
    with tempfile.TemporaryDirectory(prefix="fleece-loop-") as folder:
        file = os.open(backing, (os.O_RDONLY if readonly else os.O_RDWR) | os.O_CLOEXEC)
        try:
            path, fd = _take(_config(file, sector, readonly), folder)
        except OSError as e:
            tap.skip(f"no loop device to be had: {os.strerror(e.errno)}")
        finally:
            os.close(file)
        try:
            yield path
        finally:
            os.close(fd)
