#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl audit: a map of changes that tells the truth, and one that does not, because somebody has
written to the disk behind the server's back."""

import json
import random

from backup_rig import BackupRig
from fakenbd import ALLOCATION, Export, FakeServer
from fleece import fleecectl, run
from qmp_exports import closing
from rig import KIB, MIB, seed
from tap import main, test


def audit(rig, *args, code=0):
    """Run it: what --json has printed."""
    p = fleecectl("-C", rig.server.qmp_path, "--json", "audit", rig.repo, "vda", *args, check=False)
    assert p.returncode == code, p
    lines = [json.loads(line) for line in p.stdout.splitlines()]
    return next((line for line in lines if "missed" in line), None), p


def behind_the_back(rig, offset, data):
    with open(rig.image("vda"), "r+b") as f:
        f.seek(offset)
        f.write(data)


def sessions(rig):
    with rig.qmp() as q:
        return [s for s in q.cmd("query-backups") if s["state"] == "active"]


def checkpoints(rig):
    with rig.qmp() as q:
        return [c["name"] for c in q.cmd("query-checkpoints")]


@test
def a_map_that_tells_the_truth():
    rng = random.Random(seed())
    with BackupRig("vda", "vdb") as rig:
        for _ in range(3):
            rig.write(rng)
            rig.backup()
        before = checkpoints(rig)
        found, _ = audit(rig)
        assert found["differ"] == found["missed"] == found["dirty"] == 0, found
        assert found["backup"] == 2 and found["size"] == 8 * MIB and found["ranges"] == [], found
        rig.write(rng, disks=["vda"])
        found, _ = audit(rig)
        assert found["differ"] > 0 and found["missed"] == 0, found
        assert found["dirty"] >= found["differ"], found
        text = fleecectl("-C", rig.server.qmp_path, "audit", rig.repo, "vda").stdout
        assert "all that has changed is dirty" in text, text
        # Nothing is left of it, and the next backup is an incremental one.
        assert not sessions(rig) and checkpoints(rig) == before, checkpoints(rig)
        rig.backup()
        assert rig.levels() == {"vda": "inc", "vdb": "inc"}, rig.levels()
        rig.check()


@test
def what_was_written_behind_the_servers_back_is_told():
    with BackupRig("vda") as rig, closing(rig.server.nbd("vda")) as h:
        h.pwrite(b"a" * 4 * MIB, 0)
        rig.backup()
        h.pwrite(b"b" * 64 * KIB, 0)
        behind_the_back(rig, 32 * KIB, b"c" * 4 * KIB)       # dirty already
        behind_the_back(rig, MIB + 700, b"d")                # one byte
        behind_the_back(rig, 2 * MIB, bytes(128 * KIB))      # data become zeroes
        behind_the_back(rig, 6 * MIB, b"e" * 512)            # zeroes become data
        run("fallocate", "-p", "-o", str(3 * MIB), "-l", str(MIB), rig.image("vda"))  # a hole
        found, p = audit(rig, code=1)
        assert found["ranges"] == [{"offset": MIB + 512, "length": 512},
                                   {"offset": 2 * MIB, "length": 128 * KIB},
                                   {"offset": 3 * MIB, "length": MIB},
                                   {"offset": 6 * MIB, "length": 512}], found
        assert found["missed"] == 129 * KIB + MIB and found["dirty"] == 64 * KIB, found
        assert found["differ"] == (64 + 129) * KIB + MIB, found
        assert "1.1 MiB have changed since backup 0 and are not dirty" in p.stderr, p.stderr
        p = fleecectl("-C", rig.server.qmp_path, "audit", rig.repo, "vda", check=False)
        assert p.returncode == 1 and "1049088" in p.stdout.replace(",", ""), p
        assert "missed       1.1 MiB\n" in p.stdout, p.stdout
        assert p.stdout.endswith("(or the backup is damaged: fleecectl verify --deep)\n"), p.stdout
        assert not sessions(rig)


@test
def an_older_backup_is_compared_by_its_own_checkpoint():
    with BackupRig("vda") as rig, closing(rig.server.nbd("vda")) as h:
        rig.backup()
        h.pwrite(b"a" * 512, 0)
        rig.backup()
        found, _ = audit(rig, "--until", "0")
        assert found["backup"] == 0 and found["differ"] == 512 and found["missed"] == 0, found
        found, _ = audit(rig)
        assert found["backup"] == 1 and found["differ"] == 0, found
        with rig.qmp() as q:
            q.cmd("checkpoint-delete", name=rig.newest()["checkpoint"])
        _, p = audit(rig, code=1)
        assert "does not know what has changed since backup 1" in p.stderr, p.stderr
        assert not sessions(rig)


