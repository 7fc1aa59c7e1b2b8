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
"""

import collections
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
        self._threads, self._sockets, self.errors = [], [], []

    def __enter__(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._start(self._accept)
        return self

    def __exit__(self, kind, value, trace):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for s in self._sockets:
            self._cut(s)
        for thread in self._threads:
            thread.join(fleece.SOON)
            assert not thread.is_alive(), "a proxy is stuck"
        os.unlink(self.path)
        if kind is None and self.errors:
            raise self.errors[0]

    def _start(self, function, *args):
        thread = threading.Thread(target=self._guarded, args=(function, *args), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, function, *args):
        try:
            function(*args)
        except OSError:
            pass  # one side has gone
        except Exception as error:  # what a hook has found
            self.errors.append(error)
            tap.note(traceback.format_exc())
            for s in self._sockets:
                self._cut(s)

    @staticmethod
    def _cut(s):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def _accept(self):
        while True:
            client, _ = self._listener.accept()
            server = socket.socket(socket.AF_UNIX)
            self._sockets += [client, server]
            try:
                server.connect(self._upstream)
            except OSError:
                self._cut(client)
                continue
            under_way = collections.deque()
            self._start(self._pass_on, client, server, under_way, self._request)
            self._start(self._pass_on, server, client, under_way, self._reply)

    def _pass_on(self, source, target, under_way, look):
        with source.makefile("rb") as lines:
            for line in lines:
                line = look(line, under_way)
                if line is None:
                    break
                target.sendall(line)
        self._cut(source)
        self._cut(target)

    def _request(self, line, under_way):
        request = json.loads(line)
        changed = self._before(request)
        under_way.append(request)
        return None if changed is None else json.dumps(changed).encode() + b"\r\n"

    def _reply(self, line, under_way):
        reply = json.loads(line)
        if "return" in reply or "error" in reply:
            reply = self._after(under_way.popleft(), reply)
        return None if reply is None else json.dumps(reply).encode() + b"\r\n"
