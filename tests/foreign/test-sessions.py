# SPDX-License-Identifier: BSD-3-Clause
"""Backup sessions and clients that know nothing of us: a script with libnbd, nbdinfo, nbdcopy and
qemu-img read what changed since a checkpoint over a Unix socket, and over TCP and TLS from another
host. The URIs that backup-begin answers are all that they are told."""

import contextlib
import json
import os
import sys

from fleece import FLEECECTL, SOURCE, Server, require_program, run, tmpdir
from rig import KIB, MIB, assert_same, content, dirty_context, granules, image, seed
from tap import main, test
from tlslib import folder, psk
from two_hosts import two_hosts

import random

SIZE = 24 * MIB + 512
OLD = [(0, 3 * MIB), (5 * MIB + 100 * KIB, MIB), (SIZE - 70 * KIB, 70 * KIB)]
# What the guest does between the checkpoint and the second session: (offset, length, kind).
CHANGES = [(64 * KIB, 100, "write"), (MIB, 512 * KIB, "trim"), (10 * MIB, 300 * KIB, "write"),
           (5 * MIB + 128 * KIB, 128 * KIB, "zero"), (SIZE - 512, 512, "write")]
GRAIN = 64 * KIB


def dirty_pieces():
    """What is dirty then, [(offset, length)]."""
    pieces = []
    for g in granules(((offset, length) for offset, length, _ in CHANGES), GRAIN):
        start, end = g * GRAIN, min((g + 1) * GRAIN, SIZE)
        if pieces and sum(pieces[-1]) == start:
            pieces[-1] = (pieces[-1][0], end - pieces[-1][0])
        else:
            pieces.append((start, end - start))
    return pieces


def change(s, model, rng):
    """The guest's changes; those after the second session's instant are not in the model."""
    h = s.nbd("vda")
    for offset, length, kind in CHANGES:
        data = rng.randbytes(length) if kind == "write" else bytes(length)
        if kind == "write":
            h.pwrite(data, offset)
        elif kind == "trim":
            h.trim(length, offset)
        else:
            h.zero(length, offset)
        model[offset:offset + length] = data
    h.shutdown()


def scribble(s):
    """The guest goes on after the instant: nobody who reads the session may see it."""
    h = s.nbd("vda")
    h.pwrite(b"\xee" * (2 * MIB), 9 * MIB)
    h.pwrite(b"\xee" * MIB, 0)
    h.shutdown()


# ---- clients: each reads the dirty map and the dirty bytes of a session's disk ----


def with_libnbd(prefix, told, base, model, path):
    """The script of the demo, which has been told a URI and the name of a bitmap."""
    with open(f"{path}/pulled", "wb") as f:
        f.write(base)
    bitmap = told["context"].removeprefix("qemu:dirty-bitmap:")
    out = run(*prefix, sys.executable, os.path.join(SOURCE, "tests/demo-pull.py"), told["uri"],
              bitmap, f"{path}/pulled").stdout
    assert f" {sum(n for _, n in dirty_pieces())} bytes of {SIZE} " in out, out
    assert_same(content(f"{path}/pulled"), model)


def with_nbdinfo(prefix, told, base, model, path):
    nbdinfo = require_program("nbdinfo")
    out = run(*prefix, nbdinfo, "--json", f"--map={told['context']}", told["uri"]).stdout
    dirty = [(e["offset"], e["length"]) for e in json.loads(out) if e["type"] & 1]
    assert dirty == dirty_pieces(), dirty
    out = json.loads(run(*prefix, nbdinfo, "--json", told["uri"]).stdout)["exports"][0]
    assert out["contexts"] == ["base:allocation", told["context"]], out
    assert out["export-name"] == told["export"] and out["export-size"] == SIZE, out
    assert out["is_read_only"] and out["can_multi_conn"], out


def with_nbdcopy(prefix, told, base, model, path):
    run(*prefix, require_program("nbdcopy"), told["uri"], f"{path}/copied")
    assert_same(content(f"{path}/copied"), model)


CLIENTS = with_libnbd, with_nbdinfo, with_nbdcopy


