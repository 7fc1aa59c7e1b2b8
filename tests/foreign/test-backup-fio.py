# SPDX-License-Identifier: BSD-3-Clause
"""fio writes to two disks all the time, while `fleecectl backup` makes a full backup and incremental
ones. Each point is restored, and is byte by byte the disks of its instant."""

import contextlib
import json
import os
import random
import subprocess
import threading

from backup_rig import BackupRig
from chain import Chain
from fleece import SOON, die_with_parent, fleecectl, require_program, run
from rig import KIB, MIB, image, seed
from tap import main, note, skip, test

INCREMENTAL = 20 if "FLEECE_LONG" in os.environ else 6
SIZE = 32 * MIB + 512
WRITES = 40  # of each disk, between two points

# Where fio works. In `hot` many writes and backups meet; `wide` has so few that most of its granules have
# one write, or none, between two points: a bit that is missing is not set by another write.
JOBS = {"hot": ["--rw=randwrite", "--bsrange=512-32k", "--blockalign=512", f"--size={MIB}",
                "--iodepth=4", "--rate_iops=400", "--fsync=16", "--refill_buffers"],
        "wide": ["--rw=randwrite", "--bsrange=512-32k", "--blockalign=512", f"--offset={2 * MIB}",
                 f"--size={24 * MIB}", "--rate_iops=60", "--refill_buffers"],
        "trim": ["--rw=randtrim", "--bs=4k", f"--offset={28 * MIB}", f"--size={2 * MIB}",
                 "--rate_iops=40"]}
REACH = 27 * MIB + 192 * KIB  # bytes that an incremental backup may have, with granules at the edges


class Fio(threading.Thread):
    """A fio that writes to a disk until its `with` ends. It tells of its progress by itself, in a JSON
    object after each quarter of a second. `done`: its writes and trims so far."""

    def __init__(self, uri, rng, folder):
        super().__init__(daemon=True)
        os.mkdir(folder)  # fio leaves state files in its current folder
        jobs = [word for name, options in JOBS.items() for word in (f"--name={name}", *options)]
        self._process = subprocess.Popen(
            ["fio", "--ioengine=nbd", f"--uri={uri}", f"--randseed={rng.getrandbits(31)}",
             "--randrepeat=0", "--time_based", "--runtime=1d", "--thread", "--output-format=json",
             "--status-interval=250ms", *jobs],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, preexec_fn=die_with_parent)
        self._changed = threading.Condition()
        self._ended, self.done, self._errors = False, 0, set()

    def run(self):
        text = ""
        for line in self._process.stdout:
            if line == "{\n":
                text = ""
            text += line
            if line == "}\n":
                self._told(json.loads(text)["jobs"])
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _told(self, jobs):
        with self._changed:
            self._errors |= {job["error"] for job in jobs} - {0}
            self.done = sum(job[kind]["total_ios"] for job in jobs for kind in ("write", "trim"))
            self._changed.notify_all()

    def wait_done(self, goal):
        """Wait until there are so many writes and trims."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended or self.done >= goal, 2 * SOON), \
                f"fio is stuck after {self.done}"
            assert not self._ended, f"fio has ended: {self._errors} {self._process.stderr.read()}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, kind, value, trace):
        self._process.terminate()
        self.join(SOON)
        error = self._process.communicate(timeout=SOON)[1]
        if kind is None:
            assert not self._errors, f"{self._errors} {error}"


def have_fio():
    require_program("fio")
    if "nbd" not in run("fio", "--enghelp").stdout.split():
        skip("this fio was built without its nbd engine")


def served(rig, disk):
    """How many writes and trims of a disk the server has done. What fio has said may be older."""
    with rig.qmp() as q:
        stats = next(s["stats"] for s in q.cmd("query-blockstats") if s["device"] == disk)
    return stats["wr_operations"] + stats["unmap_operations"]


@test
def each_point_is_the_disks_of_its_instant():
    have_fio()
    rng = random.Random(seed())
    old = [(at, MIB // 2) for at in range(0, SIZE - 512, MIB)]
    with BackupRig("vda", "vdb", size=SIZE, prepare=lambda path: image(path, SIZE, old, rng)) as rig:
        chain = Chain(rig)
        with contextlib.ExitStack() as stack:
            fios = {disk: stack.enter_context(Fio(rig.server.uri(disk), rng, f"{rig.dir}/fio-{disk}"))
                    for disk in rig.disks}
            for _ in range(1 + INCREMENTAL):
                for disk, fio in fios.items():
                    fio.wait_done(served(rig, disk) + WRITES)
                chain.add()
            for disk, fio in fios.items():
                fio.wait_done(served(rig, disk) + 1)  # it has not stopped
        chain.check_levels()
        for disk in rig.disks:
            assert chain.distinct(disk) == INCREMENTAL, disk
            read = [rig.disk(disk, point)["read"] for point in chain.points]
            assert all(0 < n <= REACH for n in read[1:]), read
            note(f"{disk}: bytes read: {read}")
            for point in chain.points:
                os.unlink(chain.restore(point, disk))
        rig.check_files()
        rig.check_server()
        fleecectl("verify", rig.repo, "--deep")
        done = sum(fio.done for fio in fios.values())
        note(f"{len(chain.points)} points of 2 disks, {done} writes and trims, {chain.compared} "
             f"bytes compared, 0 wrong")


main()
