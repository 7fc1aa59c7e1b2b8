#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-3-Clause
"""The matrix: TLS version x credential x verification x client. Each cell moves data both ways and
checks what the server's log says was agreed on. Other tests are about clients with wrong
credentials."""

import json
import os
import re
import ssl
import time

import nbd

from fleece import FLEECECTL, SOON, require_program, run, tmpdir
from tap import main, note, test
from tlslib import TlsClient, bad_clients, certs, command, context, psk, tls_server, uri, wrong_psk

MIB = 1 << 20


def gnutls_env(folder, version):
    """An environment in which clients with GnuTLS speak this version or an earlier one. GnuTLS's
    file of the system's configuration is the only way to tell them. agreed() checks that it
    worked."""
    path = os.path.join(folder, "gnutls-config")
    with open(path, "w", encoding="ascii") as f:
        f.write("[overrides]\ndisabled-version = tls1.3\n" if version == "1.2" else "")
    return {"GNUTLS_SYSTEM_PRIORITY_FILE": path}


def image(folder):
    path = os.path.join(folder, "image")
    with open(path, "wb") as f:
        f.write(os.urandom(8 * MIB))
    return path


# ---- clients: (server, credential, environment, image, folder) -> None, or an exception ----


def with_nbdcopy(s, credential, env, data, folder):
    nbdcopy, back = require_program("nbdcopy"), f"{folder}/back"
    run(nbdcopy, data, credential(s), env=env)
    run(nbdcopy, credential(s), back, env=env)
    assert open(data, "rb").read() == open(back, "rb").read()


def with_nbdinfo(s, credential, env, data, folder):
    out = run(require_program("nbdinfo"), credential(s), env=env).stdout
    assert re.search(r"protocol: newstyle-fixed with TLS", out), out
    out = run(require_program("nbdinfo"), "--map", credential(s), env=env).stdout
    assert out.split()[0] == "0", out


def with_libnbd(s, credential, env, data, folder):
    """It runs in a process of its own, because GnuTLS reads its configuration once."""
    script = f"{folder}/libnbd.py"
    with open(script, "w", encoding="utf-8") as f:
        f.write("import nbd, os, sys\n"
                "h = nbd.NBD()\n"
                "h.set_uri_allow_local_file(True)\n"
                "h.add_meta_context('base:allocation')\n"
                "h.connect_uri(sys.argv[1])\n"
                "assert h.get_tls_negotiated() and h.can_meta_context('base:allocation')\n"
                "data = open(sys.argv[2], 'rb').read()\n"
                "h.pwrite(data, 0)\n"
                "assert h.pread(len(data), 0) == data\n"
                "h.flush()\n"
                "h.shutdown()\n")
    run("/usr/bin/python3", script, credential(s), data, env=env)


def qemu_options(credential, endpoint="client"):
    """The --object of QEMU's tools that has the credentials."""
    u = credential.__name__
    if u == "psk_alice":
        folder = os.path.join(os.path.dirname(psk()), "qemu-psk")
        os.makedirs(folder, exist_ok=True)
        if not os.path.exists(f"{folder}/keys.psk"):
            os.symlink(psk(), f"{folder}/keys.psk")
        return f"tls-creds-psk,id=tls0,endpoint={endpoint},username=alice,dir={folder}"
    return f"tls-creds-x509,id=tls0,endpoint={endpoint},dir={certs()}"


def with_qemu_img(s, credential, env, data, folder):
    qemu_img, back = require_program("qemu-img"), f"{folder}/back"
    where = (f"driver=nbd,server.type=unix,server.path={s.socket},export=disk0,tls-creds=tls0"
             + ("" if credential is psk_alice else ",tls-hostname=localhost"))
    creds = ("--object", qemu_options(credential))
    run(qemu_img, "convert", *creds, "-n", "-f", "raw", data, "--target-image-opts", where,
        env=env)
    run(qemu_img, "convert", *creds, "--image-opts", where, "-O", "raw", back, env=env)
    with open(data, "rb") as a, open(back, "rb") as b:
        assert a.read() == b.read(8 * MIB)


def x509_alice(s):
    return uri(s)


def psk_alice(s):
    return uri(s, user="alice", keys=psk())


def agreed(s, version):
    """All clients in the server's log have used this version of TLS."""
    found = re.findall(r"uses \((TLS1\.\d)\)", s.log())
    assert found and set(found) == {f"TLS{version}"}, (version, found)


def cell(client, credential, version, verify):
    credentials = certs() if credential is x509_alice else psk()
    args = ["-v", "--tls=require"] + (["--tls-verify-peer"] if verify else [])
    with tls_server(credentials, *args, disk=("memory", "8M")) as s, tmpdir() as folder:
        client(s, credential, gnutls_env(folder, version), image(folder), folder)
        agreed(s, version)
        if credential is psk_alice:
            assert 'its name is "alice"' in s.log()
        elif verify:
            assert 'its name is "CN=alice"' in s.log()
        else:
            assert 'its name is ""' in s.log()
        assert "error" not in s.log(), s.log()


def row(client):
    for version in "1.2", "1.3":
        for credential, verify in (x509_alice, False), (x509_alice, True), (psk_alice, False):
            note(f"{client.__name__}: TLS {version}, {credential.__name__}, "
                 f"verify {'on' if verify else 'off'}")
            cell(client, credential, version, verify)


