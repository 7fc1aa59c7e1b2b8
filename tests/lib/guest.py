# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest under qemu-system-x86_64, without KVM. It has the kernel of a distribution, busybox
in an initramfs that is made here, and virtio disks that are NBD exports.

Two serial lines join the test and the guest. On one the test runs shell commands, one by one. On
the other, programs in the background of the guest tell how far they are. Nothing waits by
sleeping."""

import collections
import glob
import lzma
import os
import shutil
import socket
import subprocess
import threading

import fleece
import tap

# What the guest needs, where the kernel has it as a module.
MODULES = ["crc16", "mbcache", "crc32c_generic", "jbd2", "ext4", "virtio", "virtio_ring",
           "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_blk"]

# The loop tries all modules again as long as it could load one more, so it needs no list of their
# dependencies.
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
more=yes
while [ $more = yes ]; do
    more=no
    for module in /modules/*.ko; do
        [ -f "$module" ] && insmod "$module" 2>/dev/null && rm "$module" && more=yes
    done
done
stty -F /dev/ttyS1 raw -echo
stty -F /dev/ttyS2 raw -echo
exec </dev/ttyS1 >/dev/ttyS1 2>&1
echo @@ 0
while read -r line; do
    eval "$line"
    printf '\\n@@ %d\\n' $?
done
"""


def kernel_folder():
    """Where a kernel package was unpacked: $FLEECE_GUEST_KERNEL, or the folder of quickstart.sh."""
    return os.environ.get("FLEECE_GUEST_KERNEL") or os.path.join(fleece.SOURCE, "build", "kernel")


def find_kernel():
    kernels = sorted(glob.glob(os.path.join(kernel_folder(), "boot", "vmlinuz-*")))
    if not kernels:
        tap.skip(f"there is no kernel for a guest in {kernel_folder()}")
    return kernels[-1]


def read_module(path):
    if path.endswith(".xz"):
        with lzma.open(path) as f:
            return f.read()
    if path.endswith(".zst"):
        return subprocess.run([fleece.require_program("zstd"), "-dcq", path], check=True,
                              stdout=subprocess.PIPE).stdout
    with open(path, "rb") as f:
        return f.read()


def find_modules(wanted):
    """{file name: content} of those modules that the kernel package has."""
    found = {}
    for folder, _, names in os.walk(os.path.join(kernel_folder(), "lib", "modules")):
        for name in names:
            stem = name.split(".")[0].replace("-", "_")
            if ".ko" in name and stem in wanted:
                found[f"{stem}.ko"] = read_module(os.path.join(folder, name))
    return found


def cpio_entry(name, mode, data, inode):
    """One entry of a `newc` archive."""
    name = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % f for f in fields) + name
    head += b"\0" * (-len(head) % 4)
    return head + data + b"\0" * (-len(data) % 4)


