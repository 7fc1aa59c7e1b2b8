# SPDX-License-Identifier: BSD-3-Clause
"""Other people's servers as targets: they check the checker, and show what clients meet elsewhere.
$QEMU_NBD, $QEMU_IMG, $QEMU_IO and $NBDKIT name other commands than the host's."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess

import storage
from client import NotOffered, Where
from fleece import SOON, die_with_parent
from targets import Target, make_certificates

MIB = 1 << 20
DESCRIPTION = "what it is, in \u00fcmlauts"


def command(name):
    """The first words of a program's command line: the environment's, or the host's program."""
    words = shlex.split(os.environ.get(name.upper().replace("-", "_"), name))
    if shutil.which(words[0]) is None:
        raise NotOffered("program", f"{name} is not installed")
    return words


def version(name):
    """The first two numbers of a program's version: "7.2" for 7.2.22."""
    text = subprocess.run(command(name) + ["--version"], capture_output=True, text=True,
                          timeout=SOON).stdout
    return re.search(r"(\d+\.\d+)", text).group(1)


class Foreign(Target):
    """Servers that are started by socket activation: clients can connect at once, so that there is
    nothing to wait for."""

    patience = 20

    def __init__(self):
        self.name = f"{self.program} {version(self.program)}"
        self._started = 0

    def prepare(self):
        self._servers = self.stack.enter_context(contextlib.ExitStack())

    def suspect(self):
        """Start all servers anew, so that the other parts can go on. (Nobody can know without
        waiting whether a server is about to die.)"""
        self._servers.close()
        self._exports.clear()

    @contextlib.contextmanager
    def serve(self, name, *arguments):
        """Give (path of the socket, process)."""
        self._started += 1
        path = self.path(f"{name}-{self._started}.sock")
        with socket.socket(socket.AF_UNIX) as listener, open(self.path(name + ".log"), "wb") as log:
            listener.bind(path)
            listener.listen(16)
            process = subprocess.Popen(
                ["bash", "-c", 'exec 3<&"$1"; shift; LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "bash",
                 str(listener.fileno()), *command(self.program), *arguments],
                stdin=subprocess.DEVNULL, stderr=log, pass_fds=[listener.fileno()],
                preexec_fn=die_with_parent)
        try:
            yield path, process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(SOON)

    def start(self, name, *arguments, export="", **more):
        """Start a server that runs as long as the target. Gives the Where of its export."""
        path, _ = self._servers.enter_context(self.serve(name, *arguments))
        return Where(path, export, **more)

    def raw(self, name, size, byte=b""):
        path = self.path(name)
        with open(path, "wb") as f:
            f.write(byte * size)
            f.truncate(size)
        return path

    def certificates(self):
        folder = self.path("pki")
        if not os.path.exists(folder):
            make_certificates(folder)
        return folder, os.path.join(folder, "ca-cert.pem")


