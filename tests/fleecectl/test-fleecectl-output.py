#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""Standard output that cannot be written. A command that has changed something by then must not end like
one that has changed nothing: a script would do it again, or think that there is no backup."""

import os

from backup_rig import BackupRig
from fleece import FLEECECTL, fleecectl, run
from rig import MIB
from tap import main, test

FULL = "cannot write to standard output: No space left on device\n"


def full(*args):
    """Run it with /dev/full for standard output: its exit code. It says why, and whether it is done."""
    p = run("sh", "-c", 'exec "$@" >/dev/full', "sh", FLEECECTL, *args, check=False)
    assert p.stderr.startswith("fleecectl: ") and p.stderr.endswith(FULL), p
    assert (p.returncode == 3) == ("it is done" in p.stderr), p
    return p.returncode


@test
def backups_are_there_all_the_same():
    with BackupRig("vda", size=MIB) as rig:
        control = "-C", rig.server.qmp_path
        for count in 1, 2:
            assert full(*control, "backup", "-o", rig.repo) == 3
            assert len(rig.members()) == count
        rig.check_server()
        assert full("restore", rig.repo, "-o", f"{rig.dir}/out") == 3
        assert os.path.getsize(f"{rig.dir}/out/vda.raw") == MIB
        assert full(*control, "pull", "vda", "-o", f"{rig.dir}/pulled") == 3
        assert os.path.getsize(f"{rig.dir}/pulled") == MIB
        assert full(*control, "session", "begin", "b") == 3
        assert "active" in fleecectl(*control, "session", "list").stdout
        fleecectl(*control, "session", "abort", "b")


@test
def what_only_tells_has_failed():
    with BackupRig("vda", size=MIB) as rig:
        rig.backup()
        for args in (("list", rig.repo), ("verify", rig.repo), ("verify", rig.repo, "--deep"),
                     ("diff", rig.repo, "0", "0"), ("report", rig.repo, "--html", "-")):
            assert full(*args) == 1, args
            assert full("--json", *args) == 1 or args[0] == "report", args
        for args in (("disks",), ("map", "vda"), ("audit", rig.repo, "vda")):
            assert full("-C", rig.server.qmp_path, *args) == 1, args


@test
def a_prune_that_nobody_can_read_removes_nothing():
    with BackupRig("vda", size=MIB) as rig:
        for _ in range(2):
            rig.backup()
        assert full("prune", rig.repo, "--keep-last", "1", "--dry-run") == 1
        assert full("--json", "prune", rig.repo, "--keep-last", "1", "--dry-run") == 1
        assert full("prune", rig.repo, "--keep-last", "1") == 1
        assert len(rig.members()) == 2
        # JSON is told when it is done.
        assert full("--json", "prune", rig.repo, "--keep-last", "1") == 3
        assert len(rig.members()) == 1


main()