@test
def the_matrix_with_libnbd():
    row(with_libnbd)


@test
def the_matrix_with_nbdinfo():
    row(with_nbdinfo)


@test
def the_matrix_with_nbdcopy():
    row(with_nbdcopy)


@test
def the_matrix_with_qemu_img():
    row(with_qemu_img)


@test
def the_matrix_with_a_raw_client_over_OpenSSL():
    versions = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
    for name, version in versions.items():
        for verify in False, True:
            args = ["-v", "--tls=require"] + (["--tls-verify-peer"] if verify else [])
            with tls_server(certs(), *args) as s:
                with TlsClient(s.socket, context(certs() if verify else None, version)) as c:
                    c.structured()
                    c.set_contexts("disk0", "base:allocation")
                    c.go("disk0")
                    data = os.urandom(3 * MIB)
                    c.write(12345, data)
                    assert c.read(12345, len(data)) == data
                    c.block_status(0, 8 * MIB)
                agreed(s, name)


@test
def over_TCP_the_servers_name_is_checked():
    nbdinfo = require_program("nbdinfo")
    with tls_server(certs(), "--tls=require", "--tls-verify-peer", "-i", "127.0.0.1", "-p", "0",
                    "--print-uri", unix=False, stdout=-1, text=True) as s:
        where = s.process.stdout.readline().strip()
        s.process.stdout.close()
        assert where.startswith("nbds://127.0.0.1:"), where
        assert where.endswith(f"/?tls-certificates={certs()}"), where
        run(nbdinfo, where)
        run(nbdinfo, where.replace("127.0.0.1", "localhost"))


@test
def fleecectl_maps_over_TLS():
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        told = json.loads(run(FLEECECTL, "--json", "map", uri(s, "disk0")).stdout)
        assert told["size"] == 64 * MIB and told["extents"]
    with tls_server(psk(), "--tls=require") as s:
        run(FLEECECTL, "map", "--summary", uri(s, "disk0", user="alice", keys=psk()))


# ---- clients that are not let in ----


def shut_out(*args):
    code, text = command(*args)
    assert code != 0, text
    return text


def wait_errors(s, count):
    """Wait until the log has `count` errors of clients, and no more. A client may see the end of
    its connection before the server has written to the log."""
    deadline = time.monotonic() + SOON
    while len(lines := [line for line in s.log().splitlines()
                        if "error: NBD client" in line]) < count:
        assert time.monotonic() < deadline, lines
    assert len(lines) == count, lines


@test
def clients_with_the_wrong_certificate_are_refused():
    nbdinfo, nbdcopy = require_program("nbdinfo"), require_program("nbdcopy")
    with tls_server(certs(), "--tls=require", "--tls-verify-peer") as s:
        for what, (folder, word) in bad_clients().items():
            shut_out(nbdinfo, uri(s, client=folder))
            shut_out(nbdcopy, uri(s, client=folder), "null:")
            note(what)
        wait_errors(s, 2 * len(bad_clients()))
        run(nbdinfo, uri(s))


@test
def clients_with_the_wrong_key_are_refused():
    nbdinfo = require_program("nbdinfo")
    with tls_server(psk(), "--tls=require") as s:
        for user in "alice", "alic", "mallory":
            shut_out(nbdinfo, uri(s, user=user, keys=wrong_psk()))
        shut_out(nbdinfo, uri(s))  # this server takes keys and no certificates
        wait_errors(s, 4)
        run(nbdinfo, uri(s, user="bob", keys=psk()))


@test
def keys_come_and_go_while_the_server_runs():
    nbdinfo = require_program("nbdinfo")
    with tmpdir() as folder:
        keys = f"{folder}/keys"
        lines = open(psk(), encoding="ascii").read().splitlines()
        with open(keys, "w", encoding="ascii") as f:
            f.write(lines[0] + "\n")
        with tls_server(keys, "--tls=require") as s:
            run(nbdinfo, uri(s, user="alice", keys=psk()))
            shut_out(nbdinfo, uri(s, user="bob", keys=psk()))
            with open(f"{keys}.new", "w", encoding="ascii") as f:
                f.write(lines[1] + "\n")
            os.rename(f"{keys}.new", keys)
            run(nbdinfo, uri(s, user="bob", keys=psk()))
            shut_out(nbdinfo, uri(s, user="alice", keys=psk()))


@test
def clients_that_insist_on_TLS_or_on_none_get_what_they_want():
    nbdinfo = require_program("nbdinfo")
    with tls_server(certs(), "--tls=on") as s:
        assert "with TLS" in run(nbdinfo, uri(s)).stdout
        assert "without TLS" in run(nbdinfo, s.uri()).stdout
        h = nbd.NBD()
        h.set_tls(nbd.TLS_ALLOW)
        h.set_tls_certificates(certs())
        h.connect_unix(s.socket)
        assert h.get_tls_negotiated()
    with tls_server(certs(), "--tls=require") as s:
        assert "TLS" in shut_out(nbdinfo, s.uri())
    with tls_server(certs(), "--tls=off") as s:
        shut_out(nbdinfo, uri(s))
        assert "without TLS" in run(nbdinfo, s.uri()).stdout


main()