class QemuNbd(Foreign):
    program = "qemu-nbd"
    common = ["-t", "-e", "0", "--discard=unmap"]

    def _tool(self, name, *arguments):
        done = subprocess.run(command(name) + list(arguments), capture_output=True, text=True,
                              timeout=SOON)
        assert done.returncode == 0, f"{name} {arguments}: {done.stderr}{done.stdout}"

    def _qcow2(self, name, size):
        path = self.path(name + ".qcow2")
        self._tool("qemu-img", "create", "-q", "-f", "qcow2", path, str(size))
        return path

    def start_main(self):
        return self.start("main", *self.common, "-f", "qcow2", "-x", "main", "-D", DESCRIPTION,
                          self._qcow2("main", 256 * MIB), export="main", description=DESCRIPTION)

    def start_described(self):
        return self.export("main")

    def start_default(self):
        return self.start("default", *self.common, "-f", "raw", self.raw("default", MIB))

    def start_readonly(self):
        return self.start("readonly", *self.common, "-r", "-f", "raw", self.raw("readonly", MIB))

    def start_odd(self):
        return self.start("odd", *self.common, "-f", "raw", self.raw("odd", 1000))

    def start_empty(self):
        return self.start("empty", *self.common, "-f", "raw", self.raw("empty", 0))

    def start_large(self):
        return self.start("large", *self.common, "-f", "qcow2", self._qcow2("large", 6 << 30))

    # There is no "aligned": blkdebug has such blocks, but asserts where a discard is not aligned.

    def start_bitmaps(self):
        path = self._qcow2("bitmaps", 16 * MIB)
        for name in "b0", "b1":
            self._tool("qemu-img", "bitmap", "--add", "-g", "65536", path, name)
        for write in "write -q 64k 64k", "write -q 9M 512":
            self._tool("qemu-io", "-f", "qcow2", "-c", write, path)
        return self.start("bitmaps", *self.common, "-f", "qcow2", "-B", "b0", "-B", "b1", path,
                          dirt=[(65536, 0), (65536, 1)])

    def start_bad(self):
        size, errors = 8 * MIB, {}
        rules = [("read", 5, size // 512 - 1)]
        for name, number in ("EPERM", 1), ("EIO", 5), ("EACCES", 13), ("EINVAL", 22), (
                "EFBIG", 27), ("ENOSPC", 28), ("EOVERFLOW", 75), ("ENOTSUP", 95), ("EDQUOT", 122):
            errors[name] = len(errors) * 4096
            rules.append(("write", number, errors[name] // 512))
        return self._blkdebug("bad", rules, errors=errors, good={ord("d")})

    def start_bad_status(self):
        return self._blkdebug("bad-status", [("block-status", 5, 8192)])

    def _blkdebug(self, name, rules, **more):
        """8 MiB of 'd' that fail by the rules (operation, errno, sector)."""
        path = self.raw(name, 8 * MIB, b"d")
        options = f"driver=blkdebug,image.driver=file,image.filename={path}"
        for i, (kind, number, sector) in enumerate(rules):
            options += (f",inject-error.{i}.event=none,inject-error.{i}.iotype={kind},"
                        f"inject-error.{i}.errno={number},inject-error.{i}.sector={sector}")
        return self.start(name, *self.common, "--image-opts", options, **more)

    def start_tls_required(self):
        folder, ca = self.certificates()
        return self.start("tls", *self.common, "-f", "raw", "--object",
                          f"tls-creds-x509,id=t,endpoint=server,verify-peer=no,dir={folder}",
                          "--tls-creds", "t", "-x", "disk", self.raw("tls", MIB), export="disk",
                          ca=ca)

    def start_tls(self):
        return self.export("tls-required")


class Nbdkit(Foreign):
    program = "nbdkit"

    def _eval(self, name, arguments, more, *options):
        return self.start(name, *options, "eval", *arguments, **more)

    def start_main(self):
        return self.start("main", "--filter=exportname", "memory", "256M", "exportname=main",
                          "exportname=other", "exportname-strict=true",
                          "exportname-list=explicit", "default-export=main", "exportdesc=fixed:"
                          + DESCRIPTION, export="main", description=DESCRIPTION)

    def start_default(self):
        return self.start("default", "memory", "1M")

    def start_bad_status(self):
        return self.export("bad")

    def start_described(self):
        return self.export("main")

    def start_masked(self):
        return self.start("masked", "--mask-handshake=1", "memory", "1M")

    def start_readonly(self):
        return self.start("readonly", "-r", "memory", "1M")

    def start_odd(self):
        return self.start("odd", "file", self.raw("odd", 1000))

    def start_empty(self):
        return self.start("empty", "memory", "0")

    def start_large(self):
        return self.start("large", "memory", "6G")

    def start_full(self):
        return self.start("full", "full", "1M")

    def start_bad(self):
        return self._eval("bad", *storage.bad())

    def start_logged(self):
        return self._eval("logged", *storage.logged(self.path("log")))

    def start_aligned(self):
        return self._eval("aligned", *storage.aligned())

    def start_fragments(self):
        return self._eval("fragments", *storage.fragments())

    def start_slow_zero(self):
        return self._eval("slow-zero", *storage.slow_zero(self.path("slow")))

    def start_no_trim(self):
        return self._eval("no-trim", *storage.no_trim(self.path("no-trim")))

    def _tls(self, mode):
        folder, ca = self.certificates()
        return self.start("tls-" + mode, f"--tls={mode}", f"--tls-certificates={folder}",
                          "--filter=exportname", "memory", "1M", "exportname=disk",
                          "exportname-strict=true", export="disk", ca=ca)

    def start_tls_required(self):
        return self._tls("require")

    def start_tls_selective(self):
        return self._tls("on")

    def start_tls(self):
        return self.export("tls-selective")

    @contextlib.contextmanager
    def held(self):
        with storage.Fifos() as fifos, \
                self.serve("held", "eval", *fifos.arguments()) as (path, process):
            try:
                yield storage.Held(process.pid, fifos, Where(path))
            finally:
                fifos.let_go()  # a read that still waits would keep the server from its end


TARGETS = {"qemu-nbd": QemuNbd, "nbdkit": Nbdkit}
