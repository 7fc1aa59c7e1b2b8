# SPDX-License-Identifier: BSD-3-Clause
"""A machine whose power can be cut: a guest of guest.py in which nbdfleece runs, and whose disks
keep what the guest has flushed (tests/plugins-src/lossy.c), and of the rest what a seed chooses.

    with Machinery(folder, rng) as machine:      # disks of the machine, made once
        with machine.boot() as guest:            # a run of it; leaving it cuts the power
            guest.serve("--disk", "a", "file", "/dev/vdc")
            guest.uri("a"), guest.qmp()
"""

import contextlib
import os
import shlex

import fleece
import guest
import rig
import tap

LOSSY = f"{fleece.BUILD}/tests/plugins-src/.libs/lossy.so"
FILE_PLUGIN = f"{fleece.BUILD}/plugins/file/.libs/nbdkit-file-plugin.so"
RELAY = f"{fleece.BUILD}/tests/state/relay"
NETWORK = ["failover", "net_failover", "virtio_net"]
PORTS = 10809, 10810  # in the guest: of NBD, and of QMP


def libraries(*programs):
    """{path in the guest: path here} of the shared libraries that programs need."""
    found = {}
    for program in programs:
        for line in fleece.run("ldd", program).stdout.splitlines():
            words = line.split()
            path = words[2] if "=>" in words else words[0]
            if path.startswith("/"):
                found[path[1:]] = os.path.realpath(path)
    return found


class Guest(guest.Machine):
    """One run of the machine."""

    def __init__(self, folder, disks, number, accels):
        # A loopback address that no other test has.
        pid = os.getpid()
        self.host = f"127.{64 + (pid >> 16) % 64}.{(pid >> 8) & 255}.{max(pid & 255, 1)}"
        self.ports = [port + 2 * number for port in PORTS]
        programs = {"bin/nbdfleece": fleece.NBDFLEECE, "bin/relay": RELAY,
                    "lib/nbdkit-file-plugin.so": FILE_PLUGIN}
        programs.update(libraries(*programs.values()))
        forwards = "".join(f",hostfwd=tcp:{self.host}:{here}-:{there}"
                           for here, there in zip(self.ports, PORTS))
        super().__init__(folder, disks, programs, NETWORK, [
            "-machine", "q35",  # it boots faster
            "-netdev", f"user,id=net,restrict=on{forwards}",
            "-device", "virtio-net-pci,netdev=net,romfile="], accels)
        self.run("ifconfig lo 127.0.0.1 up; ifconfig eth0 10.0.2.15 up")

    def serve(self, *args):
        """Start nbdfleece in the background; returns what it wrote to its log until it serves."""
        words = ["nbdfleece", "-f", "-p", str(PORTS[0]), "-P", "/tmp/pid", "-C", "/tmp/qmp", *args]
        self.run("rm -f /tmp/pid; mkfifo /tmp/pid; touch /tmp/log")
        # The FIFO's other end is closed without a line if the server ends before it serves.
        self.run(f"({shlex.join(words)} </dev/null >>/tmp/log 2>&1; echo ended with $? >>/tmp/log; "
                 ": >/tmp/pid) >/dev/null 2>&1 &")
        pid = self.run("cat /tmp/pid")
        log = self.run("cat /tmp/log")
        assert pid, f"nbdfleece did not start:\n{log}"
        self.run(f"relay {PORTS[1]} /tmp/qmp </dev/null >/dev/null 2>&1")
        return log

    def cut(self):
        """Cut the power, while others talk to it. Any thread."""
        self.may_end = True
        self._process.kill()

    def uri(self, export):
        return fleece.uri(export, host=self.host, port=self.ports[0])

    def qmp(self):
        """The monitor."""
        return fleece.Qmp((self.host, self.ports[1]))


class Machinery:
    """The machine's disks: /dev/vda (`state`) and /dev/vdb (`files`) with ext4 file systems, and
    /dev/vdc (`raw`) of raw_size bytes."""

    def __init__(self, folder, rng, raw_size, ext4_size=96 * rig.MIB):
        if not os.path.exists(LOSSY):
            tap.skip("nbdkit-plugin.h is not installed")
        fleece.require_program("ldd")
        self.folder, self.rng = folder, rng
        self.files = {name: os.path.join(folder, name) for name in ("state", "files", "raw")}
        mke2fs = guest.programs_for_ext4()
        for name, path in self.files.items():
            with open(path, "wb") as f:
                f.truncate(raw_size if name == "raw" else ext4_size)
            if name != "raw":
                fleece.run(mke2fs, "-q", "-t", "ext4", "-J", "size=4", path)
        self.boots = 0
        self.accels = os.environ.get("FLEECE_GUEST_ACCEL", "tcg").split()

    @contextlib.contextmanager
    def boot(self):
        """Power on. At the end the power is cut."""
        self.boots += 1
        keep = {"state": self.rng.choice([0, 0, 50, 100]),
                "files": self.rng.choice([0, 50, 100, 100]), "raw": self.rng.choice([50, 100, 100])}
        if self.boots < 3:
            keep = {"state": 0, "files": 100, "raw": 100}  # the worst for a state folder
        arguments = []
        for name, path in self.files.items():
            arguments += ["--disk", name, LOSSY, f"file={path}", f"keep={keep[name]}",
                          f"seed={self.rng.randrange(1, 1 << 60)}"]
        with fleece.Server(*arguments) as host:
            running = Guest(self.folder, {name: (host.socket, name) for name in self.files},
                            self.boots, self.accels)
            try:
                yield running
            except BaseException:
                tap.note(running.console())
                raise
            finally:
                running.kill()


def have_power_guest():
    """Skip the test where no guest can be run."""
    fleece.require_program("qemu-system-x86_64")
    fleece.require_program("busybox")
    guest.find_kernel()
    if fleece.SANITIZER != "no":
        tap.skip("the guest has no room for a sanitizer")
