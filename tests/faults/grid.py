# SPDX-License-Identifier: BSD-3-Clause
"""A server in which the n-th call of a kind fails (README.md). faults.c lets the calls fail."""

import errno
import mmap
import os
import struct

import fleece

# In the order of enum kind in faults.c.
KINDS = ("alloc", "recv", "send", "accept", "thread", "read", "write", "flush", "space", "map",
         "open")
SHORT = 0  # instead of an errno: the call transfers less than it was asked for

LIBRARY = os.path.join(fleece.BUILD, "tests/faults/.libs/faults.so")

CONTROL = struct.Struct(f"=5Q{len(KINDS)}Q256s")
_FIRST_CALLS = 5 * 8


class Control:
    """The control block of faults.c, in a file of its own."""

    def __init__(self, path):
        self.path = path
        with open(path, "w+b") as f:
            f.truncate(CONTROL.size)
            self._map = mmap.mmap(f.fileno(), CONTROL.size)

    def close(self):
        self._map.close()

    def _put(self, index, *values):
        struct.pack_into(f"={len(values)}Q", self._map, 8 * index, *values)

    def reset(self):
        """No call fails any more, and the counts begin at 0."""
        self._map[:] = bytes(CONTROL.size)

    def arm(self, fault):
        """Let the calls fail that `fault` names. The field `last` arms, so it is written last."""
        self._put(0, KINDS.index(fault.kind), fault.n)
        self._put(3, fault.error, 0)
        self._put(2, (1 << 64) - 1 if fault.forever else fault.n)

    def disarm(self):
        self._put(2, 0)

    def calls(self):
        """{kind: how often it was called}"""
        return dict(zip(KINDS, struct.unpack_from(f"={len(KINDS)}Q", self._map, _FIRST_CALLS)))

    def fired(self):
        """How many calls have failed."""
        return struct.unpack_from("=Q", self._map, 8 * 4)[0]

    def what(self):
        """The first call that failed, and what its descriptor was."""
        return bytes(self._map[CONTROL.size - 256:]).split(b"\0")[0].decode()


class Fault:
    """The n-th call of a kind fails with `error` (an errno, or SHORT); with `forever`, all later
    ones as well."""

    def __init__(self, kind, error, n, forever=False):
        self.kind, self.error, self.n, self.forever = kind, error, n, forever

    def __str__(self):
        name = errno.errorcode.get(self.error, "short")
        return f"{self.kind} {self.n}{' and later' if self.forever else ''}: {name}"

    @property
    def is_visible(self):
        """True if somebody may notice the fault: the call cannot simply be made again or in another
        way."""
        return self.error not in (errno.EINTR, SHORT, errno.EOPNOTSUPP)


def server(folder, control, *args):
    """A Server under a Control; not started."""
    env = {"LD_PRELOAD": LIBRARY, "FLEECE_FAULTS": control.path}
    if fleece.SANITIZER == "address":
        # Our library is loaded before the sanitizer's, and passes on the calls that do not fail.
        options = os.environ.get("ASAN_OPTIONS", "")
        env["ASAN_OPTIONS"] = (f"{options}:verify_asan_link_order=0:"
                               f"log_path={folder}/sanitizer")
    # With polling the number of calls would depend on time, and no two runs would be alike.
    return fleece.Server("--poll-max-ns", "0", *args, dir=folder, env=env)
