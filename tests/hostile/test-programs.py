# SPDX-License-Identifier: BSD-3-Clause
"""Hostile clients, lines 27, 29 and 30 of README.md: servers behind servers, images, addresses; and
the privileges that -u and -g leave."""

import contextlib
import os
import pwd
import signal
import struct
import subprocess
import time

from fleece import (Server, fleecectl, has_ended, process_status, require_plugin, sanitizer_env,
                    sanitizer_reports, tmpdir, wait_file)
from harness import *
from tap import main, skip, test


@test
def line_27_a_server_behind_another():
    """The disk `back` of a second server is vda of the first."""
    require_plugin("nbd")
    with Ground() as g:
        with Ground("--disk", "back", "nbd", f"socket={g.server.socket}", "export=vda") as outer:
            def attack():
                with outer.user("back") as c:
                    for _ in range(20):
                        c.write(0, os.urandom(65536))
                        c.read(0, 65536)
            # The neighbour of each server writes to the end of that server's own vda.
            with g.neighbours():
                outer.endure(attack, rounds=3, growth=8 * MIB)


def first_client(process, sock):
    """The server listens soon after the socket is there. None: it has ended before."""
    while not has_ended(process, 0.02):
        with contextlib.suppress(ConnectionRefusedError):
            return Client(sock, flags=None)
    return None


@test
def line_27_a_server_that_is_its_own_disk():
    """It never starts, because it serves nobody before its disks are open. Signals end it."""
    require_plugin("nbd")
    with tmpdir() as d:
        sock = os.path.join(d, "sock")
        s = Server("--disk", "vda", "memory", "1M", "--disk", "self", "nbd", f"socket={sock}",
                   "export=vda", dir=d)
        process = subprocess.Popen(s.command()[:1] + ["-f", "-U", sock] + s.args,
                                   stderr=subprocess.PIPE, text=True, env=sanitizer_env(d),
                                   preexec_fn=fleece.die_with_parent)
        try:
            client = first_client(process, sock) if wait_file(process, sock) else None
            # A second signal ends it, if the first is a second old.
            until = time.monotonic() + END_WITHIN
            while not has_ended(process, 0.02):
                assert time.monotonic() < until, "it does not end"
                process.send_signal(signal.SIGTERM)
            assert process.returncode in (0, 1, -signal.SIGTERM), process.returncode
            if client:
                client.close()
        finally:
            process.kill()
            process.communicate()
        assert sanitizer_reports(d) == ""


def qcow2(size, backing=b"", **fields):
    """The header of a qcow2 image, with fields that mean harm."""
    f = {"l1_size": 1, "l1": 0x10000, "cluster_bits": 16, **fields}
    return struct.pack(">4sIQIIQIIQQIIQ", b"QFI\xfb", 2, 104 if backing else 0, len(backing),
                       f["cluster_bits"], size, 0, f["l1_size"], f["l1"], 0x20000, 1, 0,
                       0).ljust(104, b"\0") + backing


@test
def line_29_malicious_qcow2():
    """Nothing here reads qcow2: an image is served as the bytes that it is, and no other file is
    opened because of them."""
    images = (qcow2(1 << 40, b"/etc/passwd"), qcow2(1 << 20, b"json:{\"driver\":\"nbd\"}"),
              qcow2(1 << 63, l1_size=0xFFFFFFFF), qcow2(1 << 20, l1=0x10000, l1_size=1 << 30),
              qcow2(1 << 20, cluster_bits=63))
    with tmpdir() as d:
        disks = []
        for i, header in enumerate(images):
            with open(f"{d}/{i}", "wb") as f:
                f.write(header.ljust(MIB, b"\0"))
            disks += ["--disk", f"q{i}", "file", f"{d}/{i}"]
        with Ground(*disks) as g:
            assert not any("passwd" in f for f in Stock(g.server.pid).files)

            def attack():
                for i, header in enumerate(images):
                    with g.user(f"q{i}") as c:
                        assert c.size == MIB
                        assert c.read(0, len(header)) == header
            g.endure(attack)


@test
def line_30_a_host_that_is_an_option():
    with Ground() as g:
        with tmpdir() as d:
            touched = os.path.join(d, "touched")

            def attack():
                for uri in (f"nbd+ssh://-oProxyCommand=touch%20{touched}/vda",
                            f"nbd+ssh://-oProxyCommand=touch%20{touched}/vda?socket=/x",
                            f"nbd://-oProxyCommand=touch%20{touched}/vda", "nbd://-o/", "nbd://--help/"):
                    result = fleecectl("-C", g.server.qmp_path, "map", uri, check=False)
                    assert result.returncode in (1, 2, 4), result
                    assert not os.path.exists(touched), f"{uri} started a program"
            g.endure(attack, rounds=1)


@test
def privileges_are_gone():
    """With -u and -g every thread loses root's ids, groups and capabilities, also the saved ids, so
    that there is no way back."""
    if os.geteuid() != 0:
        skip("only root can become another user")
    nobody = pwd.getpwnam("nobody")
    with tmpdir() as d:
        os.chmod(d, 0o777)
        with Ground("-u", "nobody", "-g", str(nobody.pw_gid),
                    server={"dir": d, "control": False}) as g:
            with g.user() as c:
                c.in_step()
                for task in os.listdir(f"/proc/{g.server.pid}/task"):
                    fields = process_status(f"{g.server.pid}/task/{task}")
                    assert fields["Uid"].split() == [str(nobody.pw_uid)] * 4
                    assert fields["Gid"].split() == [str(nobody.pw_gid)] * 4
                    assert fields["Groups"].split() == [str(nobody.pw_gid)]
                    for set in "CapInh", "CapPrm", "CapEff", "CapAmb":
                        assert int(fields[set], 16) == 0, (set, fields[set])


main()
