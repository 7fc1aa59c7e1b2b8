# SPDX-License-Identifier: BSD-3-Clause
"""A server whose reads stay under way until the test lets them go, by two FIFOs and the eval
plugin.

    with Held() as h:
        c = Client(h.server.socket).go()
        c.request(READ, 0, 512)
        h.wait_begun()
        ...
        h.let_go()
"""

import os
import shutil
import sys
import tempfile

from fleece import Server
from rawnbd import Client


class Held:
    """Each read at offset 0 is held until a let_go(). Everything else is done at once."""

    def __init__(self, *args):
        self.dir = tempfile.mkdtemp(prefix="fleece-held-")
        self.begun, self.go = (os.path.join(self.dir, n) for n in ("begun", "go"))
        for fifo in self.begun, self.go:
            os.mkfifo(fifo)
        # Opened for reading and writing, so that no open waits and nothing written is lost.
        self.fds = [os.open(fifo, os.O_RDWR) for fifo in (self.begun, self.go)]
        self.server = Server(*args, "--disk", "vda", "eval", "get_size=echo 1048576",
                             f"pread=if [ $4 = 0 ]; then echo >{self.begun}; read x <{self.go}; fi;"
                             " head -c $3 /dev/zero", "can_write=exit 0", "pwrite=cat >/dev/null",
                             "thread_model=echo parallel")

    def __enter__(self):
        self.server.__enter__()
        try:
            with Client(self.server.socket) as c:  # teaches the server that this disk is slow
                c.go()
                for _ in range(8):
                    c.read(4096, 512)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, *exception):
        try:
            return self.server.__exit__(*exception)
        finally:
            for fd in self.fds:
                os.close(fd)
            shutil.rmtree(self.dir)

    def wait_begun(self):
        assert os.read(self.fds[0], 1) == b"\n"

    def let_go(self):
        os.write(self.fds[1], b"\n")
