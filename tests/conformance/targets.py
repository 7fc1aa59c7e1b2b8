# SPDX-License-Identifier: BSD-3-Clause
"""What the lines run against: a Target gives an export for each role that a line asks for, or
raises NotOffered if it has none.

role            an export, and what .more tells about it
main            writable where possible; the lines write to it
default         one that has the empty name as well
masked          of a server that does not offer NO_ZEROES
described       more["description"]
readonly        READ_ONLY
aligned         writable, minimum block more["block"], extents of the storage that are not multiples
odd, empty      1000 bytes, none
large           more than 4 GiB, writable
bitmaps         base:allocation and at least one bitmap; the first begins as more["dirt"] says:
                [(length, flags), (length, flags)]
backup          (ours) a view with exactly the bitmap more["bitmap"]
discard         (ours) a view made with `discard`
bad             reads of more than the first half fail with EIO; data are more["good"] bytes; writes
                at more["errors"][NAME] fail with that error
bad-status      the status of more than the first half fails with EIO
full            writes may fail with ENOSPC
full-scratch    (ours) guest writes must wait for a view that has no room
slow-zero       FAST_ZERO is advertised, and can never be done
no-trim         writable, neither TRIM nor FAST_ZERO
logged          more["log"]: the file to which the storage writes one word for each operation
fragments       more["extents"] extents, far too many for one reply
tls*            see tls.py
"""

import contextlib
import os
import shutil
import subprocess
import tempfile

from client import SOON, NotOffered, Where


class Target:
    """Base class. A subclass has a method start_ROLE (with _ for -) for each role that it offers.
    It is called once, when the role is first needed, and gives a Where. It may enter contexts into
    self.stack."""

    name = "a server"
    is_ours = False
    patience = SOON  # after so many seconds without an answer there is none

    def __enter__(self):
        self.stack = contextlib.ExitStack()
        self.dir = tempfile.mkdtemp(prefix="fleece-")
        self.stack.callback(shutil.rmtree, self.dir, ignore_errors=True)
        self._exports = {}
        try:
            self.prepare()
        except BaseException:
            self.stack.close()
            raise
        return self

    def prepare(self):
        """Start what all roles need."""

    def __exit__(self, *exception):
        return self.stack.__exit__(*exception)

    def path(self, name):
        return os.path.join(self.dir, name)

    def export(self, role):
        if role not in self._exports:
            start = getattr(self, "start_" + role.replace("-", "_"), None)
            if start is None:
                raise NotOffered("export:" + role)
            self._exports[role] = start()
        return self._exports[role]

    def suspect(self):
        """A connection has ended that should not have: perhaps the server has, too."""

    # Each of these is a context manager; its docstring says what it gives.

    def held(self):
        """A server of its own with an export whose reads at 0 stay under way: .where,
        .wait_begun(), .let_go(), .end() (SIGTERM)."""
        raise NotOffered("held")

    def lost_bitmap(self):
        """(Where, name of a bitmap's context, function that takes it away)."""
        raise NotOffered("lost-bitmap")

    def removable(self):
        """(Where, function that removes the export)."""
        raise NotOffered("removable")

    def growing(self):
        """(Where, function that makes it larger and gives the new size)."""
        raise NotOffered("growing")


class UriTarget(Target):
    """Any server: the main export's URI, those of other roles where they are known, and for nbds
    the CA's file."""

    def __init__(self, uri, roles=None, ca=None):
        self.name, self._ca = uri, ca
        self._uris = {"main": uri, **(roles or {})}

    def export(self, role):
        if role not in self._uris:
            raise NotOffered("export:" + role, "no URI given")
        return Where.from_uri(self._uris[role], self._ca)


def make_certificates(folder):
    """A CA, and a server's key and certificate, under the names that nbdkit and QEMU look for.
    Gives the CA's file. Needs openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise NotOffered("tls", "openssl is not installed")
    os.makedirs(folder)
    ca, ca_key, key, request, cert, extensions = (
        os.path.join(folder, name) for name in
        ("ca-cert.pem", "ca-key.pem", "server-key.pem", "server.csr", "server-cert.pem", "ext"))
    with open(extensions, "w") as f:
        f.write("subjectAltName=DNS:localhost,IP:127.0.0.1\nkeyUsage=digitalSignature,"
                "keyEncipherment\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for command in (
            ["req", "-x509", *new, "-keyout", ca_key, "-out", ca, "-days", "2", "-subj", "/CN=CA",
             "-addext", "keyUsage=keyCertSign"],
            ["req", *new, "-keyout", key, "-out", request, "-subj", "/CN=localhost"],
            ["x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial",
             "-out", cert, "-days", "2", "-extfile", extensions]):
        done = subprocess.run([openssl, *command], capture_output=True, text=True, timeout=SOON)
        assert done.returncode == 0, f"openssl {command[0]}: {done.stderr}"
    return ca