def with_qemu_img(prefix, told, base, model, path, server, tls=()):
    """`server`: QEMU's words for where it is."""
    qemu_img = require_program("qemu-img")
    where = f"driver=nbd,{server},export={told['export']}"
    out = run(*prefix, qemu_img, "map", "--output=json", *tls, "--image-opts",
              f"{where},x-dirty-bitmap={told['context']}").stdout
    # QEMU shows dirty ranges as `data` false, and rounds the size up to whole sectors.
    dirty = [(e["start"], e["length"]) for e in json.loads(out) if not e["data"]]
    assert dirty == dirty_pieces(), dirty
    run(*prefix, qemu_img, "convert", *tls, "--image-opts", where, "-O", "raw", f"{path}/converted")
    assert_same(content(f"{path}/converted"), model)


# ---- the sessions ----


@contextlib.contextmanager
def two_sessions(s, path, rng):
    """A full backup with a checkpoint is committed; the guest changes its disk; an incremental one
    is begun. Yields what it says of the disk, the base's bytes and the model."""
    q = s.qmp()
    model = bytearray(content(f"{path}/disk"))
    first, = q.cmd("backup-begin", id="full", checkpoint="mon")
    assert first["mode"] == "full" and first["dirty-bytes"] == SIZE, first
    run(require_program("nbdcopy"), s.uri(first["export"]), f"{path}/base")
    base = content(f"{path}/base")
    assert_same(base, model)
    q.cmd("backup-end", id="full", result="commit")
    change(s, model, rng)
    told, = q.cmd("backup-begin", id="inc", since="mon", checkpoint="tue")
    scribble(s)
    assert told["mode"] == "incremental", told
    assert told["dirty-bytes"] == sum(n for _, n in dirty_pieces()), told
    assert told["context"] == dirty_context("backup-vda"), told
    yield told, base, bytes(model)
    q.cmd("backup-end", id="inc", result="commit")
    assert [c["name"] for c in q.cmd("query-checkpoints")] == ["mon", "tue"]


def prepare(path, rng):
    image(f"{path}/disk", SIZE, OLD, rng)
    return "--disk", "vda", "file", f"{path}/disk"


@test
def over_a_unix_socket():
    rng = random.Random(seed())
    with tmpdir() as path, Server(*prepare(path, rng)) as s, \
            two_sessions(s, path, rng) as (told, base, model):
        for client in CLIENTS:
            client((), told, base, model, path)
        with_qemu_img((), told, base, model, path,
                      f"server.type=unix,server.path={s.socket}")


def from_another_host(*options, tls=lambda uri: uri, qemu_tls=()):
    rng = random.Random(seed())
    with two_hosts() as hosts, tmpdir() as path, \
            Server(*options, *prepare(path, rng), prefix=hosts.server) as s:
        s.qmp().cmd("nbd-server-start", addr={
            "type": "inet", "data": {"host": hosts.address, "port": "10809"}})
        with two_sessions(s, path, rng) as (told, base, model):
            assert told["uri"].startswith(f"nbd://{hosts.address}:10809/"), told
            told["uri"] = tls(told["uri"])
            for client in CLIENTS:
                client(hosts.client, told, base, model, path)
            with_qemu_img(hosts.client, told, base, model, path,
                          f"server.type=inet,server.host={hosts.address},server.port=10809"
                          + (",tls-creds=tls0" if qemu_tls else ""), qemu_tls)


@test
def over_tcp_from_another_host():
    from_another_host()


@test
def over_tls_with_certificates_from_another_host():
    certs = f"{folder()}/for-hosts"
    run(FLEECECTL, "tls", "init", certs, "--host", "10.91.7.1", "--client", "alice")
    from_another_host("--tls=on", "--tls-verify-peer", "--tls-certificates", certs,
                      tls=lambda uri: uri.replace("nbd:", "nbds:") + f"?tls-certificates={certs}",
                      qemu_tls=("--object",
                                f"tls-creds-x509,id=tls0,endpoint=client,dir={certs}"))


@test
def over_tls_with_keys_from_another_host():
    from_another_host("--tls=on", "--tls-psk", psk(),
                      tls=lambda uri: uri.replace("nbd://", "nbds://alice@")
                      + f"?tls-psk-file={psk()}",
                      qemu_tls=("--object", "tls-creds-psk,id=tls0,endpoint=client,"
                                f"username=alice,dir={os.path.dirname(psk())}"))


@test
def where_tls_is_required_the_uris_say_so():
    with tmpdir() as path:
        image(f"{path}/disk", MIB)
        with Server("--tls=require", "--tls-psk", psk(), "--disk", "vda", "file", f"{path}/disk") as s:
            told, = s.qmp().cmd("backup-begin", id="full")
            assert told["uri"] == f"nbds+unix:///full%2Fvda?socket={s.socket}", told


main()
