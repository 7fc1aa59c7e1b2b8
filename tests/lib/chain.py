# SPDX-License-Identifier: BSD-3-Clause
"""A chain of backups, 1 full and N incremental ones, of a BackupRig's disks. Each of its points can be
restored and compared with the view of its instant.

    chain = Chain(rig)
    for _ in range(21):
        chain.add()
    chain.check_levels()
    for point in chain.points:
        for disk in rig.disks:
            path = chain.restore(point, disk)
"""

import os

from fleece import fleecectl, run
from rig import MIB, assert_same


class Chain:
    """points: the members of the manifest, in order. compared: bytes, by all restores."""

    def __init__(self, rig):
        self._rig = rig
        self.points, self.compared = [], 0

    def add(self):
        """Back up once, and keep the truth in files: a long chain's would fill the memory."""
        self._rig.backup()
        point = self._rig.newest()
        for disk, data in self._rig.truth.pop(point["session"]).items():
            with open(self._truth(point, disk), "wb") as f:
                for at in range(0, len(data), MIB):
                    f.seek(at)
                    f.write(data[at:at + MIB].rstrip(b"\0"))
                f.truncate(len(data))
        self.points.append(point)
        return point

    def _truth(self, point, disk):
        return f"{self._rig.dir}/truth-{point['id']}-{disk}"

    def check_levels(self):
        """The first is full, and each other one stands on the one before it. The repository says so
        now, too."""
        for number, (point, now) in enumerate(zip(self.points, self._rig.members(), strict=True)):
            assert point["id"] == now["id"] == number, (number, point, now)
            for d in now["disks"]:
                expected = ("inc", number - 1) if number else ("full", None)
                assert (d["level"], d.get("parent")) == expected, (number, d)

    def restore(self, point, disk):
        """Restore one disk of a point, and compare it byte by byte: the path of the raw image, which is
        the caller's to remove."""
        rig = self._rig
        path = f"{rig.dir}/restored-{point['id']}-{disk}.raw"
        run("qemu-img", "check", "-q", f"{rig.repo}/{rig.disk(disk, point)['file']}")
        fleecectl("restore", rig.repo, "--until", str(point["id"]), "--disk", disk, "-o", path)
        with open(path, "rb") as restored, open(self._truth(point, disk), "rb") as truth:
            assert os.fstat(restored.fileno()).st_size == rig.disks[disk], (point["id"], disk)
            for at in range(0, rig.disks[disk], MIB):
                piece = truth.read(MIB)
                assert_same(restored.read(MIB), piece,
                            f"{disk} of point {point['id']}, from {at}")
                self.compared += len(piece)
        return path

    def distinct(self, disk):
        """How many points differ from the one before them."""
        def differ(one, other):
            with open(one, "rb") as a, open(other, "rb") as b:
                return a.read() != b.read()
        return sum(differ(self._truth(one, disk), self._truth(other, disk))
                   for one, other in zip(self.points, self.points[1:]))
