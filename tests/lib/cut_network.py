# SPDX-License-Identifier: BSD-3-Clause
"""A network between an NBD client and a server's Unix socket, which breaks.

    with CutNetwork(path, s.socket, [100000, 500000]) as net:
        ...              # clients of `path`: all are cut off when so many bytes have come, each time
        assert net.cuts == 2
"""

import os
import socket
import threading

import fleece


class CutNetwork:
    """path: of its socket. after: bytes from the server, in all, at which all connections break.
    for_good: the last time nobody gets through any more."""

    def __init__(self, path, upstream, after, for_good=False):
        self.path, self._upstream, self._after, self._for_good = path, upstream, list(after), for_good
        self._lock, self._sockets, self._threads = threading.Lock(), [], []
        self._passed, self.cuts, self._over = 0, 0, False

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, *_):
        self._end()
        for thread in self._threads:
            thread.join(fleece.SOON)
            assert not thread.is_alive(), "a network is stuck"
        self._listener.close()
        os.unlink(self.path)

    def _end(self):
        """Nobody gets through any more, nor one that is being let in."""
        with self._lock:
            self._over = True
        self._shut(self._listener)
        self._cut()

    def _start(self, function, *args):
        thread = threading.Thread(target=self._guarded, args=(function, *args), daemon=True)
        self._threads.append(thread)
        thread.start()

    @staticmethod
    def _guarded(function, *args):
        try:
            function(*args)
        except OSError:
            pass  # one side has gone

    @staticmethod
    def _shut(s):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _cut(self):
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for s in sockets:
            self._shut(s)

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            with self._lock:
                if self._over:
                    client.close()
                    return
                self._sockets += [client, server]
            try:
                server.connect(self._upstream)
            except OSError:
                self._shut(client)
                continue
            self._start(self._pass_on, client, server, False)
            self._start(self._pass_on, server, client, True)

    def _count(self, length):
        """True: this is too much."""
        with self._lock:
            self._passed += length
            if not self._after or self._passed < self._after[0]:
                return False
            self._after.pop(0)
            self.cuts += 1
            return True

    def _pass_on(self, source, target, counts):
        try:
            while data := source.recv(65536):
                if counts and self._count(len(data)):
                    if self._for_good and not self._after:
                        self._end()
                    else:
                        self._cut()
                    break
                target.sendall(data)
        finally:
            self._shut(source)
            self._shut(target)
