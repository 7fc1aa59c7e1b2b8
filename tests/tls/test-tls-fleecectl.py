#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""fleecectl and a server that does not take its certificates, or the other way round: it says so at once,
however long a server that is not there would be waited for, and says where certificates are named."""

import os

from backup_rig import BackupRig
from fleece import fleecectl, tmpdir
from rig import MIB
from tap import main, test
from tlslib import certs

OPTION = " --tls-certificates DIR names the folder with this client's.\n"
IN_URI = " tls-certificates=DIR in the URI (nbds://...?tls-certificates=DIR) names the folder with this " \
         "client's.\n"
LONG = "--retry", "3600"  # longer than run() waits


def rig():
    return BackupRig("vda", size=MIB, options=["--tls=require", "--tls-verify-peer",
                                               f"--tls-certificates={certs()}"])


def refused(*args, hint):
    p = fleecectl(*args, check=False)
    assert p.returncode == 4 and p.stderr.endswith(hint), p
    assert "do not take each other's certificates" in p.stderr, p


@test
def a_client_without_certificates():
    with rig() as r, tmpdir() as empty:
        control = "-C", r.server.qmp_path
        for options in (), ("--tls-certificates", "/nowhere"), ("--tls-certificates", empty):
            refused(*control, "backup", "-o", r.repo, *LONG, *options, hint=OPTION)
        assert not os.path.exists(f"{r.repo}/manifest.json") or r.members() == []
        fleecectl(*control, "backup", "-o", r.repo, "--tls-certificates", certs())
        refused(*control, "audit", r.repo, "vda", hint=OPTION)
        fleecectl(*control, "audit", r.repo, "vda", "--tls-certificates", certs())
        where = f"nbds+unix:///vda?socket={r.server.socket}"
        refused("pull", where, "-o", f"{r.dir}/vda", *LONG, hint=IN_URI)
        refused(*control, "pull", "vda", "-o", f"{r.dir}/vda", hint=IN_URI)
        refused("map", where, hint=IN_URI)
        refused("restore", r.repo, "--disk", "vda", "-o", where, hint=IN_URI)
        assert not os.path.exists(f"{r.dir}/vda")
        fleecectl("map", f"{where}&tls-certificates={certs()}")


@test
def a_server_of_another_ca():
    with rig() as r, tmpdir() as d:
        fleecectl("tls", "init", f"{d}/other")
        refused("map", f"nbds+unix:///vda?socket={r.server.socket}&tls-certificates={d}/other",
                hint=IN_URI)
        refused("-C", r.server.qmp_path, "backup", "-o", r.repo, *LONG, "--tls-certificates",
                f"{d}/other", hint=OPTION)


main()
