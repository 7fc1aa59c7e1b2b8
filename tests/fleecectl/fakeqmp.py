# SPDX-License-Identifier: BSD-3-Clause
"""A QMP server that sends what the test gives it, even if no real server would send it.

    with FakeQmp({"query-status": {"running": True}}) as fake:
        fleecectl("-C", fake.path, ...)

`replies` has for each command one of these:

    an object        the value of `return`
    error(...)       an error reply
    bytes            are sent unchanged
    None             closes the connection
    a function       is called with the arguments and returns one of the above
"""

import json
import os
import shutil
import socket
import tempfile
import threading

from fleece import SOON

GREETING = {"QMP": {"version": {"qemu": {"major": 10, "minor": 0, "micro": 0},
                                "package": "nbdfleece 0.1.0"},
                    "capabilities": []}}


class error(Exception):
    """An error reply."""

    def __init__(self, desc, cls="GenericError"):
        super().__init__(desc)
        self.reply = {"error": {"class": cls, "desc": desc}}


class FakeQmp:
    """replies: as above. greeting: an object, bytes, or None to close the connection at once.
    after_ready: bytes that are sent after the reply to the first request, qmp_capabilities; then
    the connection is closed."""

    def __init__(self, replies=None, greeting=GREETING, after_ready=None):
        self.replies = replies or {}
        self.greeting = greeting
        self.after_ready = after_ready
        self.requests = []  # all requests, parsed
        self.dir = tempfile.mkdtemp(prefix="fleece-")
        self.path = os.path.join(self.dir, "qmp")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(SOON)
        self._listener.close()
        shutil.rmtree(self.dir)

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                try:
                    self._talk(connection)
                except (BrokenPipeError, ConnectionResetError):
                    pass

    @staticmethod
    def _send(connection, what):
        if not isinstance(what, bytes):
            what = json.dumps(what).encode() + b"\r\n"
        connection.sendall(what)

    def _reply(self, request):
        """What to send for a request; None: close the connection."""
        name = request["execute"]
        if name == "qmp_capabilities" and name not in self.replies:
            return {"return": {}}
        if name not in self.replies:
            return error(f"The command {name} has not been found", "CommandNotFound").reply
        reply = self.replies[name]
        if callable(reply):
            reply = reply(request.get("arguments", {}))
        if isinstance(reply, error):
            return reply.reply
        return reply if reply is None or isinstance(reply, bytes) else {"return": reply}

    def _talk(self, connection):
        if self.greeting is None:
            return
        self._send(connection, self.greeting)
        for line in connection.makefile():
            request = json.loads(line)
            self.requests.append(request)
            reply = self._reply(request)
            if reply is None:
                return
            self._send(connection, reply)
            if self.after_ready is not None:
                self._send(connection, self.after_ready)
                return


class Script(FakeQmp):
    """Sends its pieces: the first one at once, each other one when the client has sent something.
    Then it closes the connection; with `stay` it waits until the client does. A piece may be an
    iterator of bytes, which are all sent."""

    def __init__(self, *pieces, stay=False):
        super().__init__()
        self._pieces = pieces
        self._stay = stay

    def _talk(self, connection):
        for number, piece in enumerate(self._pieces):
            if number > 0:
                connection.recv(65536)
            for part in [piece] if isinstance(piece, (bytes, dict)) else piece:
                self._send(connection, part)
        if self._stay:
            connection.recv(65536)
