#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""`fleecectl audit` of a disk whose changes another project's server records: what it has missed is
told, and nothing else."""

import json

from backup_rig import BackupRig
from fleece import fleecectl, run, tmpdir
from pulls import seeded
from others import Daemon, qemu_nbd, write_some, writer
from rig import KIB, MIB
from tap import main, test


def audit(rig, where, code=0):
    p = fleecectl("--json", "audit", rig.repo, "vda", "--uri", where, "--bitmap", "since", check=False)
    assert p.returncode == code, p
    return next(found for found in map(json.loads, p.stdout.splitlines()) if "missed" in found)


@test
def qemu_storage_daemon_that_has_taken_over():
    """A disk that we have backed up is then QEMU's, whose bitmap does not see who writes to the file."""
    rng = seeded()
    with BackupRig("vda", size=8 * MIB) as rig, tmpdir() as folder:
        rig.write(rng)
        rig.backup()
        rig.server.stop()
        with Daemon(folder) as d:
            d.qmp.cmd("blockdev-add", driver="raw", **{"node-name": "vda"},
                      file={"driver": "file", "filename": rig.image("vda"), "locking": "off"})
            d.qmp.cmd("block-dirty-bitmap-add", node="vda", name="since", granularity=64 * KIB)
            guest = writer(d.export("vda", "live", writable=True))
            where = d.export("vda", "audit", "since", writable=True)
            found = audit(rig, where)
            assert found["differ"] == found["missed"] == found["dirty"] == 0, found
            write_some(guest, rng, size=7 * MIB)
            found = audit(rig, where)
            assert found["dirty"] >= found["differ"] > 0 == found["missed"], found
            with open(rig.image("vda"), "r+b") as f:
                f.seek(7 * MIB + 512)
                was = f.read(512)
                f.seek(7 * MIB + 512)
                f.write(bytes(b ^ 1 for b in was))
            found = audit(rig, where, code=1)
            assert found["ranges"] == [{"offset": 7 * MIB + 512, "length": 512}], found


@test
def qemu_nbd_of_a_qcow2_image():
    """The last backup is where a virtual machine goes on: an image on it, with a bitmap."""
    rng = seeded()
    with BackupRig("vda", size=8 * MIB) as rig:
        rig.write(rng)
        rig.backup()
        top = f"{rig.dir}/top.qcow2"
        run("qemu-img", "create", "-f", "qcow2", "-F", "raw", "-b", rig.image("vda"), top)
        run("qemu-io", "-f", "qcow2", "-c", "write -P 1 5M 512", top)   # not recorded
        run("qemu-img", "bitmap", "--add", "-g", "64k", top, "since")
        run("qemu-io", "-f", "qcow2", "-c", "write -P 2 1M 70000", "-c", "write -z 2M 1M", top)
        with qemu_nbd(rig.dir, "-f", "qcow2", "-B", "since", top, export="vda") as where:
            found = audit(rig, where, code=1)
        assert found["ranges"] == [{"offset": 5 * MIB, "length": 512}], found


main()
