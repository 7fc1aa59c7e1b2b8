# SPDX-License-Identifier: BSD-3-Clause
"""A control socket that passes all on to another one, and lets a test see, change or stop what passes.

    def before(request):            # what a client sends, before the server gets it
        ...
        return request              # None: the client is cut off instead

    def after(request, reply):      # what the server has replied, before the client gets it
        ...
        return reply                # None: the client is cut off instead

    with QmpProxy(path, server.qmp_path, before, after):
        fleecectl("-C", path, ...)

A client that ends, or is killed, may have asked for something that is not done yet. The server is let do it,
and the hooks hear of it: when the `with` has ended, nothing is under way any more.
"""

import collections
import contextlib
import json
import os
import socket
import threading
import traceback

import fleece
import tap


class QmpProxy:
    def __init__(self, path, upstream, before=None, after=None):
        self.path, self._upstream = path, upstream
        self._before = before or (lambda request: request)
        self._after = after or (lambda request, reply: reply)
        self._threads, self._clients, self._servers, self.errors = [], [], [], []

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, kind, value, trace):
        self._shut(self._listener)
        self._join(self._threads[0])  # no client comes any more
        for client in self._clients:
            self._shut(client)
        for thread in self._threads:
            self._join(thread)
        for s in self._listener, *self._clients, *self._servers:
            s.close()
        os.unlink(self.path)
        if kind is None and self.errors:
            raise self.errors[0]

    @staticmethod
    def _join(thread):
        thread.join(fleece.SOON)
        assert not thread.is_alive(), "a proxy is stuck"

    def _start(self, function, *args):
        thread = threading.Thread(target=self._guarded, args=(function, *args), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, function, *args):
        try:
            function(*args)
        except OSError:
            pass  # one side has gone
        except Exception as error:
            self._failed(error)

    def _failed(self, error):
        self.errors.append(error)
        tap.note(traceback.format_exc())

    def _told(self, hook, *args):
        """What a hook returns; None if it fails, with whatever."""
        try:
            return hook(*args)
        except Exception as error:
            self._failed(error)
            return None

    @staticmethod
    def _shut(s, how=socket.SHUT_RDWR):
        with contextlib.suppress(OSError):
            s.shutdown(how)

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            self._clients.append(client)
            self._servers.append(server)
            try:
                server.connect(self._upstream)
            except OSError:
                self._shut(client)
                continue
            under_way = collections.deque()
            self._start(self._requests, client, server, under_way)
            self._start(self._replies, server, client, under_way)

    def _requests(self, client, server, under_way):
        try:
            with client.makefile("rb") as lines:
                for line in lines:
                    request = json.loads(line)
                    changed = self._told(self._before, request)
                    if changed is None:
                        self._shut(client)
                        self._shut(server)
                        return
                    under_way.append(request)
                    server.sendall(json.dumps(changed).encode() + b"\r\n")
        finally:
            # The server still answers what it has been asked, and then closes its end.
            self._shut(server, socket.SHUT_WR)

    def _replies(self, server, client, under_way):
        try:
            with server.makefile("rb") as lines:
                for line in lines:
                    reply = json.loads(line)
                    if "return" in reply or "error" in reply:
                        reply = self._told(self._after, under_way.popleft(), reply)
                    if reply is None:
                        return
                    with contextlib.suppress(OSError):  # the client may have gone
                        client.sendall(json.dumps(reply).encode() + b"\r\n")
        finally:
            self._shut(server)
            self._shut(client)
