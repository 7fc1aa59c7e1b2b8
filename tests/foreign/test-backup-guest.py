# SPDX-License-Identifier: BSD-3-Clause
"""A Linux guest works on databases on two disks with ext4, while `fleecectl backup` makes a full backup
and incremental ones. Each point is restored, and

- it is byte by byte the disks of its instant;
- the file systems are sound as soon as their journals are replayed;
- the databases pass their own check, and hold each transaction in full or not at all: all that was
  committed before the instant, none that was begun after it, and the same ones on both disks."""

import contextlib
import os
import shutil
import sqlite3

from backup_rig import BackupRig
from chain import Chain
from databases import Ledger, Log
from fleece import fleecectl, require_program, run, tmpdir
from guest import Machine, check_ext4, programs_for_ext4
from powerguest import libraries
from rig import MIB
from tap import main, note, test

INCREMENTAL = 20 if "FLEECE_LONG" in os.environ else 4
SIZE = 16 * MIB
STEPS = 3  # transactions of each database, between two points

# Freed blocks are also trimmed on one of them.
DISKS = {"vda": "", "vdb": "-o discard"}


class Databases:
    """In folders of the test at first, then in the guest's mounted disks, whose paths are the same, and
    last in those folders again, as they were at some point."""

    def __init__(self, folder):
        self._folder = folder
        self.folders = {disk: f"{folder}/{disk}" for disk in DISKS}
        for path in self.folders.values():
            os.makedirs(f"{path}/db")
        vda, vdb = (f"{path}/db" for path in self.folders.values())
        self.all = [Ledger(vda, vdb), Log(vdb)]
        for database in self.all:
            database.make()

    def make_disk(self, path):
        """An ext4 image of its folder."""
        disk = os.path.basename(path).split(".")[0]
        run("mke2fs", "-q", "-t", "ext4", "-J", "size=4", "-d", self.folders[disk], path)

    def programs(self):
        """{path in the guest: path here} of what works on them."""
        found = {"bin/sqlite3": require_program("sqlite3")}
        found.update(libraries(found["bin/sqlite3"]))
        for database in self.all:
            script = found[f"bin/{database.name}"] = f"{self._folder}/{database.name}"
            with open(script, "w", encoding="ascii") as f:
                f.write(database.script())
        return found

    def extract(self, images):
        """Put the databases of the images {disk: path} into their folders. Returns how many journals
        there are."""
        files = 0
        for disk, path in images.items():
            shutil.rmtree(f"{self.folders[disk]}/db")
            run("debugfs", "-R", f"rdump /db {self.folders[disk]}", path)
            files += len(os.listdir(f"{self.folders[disk]}/db"))
        return files - 3


class Load:
    """The guest and its work."""

    def __init__(self, rig, databases):
        self._databases = databases
        self.done = {database.name: 0 for database in databases.all}
        self.guest = Machine(rig.dir, {disk: (rig.server.socket, disk) for disk in DISKS},
                             databases.programs(), options=["-machine", "q35"])

    def start(self):
        for disk, options in DISKS.items():
            path = self._databases.folders[disk]
            self.guest.run(f"mkdir -p {path} && mount -t ext4 {options} /dev/{disk} {path}")
        for database in self._databases.all:
            self.guest.run(f"({database.name} | sqlite3 -bail {database.path}; "
                           f"echo ended {database.name}) </dev/null >/dev/ttyS2 2>&1 &")

    def wait_steps(self, since):
        """Wait until each database has STEPS more transactions than {name: n}. Returns {name: the last
        one}."""
        goals = {name: n + STEPS for name, n in since.items()}
        while any(self.done[name] < goal for name, goal in goals.items()):
            mark = self.guest.mark()
            name, _, n = mark.partition(" ")
            assert name in goals and n.isdigit(), f"a database says: {mark}"
            self.done[name] = int(n)
        return dict(self.done)

    def look(self):
        """{name: the last transaction by now}. What was said of it may still be on its way."""
        return {database.name: int(self.guest.run(
            f"sqlite3 -cmd '.timeout 100000' {database.path} '{database.query()}'"))
            for database in self._databases.all}


def back_up(chain, load):
    """The chain, while the guest works: for each point, {name: (transaction that it must have, the last
    one that it may have)}."""
    bounds, most = [], load.done
    for _ in range(1 + INCREMENTAL):
        least = load.wait_steps(most)
        chain.add()
        most = load.look()
        bounds.append({name: (n, most[name]) for name, n in least.items()})
    load.wait_steps(most)  # it still works
    return bounds


def check_mixed(chain, databases):
    """Disks of two instants are found to be so: the databases' check is one of both disks."""
    first, last = ({disk: chain.restore(point, disk) for disk in DISKS} for point in chain.points[-2:])
    for path in first["vda"], last["vdb"]:
        check_ext4(path)
    databases.extract({"vda": first["vda"], "vdb": last["vdb"]})
    try:
        n = databases.all[0].last()
    except (AssertionError, sqlite3.DatabaseError) as error:
        note(f"disks of two instants: {error}")
    else:
        raise AssertionError(f"disks of two instants pass, with transaction {n}")


def check_point(chain, point, databases, bounds):
    """Restore a point, and check it all. Returns ({name: last transaction}, how many journals there
    were)."""
    images = {disk: chain.restore(point, disk) for disk in DISKS}
    for path in images.values():
        check_ext4(path)
    journals = databases.extract(images)
    last = {}
    for database in databases.all:
        least, most = bounds[database.name]
        n = last[database.name] = database.last()
        assert least <= n <= most, f"{database.name}: transaction {n}, {least} to {most} expected"
    for path in images.values():
        os.unlink(path)
    return last, journals


@test
def each_point_has_whole_file_systems_and_databases():
    programs_for_ext4()
    require_program("ldd")
    with contextlib.ExitStack() as stack:
        databases = Databases(stack.enter_context(tmpdir()))
        rig = stack.enter_context(BackupRig(*DISKS, size=SIZE, prepare=databases.make_disk))
        chain, load = Chain(rig), Load(rig, databases)
        stack.callback(load.guest.kill)
        load.start()
        bounds = back_up(chain, load)
        load.guest.kill()
        chain.check_levels()
        for disk in DISKS:
            assert chain.distinct(disk) == INCREMENTAL, disk
        points = []
        for point, bound in zip(chain.points, bounds, strict=True):
            points.append(check_point(chain, point, databases, bound))
            note(f"point {point['id']}: {points[-1][0]}, {points[-1][1]} journals; "
                 f"read {[d['read'] for d in point['disks']]} bytes")
        for (before, _), (after, _) in zip(points, points[1:]):
            assert all(before[name] < after[name] for name in before), (before, after)
        check_mixed(chain, databases)
        fleecectl("verify", rig.repo, "--deep")
        rig.check_server()
        note(f"{len(points)} points of 2 disks, transactions: {points[-1][0]}, "
             f"{chain.compared} bytes compared, 0 wrong")


main()
