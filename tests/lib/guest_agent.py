# SPDX-License-Identifier: BSD-3-Clause
"""A guest with a QEMU guest agent, as far as freezing is concerned, on a Unix socket."""

import json
import os
import socket
import threading

FREEZE, THAW, STATUS = "guest-fsfreeze-freeze", "guest-fsfreeze-thaw", "guest-fsfreeze-status"
SYNC = "guest-sync-delimited"


class Agent:
    """As QEMU's chardev does, it serves one client at a time, and what one has not read goes to the
    next.

    history    the commands that it has carried out, without guest-sync-delimited
    frozen     how many file systems stand still
    errors     {command: the text that it fails with instead}
    silent     commands that it carries out, and does not answer
    strange    {command: the bytes that are its answer}
    late       what the client before has not read: it is sent to the next one
    on         {command: a function that is called before it is answered}"""

    def __init__(self, path, filesystems=3):
        self.path = path
        self.filesystems = filesystems
        self.history, self.frozen = [], 0
        self.errors, self.silent, self.strange, self.late, self.on = {}, set(), {}, b"", {}
        self.changed = threading.Condition()
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(path)
        self._socket.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        os.unlink(self.path)

    def wait(self, condition, seconds=60):
        """Until condition() is true."""
        with self.changed:
            assert self.changed.wait_for(condition, seconds), (self.history, self.frozen)

    def _serve(self):
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client:
                try:
                    self._talk(client)
                except ConnectionError:
                    pass

    def _talk(self, client):
        late, self.late = self.late, b""
        client.sendall(late)
        received = b""
        while chunk := client.recv(4096):
            received += chunk
            while b"\n" in received:
                line, received = received.split(b"\n", 1)
                answer = self._answer(line.rpartition(b"\xff")[2])
                if answer is not None:
                    client.sendall(answer)

    def _answer(self, line):
        request = json.loads(line)
        command = request["execute"]
        if command == SYNC:
            if command in self.silent:
                return None
            return b'\xff{"return": %d}\n' % request["arguments"]["id"]
        with self.changed:
            answer = self._carry_out(command)
            self.history.append(command)
            self.changed.notify_all()
        if command in self.on:
            self.on[command]()
        if command in self.strange:
            return self.strange[command]
        return None if command in self.silent else json.dumps(answer).encode() + b"\n"

    def _carry_out(self, command):
        if command in self.errors:
            return {"error": {"class": "GenericError", "desc": self.errors[command]}}
        if command == STATUS:
            return {"return": "frozen" if self.frozen else "thawed"}
        if command == FREEZE and not self.frozen:
            self.frozen = self.filesystems
            return {"return": self.frozen}
        if command == THAW:
            thawed, self.frozen = self.frozen, 0
            return {"return": thawed}
        return {"error": {"class": "CommandNotFound", "desc": f"Command {command} has been disabled"}}
