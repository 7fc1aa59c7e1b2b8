# SPDX-License-Identifier: BSD-3-Clause
"""Tells which system calls on an image a request leads to. tests/faults/calls.c notes the calls.

    with calls.server(image, "--disk", "vda", "file", image) as (s, seen):
        ...
        seen()      # [Call(name, offset, length, flags), ...] since the last time
"""

import collections
import contextlib
import os

import fleece

LIBRARY = os.path.join(fleece.BUILD, "tests/faults/.libs/calls.so")

# Flags of the calls, from the kernel's headers.
RWF_DSYNC = 2
KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE = 1, 2, 16
SEEK_DATA, SEEK_HOLE = 3, 4
WILLNEED, DONTNEED = 3, 4

Call = collections.namedtuple("Call", "name offset length flags")


@contextlib.contextmanager
def server(image, *args, env=None):
    """A started server, and a function that returns the new calls on the file `image`."""
    with fleece.tmpdir() as folder:
        notes = os.path.join(folder, "calls")
        at = 0

        def seen():
            nonlocal at
            with open(notes) as f:
                f.seek(at)
                lines = f.readlines()
                at = f.tell()
            return [Call(name, *map(int, rest)) for name, *rest in map(str.split, lines)]

        open(notes, "w").close()
        env = {"LD_PRELOAD": LIBRARY, "FLEECE_CALLS": notes, "FLEECE_CALLS_OF": image, **(env or {})}
        if fleece.SANITIZER == "address":
            # Our library is loaded before the sanitizer's, and passes every call on to it.
            env["ASAN_OPTIONS"] = (f"{os.environ.get('ASAN_OPTIONS', '')}:verify_asan_link_order=0:"
                                   f"log_path={folder}/sanitizer")
        # With polling the number of calls would depend on time.
        with fleece.Server("--poll-max-ns", "0", *args, dir=folder, env=env) as s:
            seen()
            yield s, seen