@test
def a_disk_that_has_grown():
    with BackupRig("vda") as rig, closing(rig.server.nbd("vda")) as h:
        h.pwrite(b"a" * MIB, 0)
        rig.backup()
        with rig.qmp() as q:
            q.cmd("block_resize", **{"node-name": "vda", "size": 10 * MIB})
        with closing(rig.server.nbd("vda")) as h2:
            h2.pwrite(b"b" * 512, 9 * MIB)
            found, _ = audit(rig)
            assert found["size"] == 10 * MIB and found["differ"] == 512, found


@test
def what_is_written_while_another_server_is_read_is_not_missed():
    bitmap = "qemu:dirty-bitmap:since"

    class Live(Export):
        """A guest writes before the first answer, behind the first look at the map."""

        def read(self, c, r):
            self.data[64 * KIB:64 * KIB + 512] = b"x" * 512
            self.contexts[bitmap] = [(64 * KIB, 0), (4 * KIB, 1), (self.size - 68 * KIB, 0)]
            super().read(c, r)

    with BackupRig("vda", size=MIB) as rig:
        with closing(rig.server.nbd("vda")) as h:
            h.pwrite(b"a" * MIB, 0)
        rig.backup()
        live = Live(size=MIB, data=bytearray(b"a" * MIB),
                    contexts={ALLOCATION: [(MIB, 0)], bitmap: [(MIB, 0)]})
        with FakeServer(live) as server:
            found, _ = audit(rig, "--uri", server.uri, "--bitmap", "since")
        assert found["differ"] == 512 and found["missed"] == 0, found


@test
def any_server_with_a_bitmap():
    with BackupRig("vda") as rig, closing(rig.server.nbd("vda")) as h:
        h.pwrite(b"a" * MIB, 0)
        with rig.qmp() as q:
            q.cmd("block-dirty-bitmap-add", node="vda", name="since")
        rig.backup()
        h.pwrite(b"b" * 512, 512)
        uri = rig.server.uri("vda")
        found, _ = audit(rig, "--uri", uri, "--bitmap", "since")
        assert found["differ"] == 512 and found["missed"] == 0 and found["dirty"] == 64 * KIB, found
        behind_the_back(rig, 512 * KIB, b"c")
        found, _ = audit(rig, "--uri", uri, "--context", "qemu:dirty-bitmap:since", code=1)
        assert found["ranges"] == [{"offset": 512 * KIB, "length": 512}], found


@test
def what_cannot_be():
    with BackupRig("vda") as rig:
        rig.backup()
        uri = rig.server.uri("vda")
        with FakeServer(Export(size=MIB, contexts={ALLOCATION: [(MIB, 0)]})) as other:
            _, p = audit(rig, "--uri", other.uri, "--context", ALLOCATION, code=1)
            assert f"has {MIB} bytes" in p.stderr and f"the disk has {8 * MIB}" in p.stderr, p.stderr
        for args, code, what in (
                (["--uri", "ssh://h/x", "--bitmap", "b"], 2, "not an NBD URI"),
                (["--uri", uri], 2, "--bitmap"),
                (["--bitmap", "b"], 2, "--uri"),
                (["--uri", uri, "--bitmap", "a", "--context", "b"], 2, "not both"),
                (["--uri", uri, "--bitmap", "none"], 1, "none"),
                (["--uri", uri, "--context", ALLOCATION, "--tls-certificates", "/nowhere"], 0, ""),
                (["--until", "5"], 1, "no member 5"),
                (["--uri", "nbd+unix:///x?socket=/nowhere", "--bitmap", "b"], 4, "")):
            _, p = audit(rig, *args, code=code)
            assert what in p.stderr, (args, p.stderr)
        p = fleecectl("-C", rig.server.qmp_path, "audit", rig.repo, "vdz", check=False)
        assert p.returncode == 1 and "vdz" in p.stderr, p
        p = fleecectl("-C", f"{rig.dir}/nowhere", "audit", rig.repo, "vda", check=False)
        assert p.returncode == 4, p


main()
