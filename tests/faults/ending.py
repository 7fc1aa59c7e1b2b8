# SPDX-License-Identifier: BSD-3-Clause
"""The standard scenario, in which nothing fails until the server ends."""

import contextlib
import os
import signal

from fleece import QmpError
from scenario import FLUSH, FUA, READ, Run, TRIM, WRITE, WRITE_ZEROES


class EndRun(Run):
    """The fault comes after the scenario. The calls are counted from the beginning of the end."""

    def __init__(self, folder, fault, policy="break-snapshot"):
        super().__init__(folder, None, policy)
        self.at_the_end = fault
        self.is_ending = False

    @property
    def may_fail(self):
        """Requests may fail without a fault, too: a server that ends refuses requests that come
        late."""
        return self.is_ending

    def verify(self):
        super().verify()
        clients = [(self.client("vda"), [(WRITE, 200, 64, 0x81), (READ, 0, 64, 0),
                                         (WRITE, 300, 1, 0x82, FUA), (FLUSH, 0, 0, 0)]),
                   (self.client("vda"), [(WRITE_ZEROES, 400, 100, 0), (TRIM, 500, 8, 0),
                                         *((WRITE, 600 + i, 1, 0x90 + i) for i in range(16))]),
                   (self.client("vdb"), [(WRITE, 8, 4, 0xa1), (READ, 16, 48, 0)]),
                   (self.client("view-a"), [(READ, 256 * i, 256, 0) for i in range(4)])]
        self.monitor()
        self.is_ending = True
        self.control.reset()
        if self.at_the_end:
            self.control.arm(self.at_the_end)
        # The server may end before it has received the rest, so these do something of each kind
        # first.
        self.requests(clients[0][0], (WRITE, 310, 1, 0x83, FUA), (FLUSH, 0, 0, 0))
        self.requests(clients[1][0], (WRITE_ZEROES, 940, 16, 0), (TRIM, 960, 8, 0))
        self.requests(clients[3][0], (READ, 0, 16, 0))
        with contextlib.suppress(QmpError, EOFError, OSError):
            self.q.cmd("view-create", disk="vdb", name="early")
        cookies = [self.send(c, requests) for c, requests in clients]
        with contextlib.suppress(OSError):
            self.q.write({"execute": "transaction", "arguments": {"actions": [
                {"type": "block-dirty-bitmap-add", "data": {"node": "vdb", "name": "late"}},
                {"type": "view-create", "data": {"disk": "vdb", "name": "late"}}]}})
        self.server.process.send_signal(signal.SIGTERM)
        for (c, requests), sent in zip(clients, cookies):
            self.answers(c, requests, sent)
        self.wait()
        return self.control.calls(), self.control.fired()

    def wait(self):
        """Until the server has ended."""
        self.server.wait()

    def finish(self):
        for disk, image in self.images.items():
            with open(os.path.join(self.folder, disk), "rb") as f:
                image.check(f.read(), f"{disk}'s file")
