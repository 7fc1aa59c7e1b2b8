# SPDX-License-Identifier: BSD-3-Clause
"""Backup repositories that no fleecectl has made: qemu-img and this file make them, by what
nbdfleece-repository(5) says.

    repo = Repository(path)
    repo.add({"vda": Disk(4 * M, [(0, K, 0x11)])})                  # member 0, full
    repo.add({"vda": Disk(4 * M, [(M, K, 0x22)], level="inc")})     # member 1, over member 0
    repo.content(1, "vda")                                          # bytes, as qemu-img reads them
"""

import datetime
import hashlib
import json
import os
import uuid

from fleece import run

SEAL = '  "sha256": "'
PIECE = 64 << 10  # bytes of a piece of a file of checksums
FIRST = datetime.datetime(2026, 11, 1, 3, tzinfo=datetime.timezone.utc)


class Disk:
    """What a member has of a disk: writes of (offset, length, byte)."""

    def __init__(self, size, writes=(), level="full", parent=None, compress=False):
        self.size = size
        self.writes = writes
        self.level = level
        self.parent = parent  # a member's ID; None: the newest that has the disk
        self.compress = compress


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def read(path):
    with open(path, "rb") as f:
        return f.read()


def write(path, data):
    with open(path, "wb") as f:
        f.write(data)


def sums_of(data):
    """The text of a file's file of checksums."""
    return "".join(f"{at} {len(data[at:at + PIECE])} {sha256(data[at:at + PIECE])}\n"
                   for at in range(0, len(data), PIECE)).encode()


def sealed(manifest):
    """The text of a manifest, a dict, with its hash at the end."""
    body = {key: value for key, value in manifest.items() if key != "sha256"}
    text = json.dumps(body, indent=2)[:-2] + ",\n"
    return f'{text}{SEAL}{sha256(text.encode())}"\n}}\n'


def time_text(when):
    return when.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Repository:
    def __init__(self, path):
        self.path = path
        os.makedirs(path, exist_ok=True)
        self.manifest = {"format": "nbdfleece-repository", "version": 1, "uuid": str(uuid.uuid4()),
                         "created": time_text(FIRST), "next-id": 0, "members": []}
        self.save()

    def save(self):
        """Write the manifest as self.manifest is, whatever is wrong with it."""
        write(self.join("manifest.json"), sealed(self.manifest).encode())

    def load(self):
        self.manifest = json.loads(read(self.join("manifest.json")))

    def join(self, *names):
        return os.path.join(self.path, *names)

    def members(self):
        return self.manifest["members"]

    def member(self, number):
        return next(m for m in self.members() if m["id"] == number)

    def entry(self, number, disk):
        """The manifest's entry of a disk of a member."""
        return next(d for d in self.member(number)["disks"] if d["disk"] == disk)

    def file(self, number, disk):
        """The path of a disk's file."""
        return self.join(self.entry(number, disk)["file"])

    def content(self, number, disk):
        """The disk at that member, as qemu-img reads it."""
        raw = self.join(".content.raw")
        run("qemu-img", "convert", "-f", "qcow2", "-O", "raw", self.file(number, disk), raw)
        try:
            return read(raw)
        finally:
            os.unlink(raw)

    def newest(self, disk):
        """The ID of the newest member that has the disk; None."""
        return max((m["id"] for m in self.members() if any(d["disk"] == disk for d in m["disks"])),
                   default=None)

    def add(self, disks, when=None, checkpoint=True):
        """Add a member of {name: Disk}, a day after the one before, or at `when`. Its ID."""
        number = self.manifest["next-id"]
        entries = [self._make(number, name, disk) for name, disk in sorted(disks.items())]
        levels = {d.level for d in disks.values()}
        level = "full" if levels == {"full"} else "diff" if "diff" in levels else "inc"
        when = when or FIRST + datetime.timedelta(days=number)
        self.members().append({
            "id": number, "uuid": str(uuid.uuid4()), "time": time_text(when), "level": level,
            "checkpoint": f"backup-{number:05}" if checkpoint else None, "session": None,
            "disks": entries})
        self.manifest["next-id"] = number + 1
        self.save()
        return number

    def _make(self, number, name, disk):
        file = f"{name}/{number:05}-{disk.level}.qcow2"
        os.makedirs(self.join(name), exist_ok=True)
        parent = None
        options = []
        if disk.level != "full":
            parent = self.newest(name) if disk.parent is None else disk.parent
            below = os.path.basename(self.entry(parent, name)["file"])
            options = ["-b", below, "-F", "qcow2"]
        path = self.join(file)
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, path, str(disk.size))
        compress = "-c " if disk.compress else ""
        commands = [word for at, length, byte in disk.writes
                    for word in ("-c", f"write {compress}-P {byte} {at} {length}")]
        if commands:
            run("qemu-io", "-f", "qcow2", *commands, path)
        data = read(path)
        write(path + ".sums", sums_of(data))
        return {"disk": name, "file": file, "level": disk.level, "parent": parent,
                "since": None if parent is None else f"backup-{parent:05}", "reason": None,
                "size": disk.size, "bytes": len(data),
                "read": sum(length for _, length, _ in disk.writes),
                "sums": sha256(read(path + ".sums"))}

    def reseal(self, number, disk):
        """Let the manifest fit a disk's file as it is now: its bytes and its checksums."""
        entry = self.entry(number, disk)
        data = read(self.file(number, disk))
        write(self.file(number, disk) + ".sums", sums_of(data))
        entry["bytes"] = len(data)
        entry["sums"] = sha256(read(self.file(number, disk) + ".sums"))
        self.save()