def initramfs(programs, modules):
    """An initramfs with busybox, and with the files {path in it: path here} as well."""
    busybox = fleece.require_program("busybox")
    with open(busybox, "rb") as f:
        program = f.read()
    if b"/ld-linux" in program[:8192] or b"/ld-musl" in program[:8192]:
        tap.skip(f"{busybox} is not statically linked (busybox-static)")
    folders = ["bin", "dev", "mnt", "modules", "proc", "sys", "tmp"]
    files = {"bin/busybox": program, "init": INIT.encode()}
    files.update((f"modules/{name}", data)
                 for name, data in find_modules(MODULES + list(modules)).items())
    for name, path in programs.items():
        above = name.split("/")[:-1]
        folders += ["/".join(above[:n + 1]) for n in range(len(above))]
        with open(path, "rb") as f:
            files[name] = f.read()
    folders = list(dict.fromkeys(folders))
    entries = [(name, 0o040755, b"") for name in folders]
    entries += [(name, 0o100755, data) for name, data in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(cpio_entry(*entry, i + 1) for i, entry in enumerate(entries))


class Line(threading.Thread):
    """The test's end of a serial line. It collects the lines that the guest writes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.ours, self.theirs = socket.socketpair()
        self._lines = collections.deque()
        self._changed = threading.Condition()
        self._ended = False

    def run(self):
        with self.ours.makefile("r", errors="replace", newline="\n") as stream:
            for line in stream:
                with self._changed:
                    self._lines.append(line.strip())
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def write(self, text):
        self.ours.sendall(text.encode())

    def next(self):
        """The next line; EOFError when the guest has ended. A boot takes its time."""
        with self._changed:
            ok = self._changed.wait_for(lambda: self._lines or self._ended, 4 * fleece.SOON)
            assert ok, "the guest says nothing"
            if not self._lines:
                raise EOFError("the guest has ended")
            return self._lines.popleft()

    def taken(self):
        """All lines that have come and were not taken; does not wait."""
        with self._changed:
            lines = list(self._lines)
            self._lines.clear()
            return lines


class Machine:
    """A running guest. `folder` is for its files. `disks` is {serial number in the guest: (Unix
    socket, export)}, in the order of /dev/vda, /dev/vdb...

    programs   {path in the guest: path here} of files that it has in its initramfs
    modules    further modules of the kernel
    options    further options of qemu-system-x86_64
    accels     accelerators; the first one that works is taken"""

    def __init__(self, folder, disks, programs=None, modules=(), options=(), accels=("tcg",)):
        self.may_end = False  # by itself, or because the test kills it
        self._console = os.path.join(folder, "console")
        self._commands, self._marks = Line(), Line()
        qemu = fleece.require_program("qemu-system-x86_64")
        kernel = find_kernel()
        initrd = os.path.join(folder, "initramfs")
        with open(initrd, "wb") as f:
            f.write(initramfs(programs or {}, modules))
        command = [qemu, "-m", "256M", "-nodefaults", "-no-user-config",
                   "-no-reboot", "-display", "none", "-kernel", kernel, "-initrd", initrd,
                   # The kernel counts the ticks of 40 ms to see whether its timer works. On a busy
                   # machine QEMU is late with them, and the kernel may give up.
                   "-append", "console=ttyS0 panic=-1 quiet no_timer_check",
                   "-chardev", f"file,id=console,path={self._console}", "-serial",
                   "chardev:console"]
        for name, line in ("commands", self._commands), ("marks", self._marks):
            command += ["-chardev", f"socket,id={name},fd={line.theirs.fileno()}",
                        "-serial", f"chardev:{name}"]
        for name, (path, export) in disks.items():
            command += ["-drive", f"if=none,id={name},format=raw,discard=unmap,file.driver=nbd,"
                        f"file.server.type=unix,file.server.path={path},file.export={export}",
                        "-device", f"virtio-blk-pci,drive={name},serial={name}"]
        for accel in accels:
            command += ["-accel", accel]
        command += options
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, preexec_fn=fleece.die_with_parent,
            pass_fds=[self._commands.theirs.fileno(), self._marks.theirs.fileno()])
        for line in self._commands, self._marks:
            line.theirs.close()
            line.start()
        try:
            self._answer("the boot")
        except BaseException:
            self.kill()
            raise

    def _answer(self, command):
        output = []
        try:
            while True:
                line = self._commands.next()
                if line.startswith("@@ "):
                    return int(line[3:]), "\n".join(output).rstrip("\n")
                output.append(line)
        except (AssertionError, EOFError):
            if not self.may_end:
                tap.note(f"{command}:\n" + "\n".join(output) + "\n" + self.console())
            raise

    def run(self, command, check=True):
        """Run one line of shell in the guest, and return its output. check: the exit code must be
        0."""
        assert "\n" not in command
        self._commands.write(command + "\n")
        code, output = self._answer(command)
        assert code == 0 or not check, f"guest: {command}: exit code {code}\n{output}"
        return output

    def mark(self):
        """The next line that the guest's background wrote to /dev/ttyS2."""
        return self._marks.next()

    def marks(self):
        """All such lines that have come and were not taken; does not wait."""
        return self._marks.taken()

    def console(self):
        with open(self._console, errors="replace") as f:
            return f.read()

    def power_off(self):
        self._commands.write("poweroff -f\n")
        code = self._process.wait(fleece.SOON)
        assert code == 0, f"qemu-system-x86_64 exited with {code}\n{self.console()}"

    def kill(self):
        """End the guest at once, like a power failure. Does nothing if it has ended before."""
        self._process.kill()
        self._process.wait()


def programs_for_ext4():
    """The path of mke2fs. Adds the folder of mke2fs, e2fsck and debugfs to $PATH, where not every
    user has it, and skips the test if one of them is not installed."""
    os.environ["PATH"] += os.pathsep + "/usr/sbin" + os.pathsep + "/sbin"
    for program in "mke2fs", "e2fsck", "debugfs":
        fleece.require_program(program)
    return shutil.which("mke2fs")


def check_ext4(path):
    """Check an ext4 image that was taken while a guest wrote to it: its journal can be replayed, what
    was deleted while it was open can be let go, and after that nothing is wrong with it. Returns what
    was done."""
    done = ""
    for words in ["-y", "-E", "journal_only"], ["-p"]:
        result = run_e2fsck(path, *words)
        assert result.returncode in (0, 1), result
        done += result.stdout
    # It had nothing else to mend: `e2fsck -p` looks no further where it finds the flag of a clean one.
    assert ": clean, " in done, done
    result = run_e2fsck(path, "-f", "-n")
    assert result.returncode == 0, result
    return done


def run_e2fsck(path, *words):
    return fleece.run("e2fsck", *words, path, check=False)
